// Package fabric holds the InfiniBand fabric as it is found: switches and
// adapters, their ports, and the links between them (IBTA volume 1, release
// 1.7, chapter 14 for the attributes the fields come from).
package fabric

import (
	"fmt"
	"slices"
	"sort"
	"strconv"

	"firstlight/fabric/mad"
	"firstlight/inventory"
)

// Kind is what a node of the fabric is: the NodeType of its NodeInfo.
type Kind string

// The kinds of node.
const (
	Switch Kind = "switch"
	CA     Kind = "ca" // a channel adapter: an HCA of a host
	Router Kind = "router"
)

// Observed is a fabric as something saw it.
type Observed struct {
	Nodes []*Node // in the order in which they were seen
	// Inconsistencies are what the fabric cannot really be: a link seen from
	// one side only, two descriptions of one node. What they name is in Nodes
	// as far as it is believable.
	Inconsistencies []Inconsistency
}

// Node is a switch, adapter or router. Zero is not known: a report of ports
// gives no node GUID of an adapter, no vendor and no port count.
type Node struct {
	Kind        Kind
	GUID        uint64 // NodeInfo.NodeGUID
	SystemGUID  uint64 // NodeInfo.SystemImageGUID: shared by what is one box, or one card
	PortGUID    uint64 // of a switch's port 0
	Description string // NodeDescription
	NumPorts    int    // NodeInfo.NumPorts
	VendorID    uint32 // NodeInfo.VendorID
	DeviceID    uint32 // NodeInfo.DeviceID
	LID         int    // of a switch; an adapter has one for each port
	Enhanced    bool   // of a switch: port 0 is an enhanced one
	Ports       []*Port
	Line        int // where its description stands, or where it was first named

	described bool // it has a description of its own, not only a mention
}

// Port is a port of a node. A port that is not there in Node.Ports was not seen.
type Port struct {
	Node  *Node
	Num   int    // from 1
	GUID  uint64 // PortInfo of an adapter's port; a switch's ports have none of their own
	LID   int    // of an adapter's port
	Width int    // active lanes: 1, 2, 4, 8 or 12; 0 is not known
	Speed string // active speed of a lane, as "NDR"; "" is not known
	Peer  *Port  // nil: nothing behind it
	// Claimed is what this side says is behind it and the other side denies: of
	// two devices with one GUID only one can be what the other end names.
	Claimed *Port
	Line    int // where it stands; 0 where only the other side names it

	Info     *mad.PortInfo // what the port says of itself; nil: read from a dump, or it did not answer
	PKeys    []uint16      // of an adapter's port: its partition keys, without empty entries; nil: not read
	Counters *Counters     // nil: not read
	Optics   *Optics       // nil: not read, or not told
}

// Link joins two ports. Where only one end is a switch, that is B.
type Link struct{ A, B *Port }

// Inconsistency is one thing that cannot be so, and the line that says it.
type Inconsistency struct {
	Line int // 0: no dump said it, but the fabric
	What string
}

func (i Inconsistency) String() string {
	if i.Line == 0 {
		return i.What
	}
	return fmt.Sprintf("line %d: %s", i.Line, i.What)
}

// Port returns the port of that number, or nil.
func (n *Node) Port(num int) *Port {
	if i, ok := n.find(num); ok {
		return n.Ports[i]
	}
	return nil
}

func (n *Node) find(num int) (int, bool) {
	return sort.Find(len(n.Ports), func(i int) int { return num - n.Ports[i].Num })
}

// port returns the port of that number, new if need be.
func (n *Node) port(num int) *Port {
	i, ok := n.find(num)
	if !ok {
		n.Ports = slices.Insert(n.Ports, i, &Port{Node: n, Num: num})
	}
	return n.Ports[i]
}

// Label names a node in messages: its description, or its GUID where it has none.
func (n *Node) Label() string {
	switch {
	case n.Description != "":
		return strconv.Quote(n.Description)
	case n.GUID != 0:
		return fmt.Sprintf("%s 0x%016x", n.Kind, n.GUID)
	case n.PortGUID != 0:
		return fmt.Sprintf("%s 0x%016x", n.Kind, n.PortGUID)
	}
	return string(n.Kind)
}

