package fabric

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"firstlight/fabric/mad"
)

// swept is a node while it is read.
type swept struct {
	*Node
	lane   *lane  // that reached it first, and asks it everything
	path   []byte // to it
	next   *swept // another node of the same GUID
	inARow int    // questions given up since it last answered
	gone   bool   // it is asked nothing more
	mooted int    // questions dropped since
	pma    mad.ClassPortInfo

	partitionCap uint16
}

// tooSilent is how many questions in a row a node leaves unanswered before it
// is asked nothing more: a switch that hangs would cost its 64 ports' time-outs.
const tooSilent = 3

func kindOf(t mad.NodeType) Kind {
	switch t {
	case mad.NodeSwitch:
		return Switch
	case mad.NodeRouter:
		return Router
	}
	return CA
}

// begin asks each local port who it is.
func (e *engine) begin() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, l := range e.lanes {
		e.ask(l, request{class: mad.ClassSubnDirected, attr: mad.AttrNodeInfo})
		e.pump(l)
	}
}

// moot reports that a question need not be put any more: the other end of the
// link told both ends, or the node is dead.
func (e *engine) moot(r *request) bool {
	n := r.node
	if n == nil {
		return false
	}
	if r.class == mad.ClassVendor {
		return n.gone || e.spoke == 0 && e.strange >= strangers
	}
	if n.gone {
		n.mooted++
		return true
	}
	if r.attr == mad.AttrNodeInfo && r.class == mad.ClassSubnDirected {
		p := n.Port(int(r.port))
		return p != nil && p.Peer != nil
	}
	return false
}

// giveUp notes that all attempts at a question were in vain.
func (e *engine) giveUp(r *request) {
	if r.class == mad.ClassVendor {
		e.strange++
		return
	}
	why := fmt.Sprintf("no answer to %d attempts", r.tries)
	if r.node == nil {
		e.silent = append(e.silent, Unanswered{What: r.attr.String(), Why: why})
		return
	}
	e.note(r, why)
	if r.asksBeyond() {
		return // that says nothing of the node before
	}
	if r.node.inARow++; r.node.inARow >= tooSilent {
		r.node.gone = true
	}
}

// note records a question of a node as unanswered.
func (e *engine) note(r *request, why string) {
	what := r.attr.String()
	if r.class == mad.ClassPerf {
		what = mad.PerfName(r.attr)
	}
	e.silent = append(e.silent, Unanswered{Node: r.node.Node, Port: int(r.port), What: what, Why: why})
}

// asksBeyond reports that the question is to whoever is behind a port.
func (r *request) asksBeyond() bool {
	return r.class == mad.ClassSubnDirected && r.attr == mad.AttrNodeInfo && r.port != 0
}

// answer takes an answer.
func (e *engine) answer(l *lane, r *request, status mad.Status, p *mad.Packet) {
	if r.node != nil && !r.asksBeyond() {
		r.node.inARow = 0
	}
	if r.class == mad.ClassVendor {
		if status == 0 {
			e.vendorAttribute(r, &p.MAD)
		}
		return
	}
	if status != 0 {
		if r.class == mad.ClassPerf && r.attr == mad.AttrClassPortInfo && status.Unsupported() {
			e.askPorts(r.node) // it says nothing of what it has; every node has PortCounters
			return
		}
		if r.node == nil {
			e.silent = append(e.silent, Unanswered{What: r.attr.String(), Why: status.String()})
		} else {
			e.note(r, status.String())
		}
		return
	}
	var err error
	if r.class == mad.ClassPerf {
		err = e.perfAttribute(r, mad.PerfData(&p.MAD))
	} else {
		err = e.attribute(l, r, mad.SubnData(&p.MAD))
	}
	if err != nil && r.node != nil {
		e.note(r, err.Error())
	} else if err != nil {
		e.silent = append(e.silent, Unanswered{What: r.attr.String(), Why: err.Error()})
	}
}

// attribute takes an attribute of subnet management.
func (e *engine) attribute(l *lane, r *request, data []byte) error {
	n := r.node
	switch r.attr {
	case mad.AttrNodeInfo:
		info, err := mad.ParseNodeInfo(data)
		if err != nil {
			return err
		}
		return e.nodeInfo(l, r, info)
	case mad.AttrNodeDescription:
		text, err := mad.ParseNodeDescription(data)
		if err != nil {
			return err
		}
		n.Description = text
	case mad.AttrSwitchInfo:
		info, err := mad.ParseSwitchInfo(data)
		if err != nil {
			return err
		}
		n.Enhanced = info.EnhancedPort0
	case mad.AttrPortInfo:
		info, err := mad.ParsePortInfo(data)
		if err != nil {
			return err
		}
		e.portInfo(n, int(r.port), &info)
	case mad.AttrPKeyTable:
		table, err := mad.ParsePKeyTable(data)
		if err != nil {
			return err
		}
		e.pKeys(l, r, table)
	}
	return nil
}

