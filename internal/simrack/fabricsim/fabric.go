package fabricsim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"firstlight/fabric/mad"
)

// Options are what a Fabric does by itself.
type Options struct {
	// Managed is a fabric as a subnet manager leaves it: LIDs are assigned,
	// ports active, ways found, and again after each change. Without, ports stay
	// in Init until a subnet manager comes, as opensm on one of its adapters.
	Managed bool
	// Load is the share of its rate that every cable carries both ways, 0 to 1:
	// the counters of data and packets grow by it.
	Load float64
	// WideErrors has ports count errors in PortCountersExtended too, as new ones
	// do. Debian's libumad2sim hands tools no more than 224 bytes of a MAD, and
	// the last of these counters lie behind them: tools would print nonsense.
	WideErrors bool
	// Hop is the time that a packet takes from one node to the next.
	Hop time.Duration
	// VL15 is every port's receive queue for subnet management; zero: it has
	// room for all, and takes no time.
	VL15 VL15
	// Faults are there from the beginning: nothing goes down by them. Inject makes
	// those that come later.
	Faults []Fault
	// Seed is of what is drawn by lot: lost packets, garbled answers.
	Seed uint64
	// Now is the clock that counters grow by; nil is time.Now.
	Now func() time.Time
}

// VL15 is a receive queue of subnet management packets.
type VL15 struct {
	Depth   int           // packets that it holds; one more is dropped, and counted
	Service time.Duration // the time that it takes over each
}

// Fabric is a net that answers. Its methods may be called at once.
type Fabric struct {
	opt   Options
	began time.Time

	mu     sync.Mutex // guards all below
	nodes  []node
	ports  []port
	byName map[string]int32 // of nodes, by name
	random *rand.Rand
	// building: what goes down was never up.
	building bool
	routed   bool   // of a managed fabric: the tables are those of the links there are
	topLID   uint16 // of a managed fabric: the highest LID assigned

	clients map[uint16]*client
	next    uint16 // number of the next client
}

// none is no port and no node.
const none = -1

// node is a switch or adapter as it is now.
type node struct {
	Node
	first  int32 // its port 0 in Fabric.ports; the others follow
	sw     *switching
	dead   bool // without power: it answers nothing and its ports are dark
	mute   bool // its ports are up and it answers nothing
	lie    int  // the NumPorts that it claims; 0: the truth
	noise  bool // what it answers is random
	opaque bool // it does not know the vendor's class
}

// switching is what only a switch has.
type switching struct {
	info      mad.SwitchInfo
	unicast   []uint8             // the port by LID; 255 or beyond the end: none
	multicast map[uint32][64]byte // by modifier
}

// port is a port as it is now.
type port struct {
	node  int32
	peer  int32 // the port at the other end of the cable, or none
	num   uint8
	state mad.PortState
	phys  mad.PhysState

	width, speed uint8 // active lanes and index of speeds
	mostWidth    uint8 // of the port, less what faults take
	mostSpeed    uint8
	disabled     bool // by a Set of PortPhysicalState
	managers     int  // subnet managers that run at it
	endless      bool // behind it is a chain of switches without an end
	loss         float64
	guid         uint64
	set          [mad.DataSize]byte              // PortInfo: what cannot change by itself
	pkeys        []uint16                        // nil: as it comes, the default partition
	tables       map[tableKey][mad.DataSize]byte // SLtoVLMapping, VLArbitration, GUIDInfo as they were set
	counters     *counters
	optics       *optics // nil: as usual
	vl15         queue
}

type tableKey struct {
	attr mad.Attribute
	mod  uint32
}

// New builds a net. Every port that has a cable trains at once.
func New(net *Net, opt Options) (*Fabric, error) {
	f := &Fabric{opt: opt, byName: make(map[string]int32, len(net.Nodes)), clients: map[uint16]*client{}, random: rand.New(rand.NewPCG(opt.Seed, 0))}
	if f.opt.Now == nil {
		f.opt.Now = time.Now
	}
	f.began = f.opt.Now()
	for i, n := range net.Nodes {
		if err := f.addNode(n.defaults(i)); err != nil {
			return nil, err
		}
	}
	for _, l := range net.Links {
		a, err := f.end(l.A)
		if err != nil {
			return nil, err
		}
		b, err := f.end(l.B)
		if err != nil {
			return nil, err
		}
		if f.ports[a].peer != none || f.ports[b].peer != none || a == b {
			return nil, fmt.Errorf("cable from %s to %s: one of these ports has another cable", l.A, l.B)
		}
		f.ports[a].peer, f.ports[b].peer = b, a
	}
	if f.opt.Managed {
		if err := f.assignLIDs(); err != nil {
			return nil, err
		}
	}
	f.building = true
	for i := range f.ports {
		f.train(int32(i))
	}
	if err := f.Inject(opt.Faults...); err != nil {
		return nil, err
	}
	f.building = false
	return f, nil
}

// maxPorts is the most that NumPorts may be: 255 is all ports (§16.1.3.5).
const maxPorts = 254

