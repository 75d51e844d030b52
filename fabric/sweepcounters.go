package fabric

import (
	"time"

	"firstlight/fabric/mad"
)

// askCounters begins to read the counters of every connected port, once the
// topology is read. Performance management goes by LID, which a subnet manager
// gives, and each node is asked by the lane that found it: the rails may be
// subnets of their own.
func (e *engine) askCounters() {
	usable := map[*lane]bool{}
	for _, l := range e.lanes {
		if l.root == nil {
			continue
		}
		if usable[l] = l.active(); !usable[l] {
			e.silent = append(e.silent, Unanswered{Node: l.root.Node, Port: int(l.rootPort), What: "the counters of the fabric",
				Why: "this local port has no LID, or is not Active: is a subnet manager running?"})
		}
	}
	for _, n := range e.all {
		p := n.connected()
		if p == nil || !usable[n.lane] || n.gone {
			continue
		}
		r := request{class: mad.ClassPerf, attr: mad.AttrClassPortInfo, node: n, port: uint8(p.Num), lid: n.lidOf(p)}
		if r.lid == 0 {
			e.note(&r, "it has no LID: the subnet manager has not configured it")
			continue
		}
		e.ask(n.lane, r)
	}
}

// active reports that a lane can send by LID.
func (l *lane) active() bool {
	if l.root.Kind == Switch {
		return l.root.LID != 0
	}
	p := l.root.Port(int(l.rootPort))
	return p != nil && p.LID != 0 && p.Info != nil && p.Info.State == mad.PortActive
}

// connected is a node's first port with something behind it, or nil.
func (n *swept) connected() *Port {
	for _, p := range n.Ports {
		if p.Peer != nil {
			return p
		}
	}
	return nil
}

// lidOf is where a port of the node is asked for its counters.
func (n *swept) lidOf(p *Port) uint16 {
	if n.Kind == Switch {
		return uint16(n.LID)
	}
	return uint16(p.LID)
}

// askPorts asks for the counters of a node's connected ports.
func (e *engine) askPorts(n *swept) {
	for _, p := range n.Ports {
		if p.Peer == nil {
			continue
		}
		r := request{class: mad.ClassPerf, attr: mad.AttrPortCounters, node: n, port: uint8(p.Num), lid: n.lidOf(p)}
		if r.lid == 0 {
			e.note(&r, "the port has no LID: the subnet manager has not configured it")
			continue
		}
		e.ask(n.lane, r)
		if n.pma.HasExtended() {
			r.attr = mad.AttrPortCountersExtended
			e.ask(n.lane, r)
		}
	}
}

// perfAttribute takes an attribute of performance management.
func (e *engine) perfAttribute(r *request, data []byte) error {
	if r.attr == mad.AttrClassPortInfo {
		info, err := mad.ParseClassPortInfo(data)
		if err != nil {
			return err
		}
		r.node.pma = info
		e.askPorts(r.node)
		return nil
	}
	c := e.countersOf(r)
	switch r.attr {
	case mad.AttrPortCounters:
		counters, err := mad.ParsePortCounters(data)
		if err != nil {
			return err
		}
		c.Counters, c.HasWait = counters, r.node.pma.HasXmitWait()
	case mad.AttrPortCountersExtended:
		extended, err := mad.ParsePortCountersExtended(data)
		if err != nil {
			return err
		}
		c.Extended, c.HasExtendedErrors = &extended, r.node.pma.HasExtendedErrors()
	}
	return nil
}

// countersOf is where a port's counters go; both attributes come by themselves.
func (e *engine) countersOf(r *request) *Counters {
	p := r.node.port(int(r.port))
	if p.Counters == nil {
		p.Counters = &Counters{}
		e.counted++
	}
	p.Counters.At = time.Now()
	return p.Counters
}