// askPKeys asks an adapter's port, by a path that comes in by it, for its
// partition keys.
func (e *engine) askPKeys(l *lane, n *swept, port uint8, path []byte) {
	if e.PKeys && n.Kind == CA {
		e.ask(l, request{class: mad.ClassSubnDirected, attr: mad.AttrPKeyTable, node: n, port: port, path: path})
	}
}

// pKeys takes a block of a port's table. Subnet managers fill tables from the
// front, so a block without a key is the last that is asked for.
func (e *engine) pKeys(l *lane, r *request, table mad.PKeyTable) {
	p := r.node.port(int(r.port))
	if p.PKeys == nil {
		p.PKeys = []uint16{} // it was read, whatever is in it
	}
	before := len(p.PKeys)
	for _, key := range table {
		if key != 0 && !slices.Contains(p.PKeys, key) {
			p.PKeys = append(p.PKeys, key)
		}
	}
	next := *r
	next.block, next.tries = r.block+1, 0
	if len(p.PKeys) > before && int(next.block)*len(table) < int(r.node.partitionCap) {
		e.ask(l, next)
	}
}

// nodeInfo takes the answer of who is behind a port, or of the local node.
func (e *engine) nodeInfo(l *lane, r *request, info mad.NodeInfo) error {
	if r.node == nil {
		n := e.instance(info, nil)
		if n == nil {
			n = e.discovered(l, nil, info)
		}
		if n == nil {
			return nil
		}
		l.root, l.rootPort = n, info.LocalPort
		if n.Kind != Switch && info.LocalPort >= 1 {
			n.port(int(info.LocalPort)).GUID = info.PortGUID
			e.ask(n.lane, subnet(n, mad.AttrPortInfo, info.LocalPort))
			e.askPKeys(l, n, info.LocalPort, nil)
		}
		return nil
	}
	near := r.node.port(int(r.port))
	if near.Peer != nil {
		return nil // its other end told meanwhile
	}
	if info.LocalPort == 0 || info.LocalPort > info.NumPorts {
		return fmt.Errorf("the node behind it says that this is its port %d, and that it has %d ports", info.LocalPort, info.NumPorts)
	}
	n := e.instance(info, near)
	path := append(slices.Clone(r.path), r.port)
	if n == nil {
		n = e.discovered(l, path, info)
	}
	if n == nil {
		return nil
	}
	far := n.port(int(info.LocalPort))
	if far == near {
		e.observed.doubt(0, "%s is linked to itself", near.Label())
		return nil
	}
	near.Peer, far.Peer = far, near
	e.links++
	if n.Kind != Switch {
		far.GUID = info.PortGUID
		if far.Info == nil {
			e.ask(n.lane, subnet(n, mad.AttrPortInfo, info.LocalPort))
			e.askPKeys(l, n, info.LocalPort, path)
		}
	}
	return nil
}

// instance finds the known node that an answer comes from; near is the port it
// was asked through. Two nodes of one GUID are taken for one until they say of
// one port that it leads to two places.
func (e *engine) instance(info mad.NodeInfo, near *Port) *swept {
	for n := e.nodes[info.NodeGUID]; n != nil; n = n.next {
		if n.Kind != kindOf(info.Type) || n.NumPorts != int(info.NumPorts) || n.SystemGUID != info.SystemGUID {
			continue
		}
		far := n.Port(int(info.LocalPort))
		if near == nil || far == nil || far.Peer == nil || far.Peer == near {
			return n
		}
	}
	return nil
}

