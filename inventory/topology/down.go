package topology

import (
	"fmt"
	"slices"
	"strconv"
)

// downlinks makes the leaves and cables the nodes to them.
func (l *layout) downlinks() {
	ports := 0
	for _, n := range l.spec.Nodes {
		ports += len(n.HCAs)
	}
	l.down = slices.Grow(l.down, ports)
	if l.spec.Kind == RailOptimized {
		l.railLeaves()
	} else {
		l.fillLeaves()
	}
	if len(l.problems) > 0 {
		return
	}
	need, given := len(l.leaves), l.spec.Leaf.Count
	switch {
	case given > 0 && given != need:
		l.problem("leaf.count", "%d nodes in %d units need %d leaves; %d are declared", len(l.spec.Nodes), l.units, need, given)
	case need > 1 && l.spec.Spine == nil:
		l.problem("spine", "%d leaves are joined by a spine tier, and none is declared: add a spine block", need)
	}
}

// railLeaves has a leaf for each rail of each unit; a node takes the port of
// its place in the unit on each.
func (l *layout) railLeaves() {
	s, ports := l.spec, l.spec.Leaf.Ports
	size := s.UnitNodes
	if size == 0 {
		size = max(ports/2, 1)
		if s.Leaf.Uplinks > 0 || s.Spine == nil {
			size = ports - s.Leaf.Uplinks
		}
	}
	l.leafUp = s.Leaf.Uplinks
	if l.leafUp == 0 && s.Spine != nil {
		l.leafUp = size
	}
	if size+l.leafUp > ports {
		l.problem("unit_nodes", "a leaf for %d nodes with %d uplinks needs %d ports; it has %d", size, l.leafUp, size+l.leafUp, ports)
		return
	}
	l.leafDown = size
	for from := 0; from < len(s.Nodes); from += size {
		to := min(from+size, len(s.Nodes))
		l.units++
		l.railUnit(s.Nodes[from:to], to == len(s.Nodes))
		if len(l.problems) > 0 {
			return
		}
	}
}

// railUnit cables one unit; the last one has the reserved places.
func (l *layout) railUnit(nodes []Node, last bool) {
	rails, ok := l.railsOf(nodes)
	if !ok {
		return
	}
	first := len(l.leaves)
	byRail := make(map[int]*device, len(rails))
	for _, r := range rails {
		d := &device{Switch: Switch{Role: Leaf, Rail: r, Unit: l.units}}
		byRail[r] = d
		l.leaves = append(l.leaves, d)
	}
	l.perUnit = max(l.perUnit, len(rails))
	for i, n := range nodes {
		for _, h := range n.HCAs {
			l.down = append(l.down, link{node: n.Name, nodePort: h.Port, b: byRail[h.Rail], bPort: i + 1})
		}
	}
	if last {
		l.railAppliances(l.leaves[first:], len(nodes))
	}
}

// railsOf are the rails of a unit's nodes, which must all be the same.
func (l *layout) railsOf(nodes []Node) ([]int, bool) {
	var rails []int
	var seen []HCA // nodes of a kind share their slice: it is looked at once
	for _, n := range nodes {
		if len(n.HCAs) == 0 {
			l.problem("nodes", "node %q has no HCA with a rail", n.Name)
			return nil, false
		}
		if len(seen) == len(n.HCAs) && &seen[0] == &n.HCAs[0] {
			continue
		}
		seen = n.HCAs
		own := make([]int, len(n.HCAs))
		for i, h := range n.HCAs {
			own[i] = h.Rail
		}
		slices.Sort(own)
		if len(slices.Compact(slices.Clone(own))) != len(own) {
			l.problem("nodes", "node %q has two HCAs on one rail: its rails are %v", n.Name, own)
			return nil, false
		}
		if rails == nil {
			rails = own
		}
		if !slices.Equal(rails, own) {
			l.problem("nodes", "unit %d has nodes of unequal rails: %q has %v, %q has %v", l.units, nodes[0].Name, rails, n.Name, own)
			return nil, false
		}
	}
	return rails, true
}

