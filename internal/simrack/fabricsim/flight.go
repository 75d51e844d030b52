package fabricsim

import (
	"encoding/binary"
	"time"

	"firstlight/fabric/mad"
)

// flight is a MAD on its way, one hop after another.
type flight struct {
	mad        [mad.Size]byte
	client     uint16 // who sent it
	dlid, slid uint16
	dqp, sqp   uint32
	back       bool      // it is an answer
	made       bool      // and made by a node here, not by a client
	at         int32     // the port that it came in by; at its start, of its sender
	hop        int       // of a directed route: nodes passed
	deep       int       // nodes into a chain without an end, at's
	due        time.Time // when it is where it is
	fate       fate
	sent       [mad.Size]byte // as its client sent it: what comes back when it is lost
}

// Offsets in a MAD (§13.4.2, §14.2.1).
const (
	offClass    = 1
	offMethod   = 3
	offStatus   = 4
	offHopCount = 7
	offTID      = 8
	offAttr     = 16
	offMod      = 20
	offDrLIDs   = 32
	offData     = 64
	offPath     = 128
	offReturn   = 192
)

// Methods that are not asked of a node's agent but go to a subnet manager.
const (
	methodTrap     = 0x05
	methodRepress  = 0x07
	methodResponse = 0x80 // the bit of answers
)

// Statuses of answers (§13.4.7).
const (
	statusBadMethod    mad.Status = 2 << 2
	statusBadAttribute mad.Status = 3 << 2
	statusBadValue     mad.Status = 7 << 2
)

// fate is what became of a flight in one step.
type fate int

const (
	flying   fate = iota
	answered      // it is back at its client
	lost          // dropped on the way
	arrived       // it is for the client that flight.client now names
	gone          // it was for nobody who would answer
)

func (fl *flight) directed() bool { return mad.Class(fl.mad[offClass]) == mad.ClassSubnDirected }

func (fl *flight) subnet() bool {
	return fl.directed() || mad.Class(fl.mad[offClass]) == mad.ClassSubnLID
}

func (fl *flight) attr() mad.Attribute {
	return mad.Attribute(binary.BigEndian.Uint16(fl.mad[offAttr:]))
}

func (fl *flight) modifier() uint32 { return binary.BigEndian.Uint32(fl.mad[offMod:]) }

// launch puts a client's MAD on its way.
func (f *Fabric) launch(fl *flight, c *client) fate {
	fl.client, fl.at = c.id, c.port
	fl.back = fl.mad[offMethod]&methodResponse != 0
	if fl.mad[offMethod] == methodRepress {
		return gone // nobody repeats traps here
	}
	if !fl.directed() {
		if fl.slid == 0 {
			fl.slid = f.ports[c.port].lid()
		}
		return flying
	}
	hops := int(fl.mad[offHopCount])
	// A route that is partly by LID is something no tool here uses.
	if hops > mad.MaxHops || binary.BigEndian.Uint32(fl.mad[offDrLIDs:]) != 0xffffffff {
		return lost
	}
	if fl.back {
		fl.hop = hops
	}
	return flying
}

// step takes a flight one hop on.
func (f *Fabric) step(fl *flight) fate {
	if fl.deep > 0 {
		return f.stepDeep(fl)
	}
	out, here := f.way(fl)
	switch {
	case here:
		return f.reached(fl)
	case out == none:
		return lost
	}
	p := &f.ports[out]
	if p.phys != mad.PhysLinkUp || !fl.subnet() && p.state != mad.PortActive {
		f.count(p, xmitDiscards, 1)
		return lost
	}
	if p.endless {
		fl.at, fl.deep = out, 1
		f.note(fl, 1)
		return flying
	}
	q := &f.ports[p.peer]
	if p.loss > 0 && f.random.Float64() < p.loss || q.loss > 0 && f.random.Float64() < q.loss {
		return lost
	}
	if !fl.subnet() {
		f.carried(p, q)
	}
	fl.at = p.peer
	f.note(fl, q.num)
	return f.enter(fl, q)
}

// queue is the receive queue of a port for subnet management, which has no flow
// control: lane 15 drops what it has no room for (§7.6.4).
type queue struct {
	free time.Time // when what waits will have been taken from it
}

// enter is a flight's arrival at a port, in its own time.
func (f *Fabric) enter(fl *flight, p *port) fate {
	fl.due = fl.due.Add(f.opt.Hop)
	if !fl.subnet() || f.opt.VL15.Depth == 0 {
		return flying
	}
	if p.vl15.free.Before(fl.due) {
		p.vl15.free = fl.due
	}
	if p.vl15.free.Sub(fl.due) >= time.Duration(f.opt.VL15.Depth)*f.opt.VL15.Service {
		f.count(p, vl15Dropped, 1)
		return lost
	}
	p.vl15.free = p.vl15.free.Add(f.opt.VL15.Service)
	fl.due = p.vl15.free
	return flying
}

