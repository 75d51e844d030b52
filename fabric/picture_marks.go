package fabric

import (
	"fmt"
	"strings"
)

// cells gives every cable the place where it is shown: a square of its own at a
// leaf, or one cell for all cables between two switches of adjoining tiers. Other
// cables are squares at both their switches.
func (d *drawing) cells() {
	shared := map[[2]*drawn]*place{}
	for _, w := range d.wires {
		pair := [2]*drawn{w.low.dev, w.high.dev}
		switch {
		case !w.low.dev.isSwitch && w.high.dev.tier == 1, !w.adjoining():
			w.cell = &place{}
		default:
			if shared[pair] == nil {
				shared[pair] = &place{}
			}
			w.cell = shared[pair]
		}
	}
}

// adjoining reports cables that have a cell in an uplink map.
func (w *wire) adjoining() bool {
	return w.low.dev.isSwitch && w.low.dev.tier > 0 && w.high.dev.tier == w.low.dev.tier+1
}

// mark puts findings at the places of their ports.
func (d *drawing) mark(all []Finding) {
	d.all, d.at, d.brief, d.taken = all, make([][]*place, len(all)), make([]string, len(all)), map[int]bool{}
	for i, f := range all {
		d.brief[i] = fmt.Sprintf("#%d %s: %s", i+1, f.Class, f.Message)
		if len(f.Ports) > 8 { // it is repeated at each of them
			d.brief[i] = fmt.Sprintf("#%d %s: %s", i+1, f.Class, f.Node)
		}
		for _, p := range f.Ports {
			d.markPort(i, f.Class, p)
		}
		if len(f.Ports) == 0 {
			d.markPort(i, f.Class, PortRef{Name: f.Node})
		}
	}
}

func (d *drawing) markPort(i int, class Class, p PortRef) {
	key := strings.ToLower(p.Name)
	dev := d.byName[key]
	if dev == nil {
		return
	}
	if p.Port == "" {
		if dev.isSwitch && dev.tier > 0 {
			d.put(i, &dev.head)
		}
		if !dev.isSwitch || class == MissingNode { // a swapped switch's cables are as they should be
			for _, w := range dev.wires {
				if w.shown() {
					d.put(i, w.cell)
				}
			}
		}
		return
	}
	if w := d.byPort[wireEnd{key, p.Port}]; w != nil && w.shown() {
		d.put(i, w.cell)
		return
	}
	if !dev.isSwitch {
		if dev = d.leafFor(dev, p.Port); dev == nil {
			return
		}
	}
	if dev.tier < 1 {
		return
	}
	for _, l := range dev.loose {
		if l.port.Name == p.Name && l.port.Port == p.Port {
			d.put(i, &l.place)
			return
		}
	}
	l := &loosePort{port: p}
	dev.loose = append(dev.loose, l)
	d.put(i, &l.place)
}

// shown reports a cable that the picture has: a leaf shows all of its own.
func (w *wire) shown() bool {
	return w.adjoining() || w.low.dev.tier == 1 || w.high.dev.tier == 1
}

// leafFor is where an adapter that has no cable would be cabled to: the leaf of
// a rail of its name that most of the node's neighbours of other rails use too.
func (d *drawing) leafFor(node *drawn, rail string) *drawn {
	votes := map[*drawn]int{}
	var best *drawn
	for _, w := range node.wires {
		for _, beside := range w.other(node).dev.wires {
			peer := beside.other(w.other(node).dev).dev
			if peer.isSwitch {
				continue
			}
			for _, x := range peer.wires {
				if leaf := x.other(peer).dev; leaf.tier == 1 && leaf.rail == rail {
					if votes[leaf]++; best == nil || votes[leaf] > votes[best] {
						best = leaf
					}
				}
			}
		}
	}
	return best
}

// put shows a finding at a place, once.
func (d *drawing) put(i int, p *place) {
	if n := len(p.marks); n > 0 && p.marks[n-1] == i {
		return
	}
	p.marks = append(p.marks, i)
	if p.id == 0 {
		p.id = i + 1
		for d.taken[p.id] { // a finding can be the first at several places
			p.id += len(d.all)
		}
		d.taken[p.id] = true
	}
	d.at[i] = append(d.at[i], p)
}

// spot is a place as the template shows it.
type spot struct {
	ID    int // what it is called by; 0: no finding is here, or it was drawn before
	Link  int // the number of the finding that it leads to
	Class Class
	Faint bool // a warning
	Off   bool
	Count int // cables; shown when more than one
	Title string
}

// firstAt is what the first place that a finding is drawn at is called by, or 0.
func (d *drawing) firstAt(i int) int {
	for _, p := range d.at[i] {
		if p.drawn {
			return p.id
		}
	}
	return 0
}

// spot describes a place: the gravest of its findings gives the sign.
func (d *drawing) spot(p *place, title string) spot {
	s := spot{Title: title, Count: 1}
	if len(p.marks) == 0 {
		return s
	}
	if !p.drawn {
		s.ID, p.drawn = p.id, true
	}
	worst := p.marks[0]
	text := make([]string, len(p.marks))
	for n, i := range p.marks {
		text[n] = d.brief[i]
		if d.all[worst].Severity != Error && d.all[i].Severity == Error {
			worst = i
		}
	}
	s.Link, s.Class, s.Faint = worst+1, d.all[worst].Class, d.all[worst].Severity != Error
	s.Title += "\n" + strings.Join(text, "\n")
	return s
}