// Label names a port in messages.
func (p *Port) Label() string { return fmt.Sprintf("%s port %d", p.Node.Label(), p.Num) }

// Rate is the port's rate by its usual name: 4x NDR is "NDR", 2x NDR is
// "NDR200". Combinations without a name are a bandwidth, as "100Gb/s"; "" is
// not known.
func (p *Port) Rate() string { return RateName(p.Width, p.Speed) }

// RateName is the usual name of a link of some lanes at some speed.
func RateName(width int, speed string) string {
	lane := inventory.LaneSpeed(speed)
	if lane == 0 || width == 0 {
		return ""
	}
	if name := inventory.LanesName(width, speed); name != "" {
		return name
	}
	return strconv.FormatFloat(lane/1e9*float64(width), 'f', -1, 64) + "Gb/s"
}

// Links are the links between ports, each once, in the order of the nodes.
func (o *Observed) Links() []Link {
	var out []Link
	seen := map[*Port]bool{}
	for _, n := range o.Nodes {
		for _, p := range n.Ports {
			if p.Peer == nil || seen[p] {
				continue
			}
			seen[p.Peer] = true
			l := Link{A: p, B: p.Peer}
			if l.A.Node.Kind == Switch && l.B.Node.Kind != Switch {
				l.A, l.B = l.B, l.A
			}
			out = append(out, l)
		}
	}
	return out
}

// Count returns how many nodes are of a kind.
func (o *Observed) Count(kind Kind) int {
	n := 0
	for _, node := range o.Nodes {
		if node.Kind == kind {
			n++
		}
	}
	return n
}

func (o *Observed) doubt(line int, format string, args ...any) {
	o.Inconsistencies = append(o.Inconsistencies, Inconsistency{line, fmt.Sprintf(format, args...)})
}

// reconcile makes links of what the two ends of each say, once all was read.
func (o *Observed) reconcile() {
	var lonely, contradicted []*Port
	for _, n := range o.Nodes {
		for _, p := range n.Ports {
			if n.described && n.NumPorts > 0 && p.Num > n.NumPorts {
				o.doubt(max(p.Line, n.Line), "%s is beyond the %d ports that the node has", p.Label(), n.NumPorts)
			}
			switch q := p.Peer; {
			case q == nil:
			case q == p:
				o.doubt(p.Line, "%s is linked to itself", p.Label())
				contradicted = append(contradicted, p)
			case q.Peer == nil:
				lonely = append(lonely, p)
			case q.Peer != p:
				o.doubt(p.Line, "%s leads to %s, and that port to %s (line %d)", p.Label(), q.Label(), q.Peer.Label(), q.Line)
				contradicted = append(contradicted, p)
			case p.Line > q.Line && (p.Width != q.Width || p.Speed != q.Speed):
				o.doubt(p.Line, "%s runs at %s here, and at %s seen from %s (line %d)", p.Label(), written(p), written(q), q.Label(), q.Line)
			}
		}
	}
	for _, p := range contradicted {
		p.deny()
	}
	for _, p := range lonely {
		q := p.Peer
		if q.Peer != nil {
			o.doubt(p.Line, "%s leads to %s, and so does %s (line %d)", p.Label(), q.Label(), q.Peer.Label(), q.Peer.Line)
			p.deny()
			continue
		}
		o.doubt(p.Line, "the link from %s to %s is seen from this side only", p.Label(), q.Label())
		q.Peer, q.Width, q.Speed = p, p.Width, p.Speed
	}
	sort.SliceStable(o.Inconsistencies, func(i, j int) bool { return o.Inconsistencies[i].Line < o.Inconsistencies[j].Line })
}

// deny takes a link back that only this side has.
func (p *Port) deny() {
	if p.Peer != p {
		p.Claimed = p.Peer
	}
	p.Peer = nil
}

// written is a port's width and speed as a dump spells them.
func written(p *Port) string {
	if p.Width == 0 && p.Speed == "" {
		return "an unknown rate"
	}
	speed := p.Speed
	if speed == "" {
		speed = "???"
	}
	return fmt.Sprintf("%dx%s", p.Width, speed)
}
