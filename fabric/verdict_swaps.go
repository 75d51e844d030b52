package fabric

import (
	"fmt"
	"slices"
	"strings"

	"firstlight/inventory"
)

// rings orders devices by who stands in whose place: a ring comes back to its
// first, an open one ends with a device in whose place nothing is known to
// stand.
func rings(place map[*device]*device) (out [][]*device, open []bool) {
	all := make([]*device, 0, len(place))
	taken := map[*device]bool{}
	for dev, at := range place {
		all = append(all, dev)
		taken[at] = true
	}
	slices.SortFunc(all, func(a, b *device) int { return inventory.CompareNames(a.name, b.name) })
	done := map[*device]bool{}
	follow := func(first *device) {
		ring, dev := []*device{first}, place[first]
		done[first] = true
		for dev != nil && !done[dev] {
			ring = append(ring, dev)
			done[dev] = true
			dev = place[dev]
		}
		out, open = append(out, ring), append(open, dev == nil)
	}
	for _, dev := range all { // open ones have a beginning
		if !taken[dev] {
			follow(dev)
		}
	}
	for _, dev := range all {
		if !done[dev] {
			follow(dev)
		}
	}
	return out, open
}

// swappedSwitches finds switches that stand in the place of others.
func (c *check) swappedSwitches() {
	moved := map[*device]*device{}
	for n, label := range c.label {
		if at := c.place[n]; at != nil && at != label {
			moved[label] = at
		}
	}
	all, open := rings(moved)
	for i, ring := range all {
		class := SwappedSwitch
		if len(ring) > 2 {
			class = Rotated
		}
		c.add(c.exchanged(class, "switches", ring, open[i], ""))
	}
}

// exchanged is the finding of devices that stand in each other's place.
func (c *check) exchanged(class Class, what string, ring []*device, open bool, remark string) Finding {
	f := Finding{Class: class, Severity: Error, Node: ring[0].name}
	var declared, found []string
	for i, dev := range ring {
		f.Ports = append(f.Ports, dev.ref())
		declared = append(declared, dev.name+standsAt(dev.ref()))
		if at := ring[(i+1)%len(ring)]; i+1 < len(ring) || !open {
			found = append(found, dev.name+" in the place of "+at.name)
		}
	}
	f.DeclaredAt = c.at(firstCable(ring[0]))
	f.Declared, f.Found = strings.Join(declared, ", "), strings.Join(found, ", ")
	f.Message = fmt.Sprintf("the cables of %s say: %s%s%s", fold(ring), f.Found, remark, declaredAs(f.DeclaredAt))
	switch {
	case open:
		f.Action = fmt.Sprintf("put %s in its own place, or correct what it is declared to be; the %s %s all have the cables of another place", ring[0].name, what, fold(ring[:len(ring)-1]))
	case len(ring) == 2:
		f.Action = fmt.Sprintf("exchange the %s %s and %s, or their names and GUIDs in the inventory: all their cables are right where they are", what, ring[0].name, ring[1].name)
	default:
		f.Action = fmt.Sprintf("move each of the %s %s to its own place, or correct their names and GUIDs in the inventory: all their cables are right where they are", what, fold(ring))
	}
	return f
}

func firstCable(dev *device) *cable {
	for _, e := range dev.ends {
		if e.cable != nil {
			return e.cable
		}
	}
	return nil
}

// moveNodes finds nodes all of whose adapters are where another node's belong,
// and takes each for the node whose place it has, so that what else is wrong
// there shows by itself.
func (c *check) moveNodes() {
	votes := map[*device]map[*device]int{}
	for _, a := range c.adapters {
		t := c.declaredAt(a.port.Peer)
		if a.end == nil || a.end.dev.node == nil || t == nil || t.dev.node == nil || t.dev == a.end.dev || a.end.sameOn(t.dev) != t {
			continue
		}
		if votes[a.end.dev] == nil {
			votes[a.end.dev] = map[*device]int{}
		}
		votes[a.end.dev][t.dev]++
	}
	moved := map[*device]*device{}
	for dev, count := range votes {
		for at, n := range count {
			if n >= 2 && n*2 > dev.cabled() {
				moved[dev] = at
			}
		}
	}
	if len(moved) == 0 {
		return
	}
	c.relabel(moved)
	c.swappedRacks(moved)
	all, open := rings(moved)
	for i, ring := range all {
		class := SwappedPair
		switch {
		case len(ring) > 2:
			class = Rotated
		case open[i]:
			class = Miswired
		}
		c.add(c.exchanged(class, "nodes", ring, open[i], ", on all rails"))
	}
}

