package fabric

import (
	"time"

	"firstlight/fabric/mad"
	"firstlight/inventory"
)

// CounterName is a counter of a port, by its name in IBTA §16.1.3.5.
type CounterName string

// The counters that a link's health is read from.
const (
	SymbolErrors    CounterName = "SymbolErrorCounter"
	LinkRecoveries  CounterName = "LinkErrorRecoveryCounter"
	LinkDowned      CounterName = "LinkDownedCounter"
	ReceiveErrors   CounterName = "PortRcvErrors"
	LocalIntegrity  CounterName = "LocalLinkIntegrityErrors"
	BufferOverruns  CounterName = "ExcessiveBufferOverrunErrors"
	TransmitDiscard CounterName = "PortXmitDiscards"
	TransmitWait    CounterName = "PortXmitWait"
	TransmitData    CounterName = "PortXmitData" // in units of 4 bytes
	ReceiveData     CounterName = "PortRcvData"  // in units of 4 bytes
)

// portCounter says where a counter is read.
type portCounter struct {
	name     CounterName
	bits     uint8 // of its field in PortCounters, where it stays at its most
	rolls    bool  // some devices begin it again at zero instead
	data     bool  // PortCountersExtended has it without HasExtendedErrors too
	classic  func(*mad.PortCounters) uint64
	extended func(*mad.PortCountersExtended) uint64
}

var portCounters = [...]portCounter{
	{name: SymbolErrors, bits: 16,
		classic:  func(c *mad.PortCounters) uint64 { return uint64(c.SymbolErrorCounter) },
		extended: func(c *mad.PortCountersExtended) uint64 { return c.SymbolErrorCounter }},
	{name: LinkRecoveries, bits: 8,
		classic:  func(c *mad.PortCounters) uint64 { return uint64(c.LinkErrorRecoveryCounter) },
		extended: func(c *mad.PortCountersExtended) uint64 { return c.LinkErrorRecoveryCounter }},
	{name: LinkDowned, bits: 8,
		classic:  func(c *mad.PortCounters) uint64 { return uint64(c.LinkDownedCounter) },
		extended: func(c *mad.PortCountersExtended) uint64 { return c.LinkDownedCounter }},
	{name: ReceiveErrors, bits: 16,
		classic:  func(c *mad.PortCounters) uint64 { return uint64(c.PortRcvErrors) },
		extended: func(c *mad.PortCountersExtended) uint64 { return c.PortRcvErrors }},
	{name: LocalIntegrity, bits: 4,
		classic:  func(c *mad.PortCounters) uint64 { return uint64(c.LocalLinkIntegrityErrors) },
		extended: func(c *mad.PortCountersExtended) uint64 { return c.LocalLinkIntegrityErrors }},
	{name: BufferOverruns, bits: 4,
		classic:  func(c *mad.PortCounters) uint64 { return uint64(c.ExcessiveBufferOverrunErrors) },
		extended: func(c *mad.PortCountersExtended) uint64 { return c.ExcessiveBufferOverrunErrors }},
	{name: TransmitDiscard, bits: 16,
		classic:  func(c *mad.PortCounters) uint64 { return uint64(c.PortXmitDiscards) },
		extended: func(c *mad.PortCountersExtended) uint64 { return c.PortXmitDiscards }},
	{name: TransmitWait, bits: 32, rolls: true,
		classic:  func(c *mad.PortCounters) uint64 { return uint64(c.PortXmitWait) },
		extended: func(c *mad.PortCountersExtended) uint64 { return c.PortXmitWait }},
	{name: TransmitData, bits: 32, rolls: true, data: true,
		classic:  func(c *mad.PortCounters) uint64 { return uint64(c.PortXmitData) },
		extended: func(c *mad.PortCountersExtended) uint64 { return c.PortXmitData }},
	{name: ReceiveData, bits: 32, rolls: true, data: true,
		classic:  func(c *mad.PortCounters) uint64 { return uint64(c.PortRcvData) },
		extended: func(c *mad.PortCountersExtended) uint64 { return c.PortRcvData }},
}

const numCounters = len(portCounters)

// indexOf is the place of a counter in portCounters, or -1.
func indexOf(name CounterName) int {
	for i := range portCounters {
		if portCounters[i].name == name {
			return i
		}
	}
	return -1
}

// Reading is what the counters of a port said at a time.
type Reading struct {
	At     time.Time
	Values [numCounters]uint64
	Bits   [numCounters]uint8 // of the field that was read; 0: the port has no such counter
}

// ReadingOf takes each counter from the widest field that counts it.
func ReadingOf(c *Counters) Reading {
	r := Reading{At: c.At}
	for i := range portCounters {
		k := &portCounters[i]
		switch {
		case c.Extended != nil && (k.data || c.HasExtendedErrors):
			r.Values[i], r.Bits[i] = k.extended(c.Extended), 64
		case k.name == TransmitWait && !c.HasWait:
		default:
			r.Values[i], r.Bits[i] = k.classic(&c.Counters), k.bits
		}
	}
	return r
}

// bitsPerSecond is what the port runs at, as its rate's name counts it; 0 is
// not known.
func (p *Port) bitsPerSecond() float64 { return inventory.LaneSpeed(p.Speed) * float64(p.Width) }

// PortReading is what a connected port counted, and what it runs at.
type PortReading struct {
	Reading
	Rate float64 // bits a second; 0 is not known
}

// ReadingsOf are the readings of a sweep by port. Nodes of one GUID cannot be
// told apart at the next reading, and are left out.
func ReadingsOf(o *Observed) map[PortID]PortReading {
	nodes := map[uint64]int{}
	for _, n := range o.Nodes {
		nodes[n.GUID]++
	}
	out := map[PortID]PortReading{}
	for _, n := range o.Nodes {
		if nodes[n.GUID] > 1 {
			continue
		}
		for _, p := range n.Ports {
			if p.Counters != nil && p.Peer != nil {
				out[p.ID()] = PortReading{ReadingOf(p.Counters), p.bitsPerSecond()}
			}
		}
	}
	return out
}
