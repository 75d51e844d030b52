package fabric

import (
	"slices"
)

// placeSwitches finds where every switch stands: it has the place that most of
// its cables say it has. Adapters that are known say so for their leaves, leaves
// for the spines, and so on, until nothing changes.
func (c *check) placeSwitches() {
	for n, dev := range c.label {
		c.place[n] = dev
	}
	for range 12 {
		if !c.voteOnce() {
			break
		}
	}
	for c.guess() { // a part of the fabric of which nothing is known, each time
		for range 12 {
			if !c.voteOnce() {
				break
			}
		}
	}
	c.settle()
}

// ballot counts votes for a switch's place.
type ballot struct {
	dev   *device
	votes int
	ports int // of those, how many agree on the port too
}

// ballots are what the cables of a switch say about its place.
func (c *check) ballots(n *Node) (out []ballot, total int) {
	for _, p := range n.Ports {
		e := c.beside(p)
		if e == nil || !e.dev.isSwitch {
			continue
		}
		total++
		i := slices.IndexFunc(out, func(b ballot) bool { return b.dev == e.dev })
		if i < 0 {
			i = len(out)
			out = append(out, ballot{dev: e.dev})
		}
		out[i].votes++
		if e.num == p.Num {
			out[i].ports++
		}
	}
	return out, total
}

// beside is the end that a port should be, if what is behind it is right.
func (c *check) beside(p *Port) *end {
	q := p.Peer
	if q == nil {
		return nil
	}
	if a := c.of[q]; a != nil {
		return a.end.mate()
	}
	return c.declaredAt(q)
}

// voteOnce finds every switch's place anew from those of its neighbours.
func (c *check) voteOnce() (changed bool) {
	next := make(map[*Node]*device, len(c.switches))
	for _, n := range c.switches {
		dev := c.elect(n)
		if dev != nil {
			next[n] = dev
		}
		changed = changed || dev != c.place[n]
	}
	c.place = next
	return changed
}

// elect is the place with most votes. Against what the switch itself says it
// takes a majority.
func (c *check) elect(n *Node) *device {
	out, total := c.ballots(n)
	label := c.label[n]
	var best, own ballot
	for _, b := range out {
		if b.votes > best.votes || b.votes == best.votes && (b.ports > best.ports || b.ports == best.ports && b.dev == label) {
			best = b
		}
		if b.dev == label {
			own = b
		}
	}
	switch {
	case best.dev == nil:
		return c.place[n] // nothing speaks for or against it
	case label != nil && best.dev != label && (best.votes < 2 || best.votes*2 <= total || best.votes <= own.votes):
		return label
	}
	return best.dev
}

// settle gives a place to one switch only: the one with more votes for it.
func (c *check) settle() {
	holder := map[*device]*Node{}
	votes := func(n *Node, dev *device) int {
		out, _ := c.ballots(n)
		for _, b := range out {
			if b.dev == dev {
				return b.votes
			}
		}
		return 0
	}
	var losers []*Node
	for _, n := range c.switches {
		dev := c.place[n]
		if dev == nil {
			continue
		}
		switch old := holder[dev]; {
		case old == nil:
			holder[dev] = n
		case votes(n, dev) > votes(old, dev):
			holder[dev] = n
			losers = append(losers, old)
		default:
			losers = append(losers, n)
		}
	}
	for _, n := range losers {
		delete(c.place, n)
		if dev := c.label[n]; dev != nil && holder[dev] == nil {
			c.place[n], holder[dev] = dev, n
		}
	}
}

// signature is how a switch is cabled, for finding its like.
type signature string

// guess places one part of the fabric in which nothing says what it is: its
// rarest switch is tried as each declared one that is cabled alike, the rest
// follows from the ports, and the try that explains most cables is taken. The
// part with the rarest switch comes first.
func (c *check) guess() bool {
	free := c.freePlaces()
	candidates := map[signature][]*device{}
	var all []*device
	for _, dev := range c.d.devices {
		if free[dev] {
			s := c.signatureOf(dev)
			candidates[s] = append(candidates[s], dev)
			all = append(all, dev)
		}
	}
	type hope struct {
		part   []*Node
		rarest *Node
		few    int
	}
	var hopes []hope
	for _, p := range c.unplacedParts() {
		h := hope{part: p, few: len(all) + 1}
		for _, n := range p {
			if k := len(candidates[c.signatureFound(n)]); k > 0 && k < h.few {
				h.rarest, h.few = n, k
			}
		}
		hopes = append(hopes, h)
	}
	slices.SortStableFunc(hopes, func(a, b hope) int { return a.few - b.few })
	for _, h := range hopes {
		t := &trial{c: c, free: free, effort: 20000}
		for _, n := range h.part {
			t.links += linked(n)
		}
		if h.rarest != nil {
			t.try(h.part, h.rarest, candidates[c.signatureFound(h.rarest)])
		}
		if t.most*10 < t.links*9 {
			t.try(h.part, slices.MaxFunc(h.part, func(a, b *Node) int { return linked(a) - linked(b) }), all)
		}
		for n, dev := range t.best {
			c.place[n] = dev
		}
		if len(t.best) > 0 {
			return true
		}
	}
	return false
}