// discovered makes a node of what answered first, and asks it for the rest.
func (e *engine) discovered(l *lane, path []byte, info mad.NodeInfo) *swept {
	if e.ports += int(info.NumPorts); len(e.all) >= maxNodes || e.ports > maxPorts {
		if !e.full {
			e.full = true
			e.observed.doubt(0, "more than %d nodes or %d ports answer, which no subnet has: the rest was not looked at", maxNodes, maxPorts)
		}
		return nil
	}
	n := &swept{lane: l, path: path, partitionCap: info.PartitionCap, Node: &Node{
		Kind: kindOf(info.Type), GUID: info.NodeGUID, SystemGUID: info.SystemGUID, NumPorts: int(info.NumPorts),
		VendorID: info.VendorID, DeviceID: uint32(info.DeviceID), described: true,
	}}
	if n.Kind == Switch {
		n.PortGUID = info.PortGUID
	}
	if !e.register(n) {
		return nil
	}
	e.ask(l, subnet(n, mad.AttrNodeDescription, 0))
	if n.Kind != Switch {
		return n // its ports are asked as they are reached
	}
	e.ask(l, subnet(n, mad.AttrSwitchInfo, 0))
	n.Ports = make([]*Port, 0, n.NumPorts)
	for port := range n.NumPorts + 1 {
		e.ask(l, subnet(n, mad.AttrPortInfo, uint8(port)))
	}
	return n
}

// register keeps a node under its GUID, which should be its own.
func (e *engine) register(n *swept) bool {
	same := 0
	last := e.nodes[n.GUID]
	if last == nil {
		e.nodes[n.GUID] = n
	} else {
		for same = 1; last.next != nil; last = last.next {
			same++
		}
		if same >= sameGUID {
			return false
		}
		last.next = n
		e.observed.doubt(0, "two nodes have the GUID 0x%016x: one is reached by the ports %v from the local port, one by %v",
			n.GUID, last.path, n.path)
	}
	e.all = append(e.all, n)
	e.observed.Nodes = append(e.observed.Nodes, n.Node)
	return true
}

// portInfo takes what a node says of a port, and goes on by it.
func (e *engine) portInfo(n *swept, num int, info *mad.PortInfo) {
	if num == 0 {
		n.LID = int(info.LID)
		return
	}
	p := n.port(num)
	p.Info = info
	if n.Kind != Switch {
		p.LID = int(info.LID)
	}
	if info.PhysState != mad.PhysLinkUp {
		return // what a dark port last ran at says nothing
	}
	p.Width, p.Speed = info.Width(), info.Speed()
	l, r := n.lane, subnet(n, mad.AttrNodeInfo, uint8(num))
	if n.Kind != Switch {
		// An adapter passes nothing on; only a local port leads somewhere.
		if l = e.at(n, num); l == nil {
			return
		}
		r.path = nil
	}
	if p.Peer != nil {
		return
	}
	if len(r.path) >= e.MaxHops {
		e.note(&r, fmt.Sprintf("it is more than %d hops from the local port", e.MaxHops))
		return
	}
	e.ask(l, r)
}

// at is the lane that begins at a port, or nil.
func (e *engine) at(n *swept, port int) *lane {
	for _, l := range e.lanes {
		if l.root == n && int(l.rootPort) == port {
			return l
		}
	}
	return nil
}

// dead makes one entry of all that a node which stopped answering was asked.
func (e *engine) dead() {
	vain := map[*Node]int{}
	for _, n := range e.all {
		if n.gone {
			vain[n.Node] = n.mooted
		}
	}
	kept := e.silent[:0]
	for _, u := range e.silent {
		if _, dead := vain[u.Node]; !dead {
			kept = append(kept, u)
		} else {
			vain[u.Node]++
		}
	}
	for _, n := range e.all {
		if n.gone {
			kept = append(kept, Unanswered{Node: n.Node, What: "everything",
				Why: fmt.Sprintf("it stopped answering; %d questions were in vain or not put any more", vain[n.Node])})
		}
	}
	e.silent = kept
}

// result is what was found, in an order that does not depend on who answered first.
func (e *engine) result() *Swept {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.dead()
	for _, n := range e.all {
		for _, p := range n.Ports {
			if p.Peer != nil && p.Info != nil && p.Info.PhysState != mad.PhysLinkUp {
				e.observed.doubt(0, "%s answers as the other end of %s, and says that it is %v: another node has its GUID, or it changed meanwhile",
					p.Label(), p.Peer.Label(), p.Info.PhysState)
			}
		}
	}
	order := map[Kind]int{Switch: 0, Router: 1, CA: 2}
	slices.SortStableFunc(e.observed.Nodes, func(a, b *Node) int {
		return cmp.Or(cmp.Compare(order[a.Kind], order[b.Kind]), cmp.Compare(a.GUID, b.GUID))
	})
	e.stats.Elapsed = time.Since(e.began)
	for _, l := range e.lanes {
		e.stats.MostSMPs = max(e.stats.MostSMPs, int(l.smp.most))
		e.stats.MostGMPs = max(e.stats.MostGMPs, int(l.gmp.most))
	}
	return &Swept{Observed: e.observed, Unanswered: e.silent, Stats: e.stats}
}
