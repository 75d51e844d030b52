package fabricsim

import (
	"math"

	"firstlight/fabric/mad"
)

// classCounters is the order of the bits of PortCounters' CounterSelect
// (§16.1.3.5); CounterSelect2 goes on with xmitWait and qp1Dropped.
var classCounters = [...]counter{symbolErrors, linkRecovery, linkDowned, rcvErrors, remotePhysical, switchRelay, xmitDiscards,
	xmitConstraint, rcvConstraint, localIntegrity, overrun, vl15Dropped, xmitData, rcvData, xmitPkts, rcvPkts}

// What the agents can do (§16.1.3.1): all ports at once (bit 8), extended
// counters (bit 9), PortXmitWait (bit 12); extended counters of errors (bit 1 of
// the second mask).
const (
	perfCapabilities = 1<<8 | 1<<9 | 1<<12
	perfWideErrors   = 1 << 1
)

// allPorts is the PortSelect of the sum over all ports (§16.1.3.5).
const allPorts = 0xff

// perf carries out one question of performance management.
func (f *Fabric) perf(fl *flight, p *port, n *node, set bool) mad.Status {
	data := fl.mad[offData:]
	switch fl.attr() {
	case mad.AttrClassPortInfo:
		info := mad.ClassPortInfo{BaseVersion: 1, ClassVersion: 1, CapabilityMask: perfCapabilities, RespTimeValue: 18}
		if f.opt.WideErrors {
			info.CapabilityMask2 = perfWideErrors
		}
		copy(data, mad.AppendClassPortInfo(nil, info))
		return 0
	case mad.AttrPortCounters, mad.AttrPortCountersExtended:
	default:
		return statusBadAttribute
	}
	ports, ok := f.selected(data[1], p, n)
	if !ok {
		return statusBadValue
	}
	if fl.attr() == mad.AttrPortCounters {
		f.portCounters(data, ports, set)
	} else {
		f.portCountersExtended(data, ports, set)
	}
	return 0
}

// selected are the ports that a PortSelect means. Counters of another port of an
// adapter are asked for there.
func (f *Fabric) selected(sel byte, p *port, n *node) ([]port, bool) {
	num := int(sel)
	switch {
	case sel == allPorts:
		return f.ports[n.first:][:n.Ports+1], true
	case num > n.Ports || n.sw == nil && num != int(p.num):
		return nil, false
	}
	return f.ports[n.first+int32(num):][:1], true
}

// sum adds up the counters of ports.
func (f *Fabric) sum(ports []port) (total [counterCount]uint64) {
	now := f.opt.Now()
	for i := range ports {
		for c, v := range ports[i].snapshot(now) {
			if total[c] += v; total[c] < v {
				total[c] = math.MaxUint64
			}
		}
	}
	return total
}

func (f *Fabric) resetPorts(ports []port, chosen func(counter) bool) {
	now := f.opt.Now()
	for i := range ports {
		ports[i].reset(chosen, now)
	}
}

// capped is a counter in a field that holds no more than most: there it stays.
func capped[T uint8 | uint16 | uint32](v uint64, most T) T {
	return T(min(v, uint64(most)))
}

func (f *Fabric) portCounters(data []byte, ports []port, set bool) {
	asked, _ := mad.ParsePortCounters(data) // it is long enough
	if set {
		f.resetPorts(ports, func(c counter) bool {
			for bit, of := range classCounters {
				if of == c {
					return asked.CounterSelect>>bit&1 != 0
				}
			}
			return c == xmitWait && asked.CounterSelect2&1 != 0 || c == qp1Dropped && asked.CounterSelect2&2 != 0
		})
	}
	v := f.sum(ports)
	copy(data, mad.AppendPortCounters(nil, mad.PortCounters{
		Port: asked.Port, CounterSelect: asked.CounterSelect, CounterSelect2: asked.CounterSelect2,
		SymbolErrorCounter: capped[uint16](v[symbolErrors], math.MaxUint16), LinkErrorRecoveryCounter: capped[uint8](v[linkRecovery], math.MaxUint8),
		LinkDownedCounter: capped[uint8](v[linkDowned], math.MaxUint8), PortRcvErrors: capped[uint16](v[rcvErrors], math.MaxUint16),
		PortRcvRemotePhysicalErrors: capped[uint16](v[remotePhysical], math.MaxUint16),
		PortRcvSwitchRelayErrors:    capped[uint16](v[switchRelay], math.MaxUint16),
		PortXmitDiscards:            capped[uint16](v[xmitDiscards], math.MaxUint16),
		PortXmitConstraintErrors:    capped[uint8](v[xmitConstraint], math.MaxUint8), PortRcvConstraintErrors: capped[uint8](v[rcvConstraint], math.MaxUint8),
		LocalLinkIntegrityErrors: capped[uint8](v[localIntegrity], 15), ExcessiveBufferOverrunErrors: capped[uint8](v[overrun], 15),
		QP1Dropped: capped[uint16](v[qp1Dropped], math.MaxUint16), VL15Dropped: capped[uint16](v[vl15Dropped], math.MaxUint16),
		PortXmitData: capped[uint32](v[xmitData], math.MaxUint32), PortRcvData: capped[uint32](v[rcvData], math.MaxUint32),
		PortXmitPkts: capped[uint32](v[xmitPkts], math.MaxUint32), PortRcvPkts: capped[uint32](v[rcvPkts], math.MaxUint32),
		PortXmitWait: capped[uint32](v[xmitWait], math.MaxUint32),
	}))
}

func (f *Fabric) portCountersExtended(data []byte, ports []port, set bool) {
	asked, _ := mad.ParsePortCountersExtended(data) // it is long enough
	if set {
		// CounterSelect has the counters of data and packets, CounterSelect2 those
		// of errors (§16.1.4.11).
		f.resetPorts(ports, func(c counter) bool {
			if c < symbolErrors {
				return asked.CounterSelect>>c&1 != 0
			}
			return f.opt.WideErrors && asked.CounterSelect2>>(c-symbolErrors)&1 != 0
		})
	}
	v := f.sum(ports)
	if !f.opt.WideErrors {
		clear(v[symbolErrors:])
	}
	copy(data, mad.AppendPortCountersExtended(nil, mad.PortCountersExtended{
		Port: asked.Port, CounterSelect: asked.CounterSelect, CounterSelect2: asked.CounterSelect2,
		PortXmitData: v[xmitData], PortRcvData: v[rcvData], PortXmitPkts: v[xmitPkts], PortRcvPkts: v[rcvPkts],
		PortUnicastXmitPkts: v[unicastXmit], PortUnicastRcvPkts: v[unicastRcv],
		PortMulticastXmitPkts: v[multicastXmit], PortMulticastRcvPkts: v[multicastRcv],
		SymbolErrorCounter: v[symbolErrors], LinkErrorRecoveryCounter: v[linkRecovery], LinkDownedCounter: v[linkDowned],
		PortRcvErrors: v[rcvErrors], PortRcvRemotePhysicalErrors: v[remotePhysical], PortRcvSwitchRelayErrors: v[switchRelay],
		PortXmitDiscards: v[xmitDiscards], PortXmitConstraintErrors: v[xmitConstraint], PortRcvConstraintErrors: v[rcvConstraint],
		LocalLinkIntegrityErrors: v[localIntegrity], ExcessiveBufferOverrunErrors: v[overrun], VL15Dropped: v[vl15Dropped],
		PortXmitWait: v[xmitWait], QP1Dropped: v[qp1Dropped],
	}))
}