// freePlaces are declared switches that no found one is known to be.
func (c *check) freePlaces() map[*device]bool {
	free := map[*device]bool{}
	for _, dev := range c.d.devices {
		free[dev] = dev.isSwitch && dev.cabled() > 0
	}
	for _, dev := range c.place {
		free[dev] = false
	}
	return free
}

// trial is the best of several tries to place a part.
type trial struct {
	c      *check
	free   map[*device]bool
	effort int // switches that may still be walked
	links  int
	most   int
	best   map[*Node]*device
}

func (t *trial) try(part []*Node, n *Node, as []*device) {
	for _, dev := range as {
		if t.effort -= len(part); t.effort < 0 || t.most == t.links {
			return
		}
		if placed, right, dark := t.c.walk(n, dev, t.free); right > 0 && (t.best == nil || right-dark > t.most) {
			t.best, t.most = placed, right-dark
		}
	}
}

func linked(n *Node) int {
	count := 0
	for _, p := range n.Ports {
		if p.Peer != nil {
			count++
		}
	}
	return count
}

// unplacedParts are switches without a place that are cabled to each other, and
// to none that has one: what that could say was said.
func (c *check) unplacedParts() (out [][]*Node) {
	seen := map[*Node]bool{}
	for _, first := range c.switches {
		if c.place[first] != nil || seen[first] || linked(first) == 0 {
			continue
		}
		part, known := []*Node{first}, false
		seen[first] = true
		for i := 0; i < len(part); i++ {
			for _, p := range part[i].Ports {
				q := p.Peer
				switch {
				case q == nil || q.Node.Kind != Switch || seen[q.Node] || !c.d.trunks:
				case c.place[q.Node] != nil:
					known = true
				default:
					seen[q.Node] = true
					part = append(part, q.Node)
				}
			}
		}
		if !known {
			out = append(out, part)
		}
	}
	return out
}

// walk places what follows from a switch standing somewhere, port by port, and
// counts the ports that are then as declared, and those that should show a node
// and do not.
func (c *check) walk(n *Node, dev *device, free map[*device]bool) (placed map[*Node]*device, right, dark int) {
	placed = map[*Node]*device{n: dev}
	used := map[*device]bool{dev: true}
	queue := []*Node{n}
	for len(queue) > 0 {
		n := queue[0]
		queue = queue[1:]
		dark += c.darkAt(n, placed[n])
		for _, p := range n.Ports {
			want := placed[n].at(p.Num).mate()
			if p.Peer == nil || want == nil {
				continue
			}
			if p.Peer.Node.Kind != Switch {
				if !want.dev.isSwitch {
					right++
				}
				continue
			}
			if q := p.Peer.Node; want.dev.isSwitch && placed[q] == nil && !used[want.dev] && free[want.dev] {
				placed[q], used[want.dev] = want.dev, true
				queue = append(queue, q)
			}
			if placed[p.Peer.Node] == want.dev && want.num == p.Peer.Num {
				right++
			}
		}
	}
	return placed, right, dark
}

// darkAt counts the nodes that should show at a switch in some place, and do not.
func (c *check) darkAt(n *Node, dev *device) (dark int) {
	for _, e := range dev.ends {
		m := e.mate()
		if m == nil || m.dev.isSwitch || c.known.Dark[m.dev.name] {
			continue
		}
		if p := n.Port(e.num); p == nil || p.Peer == nil {
			dark++
		}
	}
	return dark
}

func (c *check) signatureOf(dev *device) signature {
	var s []byte
	for num, e := range dev.byNum {
		m := e.mate()
		switch {
		case m == nil || m.dev.node != nil && c.known.Dark[m.dev.name]:
		case m.dev.isSwitch:
			s = append(s, byte(num), byte(m.num))
		default:
			s = append(s, byte(num), 0)
		}
	}
	return signature(s)
}

func (c *check) signatureFound(n *Node) signature {
	var s []byte
	for _, p := range n.Ports {
		switch {
		case p.Peer == nil || p.Peer.Node.inner():
		case p.Peer.Node.Kind == Switch && !c.d.trunks:
		case p.Peer.Node.Kind == Switch:
			s = append(s, byte(p.Num), byte(p.Peer.Num))
		default:
			s = append(s, byte(p.Num), 0)
		}
	}
	return signature(s)
}