// cabled is how many cables are declared to end at a device.
func (dev *device) cabled() int {
	n := 0
	for _, e := range dev.ends {
		if e.cable != nil {
			n++
		}
	}
	return n
}

// relabel takes the adapters of nodes for those whose place they have.
func (c *check) relabel(moved map[*device]*device) {
	var all []*adapter
	for _, a := range c.adapters {
		if a.host == nil || moved[a.host] == nil {
			continue
		}
		if a.end != nil {
			delete(c.owner, a.end)
		}
		all = append(all, a)
	}
	for _, a := range all {
		to := moved[a.host]
		e := a.end
		a.host, a.end = to, nil
		if e == nil {
			continue
		}
		if e = e.sameOn(to); e != nil && c.owner[e] == nil {
			a.sure = true // its GUID is another's for the same reason
			c.claim(a, e)
		}
	}
}

// swappedRacks takes racks out whose nodes all stand in each other's place.
func (c *check) swappedRacks(moved map[*device]*device) {
	type pair struct{ a, b *inventory.Rack }
	both := map[pair][]*device{}
	var order []pair
	for _, dev := range c.d.devices {
		at := moved[dev]
		if at == nil || dev.rack == nil || at.rack == nil || dev.rack == at.rack {
			continue
		}
		p := pair{dev.rack, at.rack}
		if inventory.CompareNames(p.b.Name, p.a.Name) < 0 {
			p = pair{p.b, p.a}
		}
		if both[p] == nil {
			order = append(order, p)
		}
		both[p] = append(both[p], dev)
	}
	for _, p := range order {
		devs := both[p]
		in := func(r *inventory.Rack) (here []*device) {
			for _, dev := range devs {
				if dev.rack == r {
					here = append(here, dev)
				}
			}
			return here
		}
		a, b := in(p.a), in(p.b)
		if len(a) < 2 || len(b) < 2 || len(a) < c.seenIn(p.a, moved) || len(b) < c.seenIn(p.b, moved) {
			continue
		}
		for _, dev := range devs {
			delete(moved, dev)
		}
		at := c.at(firstCable(a[0]))
		f := Finding{Class: SwappedRack, Severity: Error, Node: a[0].name, DeclaredAt: at,
			Declared: fmt.Sprintf("%s in rack %s, %s in rack %s", fold(a), p.a.Name, fold(b), p.b.Name),
			Found:    fmt.Sprintf("%s in the places of rack %s, %s in those of rack %s", fold(a), p.b.Name, fold(b), p.a.Name),
			Action:   fmt.Sprintf("exchange the racks %s and %s, or their names in the inventory: all their cables are right where they are", p.a.Name, p.b.Name)}
		for _, dev := range devs {
			f.Ports = append(f.Ports, dev.ref())
		}
		f.Message = fmt.Sprintf("the cables of racks %s and %s say: %s%s", p.a.Name, p.b.Name, f.Found, declaredAs(at))
		c.add(f)
	}
}

// seenIn counts the nodes of a rack that were found and have cables. It is
// asked after they were taken for those whose place they have.
func (c *check) seenIn(r *inventory.Rack, moved map[*device]*device) int {
	n := 0
	for _, dev := range c.d.devices {
		if dev.node == nil || dev.rack != r || dev.cabled() == 0 {
			continue
		}
		if moved[dev] != nil || slices.ContainsFunc(dev.ends, func(e *end) bool { return c.owner[e] != nil }) {
			n++
		}
	}
	return n
}