// note moves a directed route on: on the way out each node enters the port it
// came in by (§14.2.1.2).
func (f *Fabric) note(fl *flight, in uint8) {
	switch {
	case !fl.directed():
	case fl.back:
		fl.hop--
	default:
		fl.hop++
		fl.mad[offReturn+fl.hop] = in
	}
}

// way is the port to leave a node by, or here.
func (f *Fabric) way(fl *flight) (out int32, here bool) {
	p := &f.ports[fl.at]
	n := &f.nodes[p.node]
	if !fl.directed() {
		return f.wayByLID(fl, p, n)
	}
	var num int
	switch hops := int(fl.mad[offHopCount]); {
	case fl.back && fl.hop == 0, !fl.back && fl.hop == hops:
		return none, true
	case fl.back:
		if fl.hop < hops && n.sw == nil {
			return none, false
		}
		num = int(fl.mad[offReturn+fl.hop])
	default:
		if fl.hop > 0 && n.sw == nil {
			return none, false // an adapter passes nothing on
		}
		num = int(fl.mad[offPath+fl.hop+1])
	}
	if num == 0 || num > n.Ports {
		return none, false
	}
	return n.first + int32(num), false
}

// wayByLID asks the forwarding table.
func (f *Fabric) wayByLID(fl *flight, p *port, n *node) (out int32, here bool) {
	if n.sw == nil {
		switch {
		case p.hasLID(fl.dlid):
			return none, true
		case fl.hop == 0: // its sender's
			fl.hop++
			return fl.at, false
		}
		return none, false // it came to the wrong adapter
	}
	if f.opt.Managed && !f.routed {
		f.route()
	}
	if f.ports[n.first].hasLID(fl.dlid) {
		return none, true
	}
	num := n.sw.port(fl.dlid)
	if num == 0 || num > n.Ports {
		f.count(p, switchRelay, 1)
		return none, false
	}
	// By LID a packet can run in circles: no way is longer than the fabric.
	if fl.hop++; fl.hop > len(f.nodes) {
		return none, false
	}
	return n.first + int32(num), false
}

// port is the port that leads to a LID, or 255.
func (s *switching) port(lid uint16) int {
	if int(lid) >= len(s.unicast) || lid > s.info.LinearFDBTop {
		return 255
	}
	return int(s.unicast[lid])
}

// reached is a flight at its end.
func (f *Fabric) reached(fl *flight) fate {
	p := &f.ports[fl.at]
	n := &f.nodes[p.node]
	if fl.back && fl.made {
		return answered
	}
	if fl.back {
		return f.forClient(fl)
	}
	if n.dead || n.mute {
		return lost
	}
	if c := f.manager(fl, p); c != nil {
		// The answer finds its way back by what is written into the transaction,
		// as the kernel does it.
		tid := binary.BigEndian.Uint64(fl.mad[offTID:])
		binary.BigEndian.PutUint64(fl.mad[offTID:], tid&(1<<48-1)|uint64(fl.client)<<48)
		fl.client = c.id
		return arrived
	}
	if fl.mad[offMethod] == methodTrap {
		return gone
	}
	if !f.answer(fl, p, n) {
		return lost
	}
	if n.noise {
		for i := offData; i < mad.Size && (i < offPath || !fl.subnet()); i++ {
			fl.mad[i] = byte(f.random.Uint32())
		}
	}
	fl.turn()
	return flying
}

// turn sends an answer back to where the question came from.
func (fl *flight) turn() {
	fl.back, fl.made = true, true
	fl.mad[offMethod] = byte(mad.MethodGetResp)
	if fl.directed() {
		fl.mad[offStatus] |= 0x80 // the D bit
	} else {
		fl.hop = 0
	}
	fl.dlid, fl.slid = fl.slid, fl.dlid
	fl.dqp, fl.sqp = fl.sqp, fl.dqp
}

// setStatus writes the status of an answer.
func (fl *flight) setStatus(s mad.Status) {
	binary.BigEndian.PutUint16(fl.mad[offStatus:], uint16(s))
}

// manager is the client that a question is for: a subnet manager, for what only
// one can answer.
func (f *Fabric) manager(fl *flight, p *port) *client {
	switch {
	case fl.subnet() && fl.attr() != mad.AttrSMInfo && fl.mad[offMethod] != methodTrap:
		return nil
	case !fl.subnet() && mad.Class(fl.mad[offClass]) != classSA:
		return nil
	}
	for _, c := range f.clients {
		if c.manager && f.ports[c.port].node == p.node && (c.port == fl.at || f.nodes[p.node].sw != nil) {
			return c
		}
	}
	return nil
}

// classSA is subnet administration (§15.2): the part of a subnet manager that
// answers questions.
const classSA mad.Class = 0x03

// forClient is an answer that one client gives another.
func (f *Fabric) forClient(fl *flight) fate {
	to := f.clients[uint16(binary.BigEndian.Uint64(fl.mad[offTID:])>>48)]
	if to == nil || f.ports[to.port].node != f.ports[fl.at].node {
		return gone
	}
	fl.client = to.id
	return arrived
}
