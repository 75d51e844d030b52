package fabric

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"firstlight/inventory"
)

// drawing is a fabric as devices and cables to be drawn: those declared, or,
// where none is, those found.
type drawing struct {
	byName map[string]*drawn // in lower case
	order  []*drawn          // in natural order of name
	wires  []*wire
	byPort map[wireEnd]*wire
	all    []Finding
	brief  []string     // by finding: what a tooltip says
	at     [][]*place   // by finding: where it is
	taken  map[int]bool // what places are called by
}

type wireEnd struct{ dev, port string } // the device in lower case

// drawn is a device in the drawing.
type drawn struct {
	ref      PortRef
	isSwitch bool
	role     string
	tier     int    // 0 a node, 1 leaf, 2 spine, 3 core; -1 a switch that no node leads to
	rail     string // of a leaf: "rail 3"; "" takes any
	off      bool
	wires    []*wire
	head     place
	loose    []*loosePort // ports with a finding where no cable is drawn
}

type loosePort struct {
	port PortRef
	place
}

// wire is a cable in the drawing. Once tiers are known, low is the device nearer
// to the nodes.
type wire struct {
	low, high wireSide
	rail      int // of the adapter at its end, 0 without
	cell      *place
}

type wireSide struct {
	dev  *drawn
	port PortRef
}

// place is a spot of the picture that findings can be shown at.
type place struct {
	id    int   // what it is called by; 0 without a finding
	marks []int // indices of findings
	drawn bool  // the page has it
}

// draw makes the drawing of what is declared, or of what was found.
func (p Picture) draw() *drawing {
	d := &drawing{byName: map[string]*drawn{}, byPort: map[wireEnd]*wire{}}
	if p.Declared != nil && len(p.Declared.cables) > 0 {
		for _, k := range p.Declared.cables {
			d.join(d.declaredSide(k.a), d.declaredSide(k.b), max(k.a.adapterRail(), k.b.adapterRail()))
		}
		if p.Observed != nil && !p.Declared.trunks {
			d.found(p.Observed, true)
		}
	} else if p.Observed != nil {
		d.found(p.Observed, false)
	}
	for name := range p.Off {
		if dev := d.byName[strings.ToLower(name)]; dev != nil {
			dev.off = true
		}
	}
	slices.SortFunc(d.order, func(a, b *drawn) int { return inventory.CompareNames(a.ref.Name, b.ref.Name) })
	d.findTiers()
	for _, w := range d.wires {
		if w.low.dev.tier > w.high.dev.tier {
			w.low, w.high = w.high, w.low
		}
	}
	d.findRails()
	return d
}

// adapterRail is the declared rail of an adapter; 0 of a switch's port.
func (e *end) adapterRail() int {
	if e.hca == nil {
		return 0
	}
	return e.hca.Rail
}

func (d *drawing) device(ref PortRef, isSwitch bool) *drawn {
	key := strings.ToLower(ref.Name)
	if d.byName[key] == nil {
		ref.Port, ref.Label = "", ""
		dev := &drawn{ref: ref, isSwitch: isSwitch}
		d.byName[key] = dev
		d.order = append(d.order, dev)
	}
	return d.byName[key]
}

func (d *drawing) declaredSide(e *end) wireSide {
	dev := d.device(e.dev.ref(), e.dev.isSwitch)
	if e.dev.sw != nil {
		dev.role = e.dev.sw.Role
		if e.dev.sw.Rail > 0 {
			dev.rail = fmt.Sprintf("rail %d", e.dev.sw.Rail)
		}
	}
	return wireSide{dev, e.ref()}
}

// found takes the links that were found; trunks are those between switches.
func (d *drawing) found(o *Observed, trunksOnly bool) {
	side := func(p *Port) wireSide {
		ref := foundRef(plainName, p)
		return wireSide{d.device(ref, p.Node.Kind == Switch), ref}
	}
	for _, l := range o.Links() {
		a, b := l.A.Node, l.B.Node
		if a.inner() || b.inner() || trunksOnly && (a.Kind != Switch || b.Kind != Switch) {
			continue
		}
		d.join(side(l.A), side(l.B), 0)
	}
	if trunksOnly {
		return
	}
	s := &structure{o: o, tier: tiers(o)}
	s.findRails()
	for n, rail := range s.rail {
		if dev := d.byName[strings.ToLower(plainName(n).Name)]; dev != nil {
			dev.rail = rail
		}
	}
}

func (d *drawing) join(a, b wireSide, rail int) {
	w := &wire{low: a, high: b, rail: rail}
	d.wires = append(d.wires, w)
	for _, s := range []wireSide{a, b} {
		s.dev.wires = append(s.dev.wires, w)
		d.byPort[wireEnd{strings.ToLower(s.dev.ref.Name), s.port.Port}] = w
	}
}

// other is the side of a cable that is not the device's.
func (w *wire) other(dev *drawn) wireSide {
	if w.low.dev == dev {
		return w.high
	}
	return w.low
}

// findTiers takes the declared roles, and elsewhere how far switches are from
// nodes. A switch of which nodes are a few of the cables only is no leaf for
// them, unless no other would be one.
func (d *drawing) findTiers() {
	var queue []*drawn
	for _, dev := range d.order {
		if dev.isSwitch {
			if dev.tier = map[string]int{"leaf": 1, "spine": 2, "core": 3}[dev.role]; dev.tier == 0 {
				dev.tier = -1
			}
		}
	}
	for _, least := range []int{10, 1 << 20} {
		for _, dev := range d.order {
			if hosts := dev.hosts(); dev.tier == -1 && hosts > 0 && hosts*least >= len(dev.wires) {
				dev.tier = 1
			}
		}
		if slices.ContainsFunc(d.order, func(dev *drawn) bool { return dev.tier == 1 }) {
			break
		}
	}
	for _, dev := range d.order {
		if dev.tier > 0 {
			queue = append(queue, dev)
		}
	}
	slices.SortStableFunc(queue, func(a, b *drawn) int { return cmp.Compare(a.tier, b.tier) })
	for len(queue) > 0 {
		dev := queue[0]
		queue = queue[1:]
		for _, w := range dev.wires {
			if q := w.other(dev).dev; q.tier == -1 {
				q.tier = dev.tier + 1
				queue = append(queue, q)
			}
		}
	}
}

func (dev *drawn) hosts() int {
	n := 0
	for _, w := range dev.wires {
		if !w.other(dev).dev.isSwitch {
			n++
		}
	}
	return n
}

// findRails gives leaves of which no rail is declared that of their adapters,
// where three quarters agree.
func (d *drawing) findRails() {
	for _, dev := range d.order {
		if dev.tier != 1 || dev.rail != "" {
			continue
		}
		count, hosts := map[string]int{}, dev.hosts()
		for _, w := range dev.wires {
			if w.rail > 0 {
				count[strconv.Itoa(w.rail)]++
			}
		}
		if best := most(count); best != "" && count[best]*4 >= hosts*3 {
			dev.rail = "rail " + best
		}
	}
}
