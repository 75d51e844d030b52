package fabricsim

import (
	"math"
	"time"

	"firstlight/fabric/mad"
)

// counter numbers the counters of a port, in the order of PortCountersExtended
// (§16.1.4.11).
type counter int

const (
	xmitData counter = iota
	rcvData
	xmitPkts
	rcvPkts
	unicastXmit
	unicastRcv
	multicastXmit
	multicastRcv
	symbolErrors
	linkRecovery
	linkDowned
	rcvErrors
	remotePhysical
	switchRelay
	xmitDiscards
	xmitConstraint
	rcvConstraint
	localIntegrity
	overrun
	vl15Dropped
	xmitWait
	qp1Dropped
	counterCount
)

// counterNames are the names that a Fault calls counters by: those of the
// attribute's fields.
var counterNames = [counterCount]string{
	"PortXmitData", "PortRcvData", "PortXmitPkts", "PortRcvPkts",
	"PortUnicastXmitPkts", "PortUnicastRcvPkts", "PortMulticastXmitPkts", "PortMulticastRcvPkts",
	"SymbolErrorCounter", "LinkErrorRecoveryCounter", "LinkDownedCounter", "PortRcvErrors",
	"PortRcvRemotePhysicalErrors", "PortRcvSwitchRelayErrors", "PortXmitDiscards",
	"PortXmitConstraintErrors", "PortRcvConstraintErrors", "LocalLinkIntegrityErrors",
	"ExcessiveBufferOverrunErrors", "VL15Dropped", "PortXmitWait", "QP1Dropped",
}

// counters are a port's. Most ports have none: they are made when something counts.
type counters [counterCount]struct {
	value uint64
	rate  float64 // per second, since then
	since time.Time
}

// read is a counter's value now. What would overflow stays at the most.
func (c *counters) read(which counter, now time.Time) uint64 {
	e := &c[which]
	grown := 0.0
	if e.rate > 0 {
		grown = math.Floor(e.rate * now.Sub(e.since).Seconds())
	}
	if grown >= float64(math.MaxUint64-e.value) {
		return math.MaxUint64
	}
	return e.value + uint64(max(grown, 0))
}

// put sets a counter and how it goes on growing.
func (c *counters) put(which counter, value uint64, rate float64, now time.Time) {
	c[which].value, c[which].rate, c[which].since = value, rate, now
}

// count adds to a counter.
func (f *Fabric) count(p *port, which counter, n uint64) {
	if p.counters == nil {
		p.counters = &counters{}
	}
	p.counters[which].value += n
}

// carried counts a packet of general services over a link. Subnet management
// has a lane of its own, which data counters leave out (§16.1.3.5).
func (f *Fabric) carried(p, q *port) {
	const words = (mad.Size + 28) / 4 // with the headers and checksum before and behind a MAD
	f.count(p, xmitData, words)
	f.count(p, xmitPkts, 1)
	f.count(p, unicastXmit, 1)
	f.count(q, rcvData, words)
	f.count(q, rcvPkts, 1)
	f.count(q, unicastRcv, 1)
}

// laneRates are the data rates of a lane in Gb/s, by index of speeds: what its coding
// leaves of what the name counts.
var laneRates = [len(speeds)]float64{2, 4, 8, 13.64, 25, 50, 100, 200}

// loadPacket is the bytes of a packet of the load.
const loadPacket = 4096

// loaded has the counters of a port grow with the load of its link.
func (f *Fabric) loaded(p *port) {
	if f.opt.Load <= 0 {
		return
	}
	bytes := f.opt.Load * laneRates[p.speed] * float64(p.width) * 1e9 / 8
	if p.counters == nil {
		p.counters = &counters{}
	}
	now := f.opt.Now()
	for _, c := range [...]counter{xmitData, rcvData, xmitPkts, rcvPkts, unicastXmit, unicastRcv} {
		rate := bytes / loadPacket
		if c == xmitData || c == rcvData {
			rate = bytes / 4
		}
		p.counters.put(c, p.counters.read(c, now), rate, now)
	}
}

// unloaded ends that.
func (f *Fabric) unloaded(p *port) {
	if f.opt.Load <= 0 || p.counters == nil {
		return
	}
	now := f.opt.Now()
	for c := xmitData; c <= unicastRcv; c++ {
		p.counters.put(c, p.counters.read(c, now), 0, now)
	}
}

// snapshot reads all counters of a port.
func (p *port) snapshot(now time.Time) (all [counterCount]uint64) {
	if p.counters == nil {
		return all
	}
	for c := range counterCount {
		all[c] = p.counters.read(c, now)
	}
	return all
}

// reset sets counters to zero; those that grow go on.
func (p *port) reset(chosen func(counter) bool, now time.Time) {
	if p.counters == nil {
		return
	}
	for c := range counterCount {
		if chosen(c) {
			p.counters.put(c, 0, p.counters[c].rate, now)
		}
	}
}