func (f *Fabric) addNode(n Node) error {
	_, twice := f.byName[n.Name]
	speed, ok := speedIndex(n.Speed)
	switch {
	case n.Name == "" || twice:
		return fmt.Errorf("node %q: every node needs a name of its own", n.Name)
	case n.Ports < 1 || n.Ports > maxPorts:
		return fmt.Errorf("node %q: %d ports; a node has 1 to %d", n.Name, n.Ports, maxPorts)
	case !ok || widthBit(n.Width) == 0:
		return fmt.Errorf("node %q: no link is %dx%s", n.Name, n.Width, n.Speed)
	}
	id := int32(len(f.nodes))
	f.byName[n.Name] = id
	own := node{Node: n, first: int32(len(f.ports))}
	if n.Switch {
		own.sw = newSwitching(n)
	}
	f.nodes = append(f.nodes, own)
	for num := 0; num <= n.Ports; num++ {
		p := port{node: id, num: uint8(num), peer: none, state: mad.PortDown, phys: mad.PhysPolling, mostWidth: uint8(n.Width), mostSpeed: speed, guid: n.GUID}
		if !n.Switch && num > 0 {
			p.guid += uint64(num - 1) // as ConnectX: the first port's is the node's
		}
		if n.Switch && num == 0 {
			p.state, p.phys, p.width, p.speed = mad.PortActive, mad.PhysLinkUp, p.mostWidth, p.mostSpeed
		}
		if !n.Switch {
			p.pkeys = slices.Clone(n.PKeys)
		}
		p.fixed(n)
		f.ports = append(f.ports, p)
	}
	return nil
}

func newSwitching(n Node) *switching {
	return &switching{
		info: mad.SwitchInfo{
			LinearFDBCap: 0xc000, MulticastFDBCap: 0x1000, LifeTimeValue: 16, PartitionEnforceCap: 32, EnhancedPort0: !n.BasePort0,
		},
		multicast: map[uint32][64]byte{},
	}
}

// end finds a port by name.
func (f *Fabric) end(e End) (int32, error) {
	id, ok := f.byName[e.Node]
	if !ok {
		return none, fmt.Errorf("there is no node %q", e.Node)
	}
	if e.Port < 1 || e.Port > f.nodes[id].Ports {
		return none, fmt.Errorf("%s: it has ports 1 to %d", e, f.nodes[id].Ports)
	}
	return f.nodes[id].first + int32(e.Port), nil
}

// portOf is a port of a node by number, or nil.
func (f *Fabric) portOf(n *node, num int) *port {
	if num < 0 || num > n.Ports {
		return nil
	}
	return &f.ports[n.first+int32(num)]
}

// train brings the link of a port to what its two ends allow: up at their best
// common width and speed, or down.
func (f *Fabric) train(i int32) {
	p := &f.ports[i]
	if p.num == 0 {
		return
	}
	q := p
	up := p.endless
	if p.peer != none {
		q = &f.ports[p.peer]
		up = !p.disabled && !q.disabled && !f.nodes[p.node].dead && !f.nodes[q.node].dead
	}
	if up {
		width, ok := p.commonWidth(q)
		speed, ok2 := p.commonSpeed(q)
		if up = ok && ok2; up {
			f.raise(p, width, speed)
			f.raise(q, width, speed)
			return
		}
	}
	f.lower(p)
	f.lower(q)
}

// raise is a port that has trained.
func (f *Fabric) raise(p *port, width, speed uint8) {
	if p.phys == mad.PhysLinkUp && p.width == width && p.speed == speed {
		return
	}
	p.width, p.speed, p.phys, p.state = width, speed, mad.PhysLinkUp, mad.PortInit
	if f.opt.Managed {
		p.state = mad.PortActive
	}
	f.loaded(p)
	f.changed(p)
}

// lower is a port whose link has gone, or never was.
func (f *Fabric) lower(p *port) {
	was := p.phys
	p.state, p.phys = mad.PortDown, mad.PhysPolling
	if p.disabled {
		p.phys = mad.PhysDisabled
	}
	if was != mad.PhysLinkUp {
		return
	}
	f.unloaded(p)
	if !f.building {
		f.count(p, linkDowned, 1)
	}
	f.changed(p)
}

// changed notes that a port's state changed: a switch remembers until a subnet
// manager has seen it (§14.2.5.4), and tells it (trap 128, §14.2.5.1).
func (f *Fabric) changed(p *port) {
	f.routed = false
	n := &f.nodes[p.node]
	if n.sw == nil {
		return
	}
	if n.sw.info.PortStateChange {
		return // told, and not yet seen
	}
	n.sw.info.PortStateChange = !f.opt.Managed
	f.trap(n)
}

// commonWidth is the widest that both ends have and are allowed.
func (p *port) commonWidth(q *port) (uint8, bool) {
	mask := widthMask(int(p.mostWidth)) & p.set[piWidthEnabled] & widthMask(int(q.mostWidth)) & q.set[piWidthEnabled]
	for i := len(widths) - 1; i >= 0; i-- {
		if mask&widths[i].bit != 0 {
			return uint8(widths[i].lanes), true
		}
	}
	return 0, false
}

// commonSpeed is the fastest that both ends have and are allowed.
func (p *port) commonSpeed(q *port) (uint8, bool) {
	for i := int(min(p.mostSpeed, q.mostSpeed)); i >= 0; i-- {
		if p.enabled(speeds[i]) && q.enabled(speeds[i]) {
			return uint8(i), true
		}
	}
	return 0, false
}

// find returns the port that a client asks to be at: the name, description or
// GUID of a node, of an adapter its first port. "" is the first adapter.
func (f *Fabric) find(text string) (int32, bool) {
	at := func(n *node) int32 {
		if n.Switch {
			return n.first
		}
		return n.first + 1
	}
	if id, ok := f.byName[text]; ok {
		return at(&f.nodes[id]), true
	}
	for i := range f.nodes {
		n := &f.nodes[i]
		if text == "" && !n.Switch || text != "" && (n.Description == text || strings.EqualFold(text, fmt.Sprintf("0x%016x", n.GUID))) {
			return at(n), true
		}
	}
	return none, false
}