// railAppliances deals the ports of appliances over the leaves of the last
// unit, in the reserved places after its nodes.
func (l *layout) railAppliances(leaves []*device, nodes int) {
	ports := 0
	for _, a := range l.spec.Appliances {
		ports += a.Ports
	}
	places := max(l.spec.Reserved, (ports+len(leaves)-1)/len(leaves))
	if nodes+places > l.leafDown {
		l.problem("reserved", "unit %d has %d places; %d nodes + %d reserved = %d", l.units, l.leafDown, nodes, places, nodes+places)
		return
	}
	next := 0
	for _, a := range l.spec.Appliances {
		for p := range a.Ports {
			l.down = append(l.down, link{node: a.Name, nodePort: strconv.Itoa(p + 1), b: leaves[next%len(leaves)], bPort: nodes + 1 + next/len(leaves)})
			next++
		}
	}
}

// fillLeaves fills leaves in order. A node is split over leaves only if it has
// more HCAs than a leaf has downlinks.
func (l *layout) fillLeaves() {
	s, ports := l.spec, l.spec.Leaf.Ports
	l.leafUp = s.Leaf.Uplinks
	if l.leafUp == 0 && s.Spine != nil {
		l.leafUp = ports / 2
	}
	l.leafDown = ports - l.leafUp
	f := &filler{layout: l}
	for i, n := range s.Nodes {
		if len(n.HCAs) == 0 {
			l.problem("nodes", "node %q has no HCA with a rail", n.Name)
			return
		}
		f.place(i)
		f.room(len(n.HCAs))
		for _, h := range n.HCAs {
			f.port(n.Name, h.Port)
		}
	}
	placed := len(s.Nodes)
	for _, a := range s.Appliances {
		f.room(a.Ports)
		for p := range a.Ports {
			f.port(a.Name, strconv.Itoa(p+1))
		}
		placed++
	}
	for range s.Reserved - len(s.Appliances) {
		wide := len(s.Nodes[len(s.Nodes)-1].HCAs)
		f.room(wide)
		for range wide {
			f.skip()
		}
		placed++
	}
	last, reserved := (len(s.Nodes)-1)%max(s.UnitNodes, 1)+1, placed-len(s.Nodes)
	if s.UnitNodes > 0 && last+reserved > s.UnitNodes {
		l.problem("reserved", "unit %d has %d places; %d nodes + %d reserved = %d", l.units, s.UnitNodes, last, reserved, last+reserved)
	}
	if s.UnitNodes == 0 {
		l.units, l.perUnit = len(l.leaves), 1
	}
}

// filler is the leaf that is being filled.
type filler struct {
	*layout
	leaf   *device
	inUnit int // leaves of the unit so far
}

// place begins a unit where the i-th node is the first of one.
func (f *filler) place(i int) {
	if size := f.spec.UnitNodes; size > 0 && i%size == 0 {
		f.units++
		f.leaf, f.inUnit = nil, 0
	}
}

// room opens a leaf unless this many ports are free on the one there is.
func (f *filler) room(ports int) {
	if f.leaf == nil || f.leaf.used > 0 && f.leaf.used+ports > f.leafDown {
		f.open()
	}
}

func (f *filler) open() {
	unit := f.units
	if f.spec.UnitNodes == 0 {
		unit = len(f.leaves) + 1
	}
	f.leaf = &device{Switch: Switch{Role: Leaf, Unit: unit}}
	f.leaves = append(f.leaves, f.leaf)
	f.inUnit++
	f.perUnit = max(f.perUnit, f.inUnit)
}

// skip takes the next port, on the next leaf if this one is full.
func (f *filler) skip() {
	if f.leaf.used == f.leafDown {
		f.open()
	}
	f.leaf.used++
}

func (f *filler) port(node, port string) {
	f.skip()
	f.down = append(f.down, link{node: node, nodePort: port, b: f.leaf, bPort: f.leaf.used})
}

// String names a problem with its part, for tests and logs.
func (p Problem) String() string { return fmt.Sprintf("%s: %s", p.Part, p.Text) }
