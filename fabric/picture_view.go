package fabric

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"firstlight/inventory"
)

// unitRow is a row of the matrix: leaves that the same nodes are cabled to.
type unitRow struct {
	Name  string
	Nodes string // folded
	Cells [][]leafCell
}

// leafCell is a leaf with the links of its nodes.
type leafCell struct {
	Name  string
	Head  spot
	Links []spot // by port
	Loose []spot // ports with a finding and no cable
}

// matrix are the columns and rows of leaves.
func (d *drawing) matrix() (rails []string, rows []unitRow) {
	seen := map[string]bool{}
	for _, dev := range d.order {
		if dev.tier == 1 {
			seen[dev.rail] = true
		}
	}
	rails = slices.SortedFunc(maps.Keys(seen), func(a, b string) int {
		if a == "" || b == "" { // what takes any comes last
			return -strings.Compare(a, b)
		}
		return inventory.CompareNames(a, b)
	})
	for i, unit := range d.units() {
		row := unitRow{Name: fmt.Sprintf("unit %d", i+1), Cells: make([][]leafCell, len(rails))}
		if len(unit) == 1 {
			row.Name = unit[0].ref.Name
		}
		hosts := map[string]bool{}
		for _, leaf := range unit {
			col := slices.Index(rails, leaf.rail)
			row.Cells[col] = append(row.Cells[col], d.leafCell(leaf))
			for _, w := range leaf.wires {
				if h := w.other(leaf).dev; !h.isSwitch && d.home(h, unit) {
					hosts[h.ref.Name] = true
				}
			}
		}
		row.Nodes = inventory.Fold(sortedKeys(hosts))
		rows = append(rows, row)
	}
	return rails, rows
}

// home reports that most cables of a node lead to a unit.
func (d *drawing) home(host *drawn, unit []*drawn) bool {
	n := 0
	for _, w := range host.wires {
		if slices.Contains(unit, w.other(host).dev) {
			n++
		}
	}
	return n*2 >= len(host.wires)
}

// units groups leaves that share half of their nodes or more, so that a cable in
// a wrong place does not make two units one.
func (d *drawing) units() [][]*drawn {
	shared, hosts := map[[2]*drawn]int{}, map[*drawn]int{}
	g := newGroups()
	for _, dev := range d.order {
		if dev.tier == 1 {
			g.find(dev)
		}
		if dev.isSwitch {
			continue
		}
		var leaves []*drawn
		for _, w := range dev.wires {
			if leaf := w.other(dev).dev; leaf.tier == 1 && !slices.Contains(leaves, leaf) {
				leaves = append(leaves, leaf)
			}
		}
		slices.SortFunc(leaves, func(a, b *drawn) int { return inventory.CompareNames(a.ref.Name, b.ref.Name) })
		for i, a := range leaves {
			hosts[a]++
			for _, b := range leaves[:i] {
				shared[[2]*drawn{b, a}]++
			}
		}
	}
	for pair, n := range shared {
		if n*2 >= min(hosts[pair[0]], hosts[pair[1]]) {
			g.join(pair[0], pair[1])
		}
	}
	return g.all()
}

func (d *drawing) leafCell(leaf *drawn) leafCell {
	c := leafCell{Name: leaf.ref.Name, Head: d.spot(&leaf.head, leaf.ref.Name+standsAt(leaf.ref)), Loose: d.looseSpots(leaf)}
	wires := slices.Clone(leaf.wires)
	slices.SortStableFunc(wires, func(a, b *wire) int {
		return inventory.CompareNames(a.side(leaf).port.Port, b.side(leaf).port.Port)
	})
	for _, w := range wires {
		if w.adjoining() {
			continue
		}
		far := w.other(leaf)
		s := d.spot(w.cell, fmt.Sprintf("%s · %s", far.port, w.side(leaf).port))
		s.Off = far.dev.off
		c.Links = append(c.Links, s)
	}
	return c
}

func (w *wire) side(dev *drawn) wireSide {
	if w.low.dev == dev {
		return w.low
	}
	return w.high
}

func (d *drawing) looseSpots(dev *drawn) (out []spot) {
	slices.SortStableFunc(dev.loose, func(a, b *loosePort) int { return inventory.CompareNames(a.port.Port, b.port.Port) })
	for _, l := range dev.loose {
		out = append(out, d.spot(&l.place, l.port.String()+": no cable is drawn here"))
	}
	return out
}

// uplinkMap is a grid of switches of two tiers.
type uplinkMap struct {
	Title string
	Grids []uplinkGrid
}

type uplinkGrid struct {
	Name    string
	Columns []switchHead
	Rows    []uplinkRow
}

type switchHead struct {
	Name  string
	Head  spot
	Loose []spot
}

type uplinkRow struct {
	switchHead
	Cells []spot // Count is 0 where there is no cable
}

// tierNames are what the tiers are called.
var tierNames = map[int]string{1: "leaf", 2: "spine", 3: "core"}

func tierName(t int) string { return cmp.Or(tierNames[t], fmt.Sprintf("tier %d", t)) }

// maps are the grids of uplinks, tier by tier: a grid for each part that has no
// cable to the others, which is a pod, or a group of core switches.
func (d *drawing) maps() (out []uplinkMap) {
	top := 0
	for _, dev := range d.order {
		top = max(top, dev.tier)
	}
	for tier := 1; tier < top; tier++ {
		g, up := newGroups(), uplinkCells{}
		for _, w := range d.wires {
			if w.adjoining() && w.low.dev.tier == tier {
				g.join(w.low.dev, w.high.dev)
				c := up[[2]*drawn{w.low.dev, w.high.dev}]
				up[[2]*drawn{w.low.dev, w.high.dev}] = uplinkCell{w.cell, c.cables + 1}
			}
		}
		m := uplinkMap{Title: tierName(tier) + " × " + tierName(tier+1)}
		parts := g.all()
		for i, part := range parts {
			grid := d.grid(part, tier, up)
			if len(parts) > 1 {
				grid.Name = fmt.Sprintf("%s %d", map[bool]string{true: "pod", false: "group"}[tier == 1], i+1)
			}
			m.Grids = append(m.Grids, grid)
		}
		if len(m.Grids) > 0 {
			out = append(out, m)
		}
	}
	return out
}

// uplinkCells are the cells of a map by the switches that they join.
type uplinkCells map[[2]*drawn]uplinkCell

type uplinkCell struct {
	*place
	cables int
}

// grid has the lower switches of a part in its rows.
func (d *drawing) grid(part []*drawn, tier int, up uplinkCells) (grid uplinkGrid) {
	var columns []*drawn
	for _, dev := range part {
		if dev.tier > tier {
			columns = append(columns, dev)
			grid.Columns = append(grid.Columns, d.switchHead(dev))
		}
	}
	for _, dev := range part {
		if dev.tier > tier {
			continue
		}
		row := uplinkRow{switchHead: d.switchHead(dev)}
		for _, over := range columns {
			row.Cells = append(row.Cells, d.uplink(dev, over, up[[2]*drawn{dev, over}]))
		}
		grid.Rows = append(grid.Rows, row)
	}
	return grid
}

func (d *drawing) uplink(low, high *drawn, c uplinkCell) spot {
	if c.cables == 0 {
		return spot{}
	}
	title := low.ref.Name + " – " + high.ref.Name
	if c.cables > 1 {
		title += fmt.Sprintf(", %d cables", c.cables)
	}
	s := d.spot(c.place, title)
	s.Count = c.cables
	return s
}

// switchHead names a switch at the edge of a grid. A leaf's ports are in the
// matrix.
func (d *drawing) switchHead(dev *drawn) switchHead {
	h := switchHead{Name: dev.ref.Name, Head: d.spot(&dev.head, dev.ref.Name+standsAt(dev.ref))}
	if dev.tier > 1 {
		h.Loose = d.looseSpots(dev)
	}
	return h
}

// groups are sets of devices that belong together.
type groups struct {
	up    map[*drawn]*drawn
	order []*drawn
}

func newGroups() *groups { return &groups{up: map[*drawn]*drawn{}} }

func (g *groups) find(dev *drawn) *drawn {
	if g.up[dev] == nil {
		g.up[dev] = dev
		g.order = append(g.order, dev)
	}
	for g.up[dev] != dev {
		g.up[dev] = g.up[g.up[dev]]
		dev = g.up[dev]
	}
	return dev
}

func (g *groups) join(a, b *drawn) { g.up[g.find(a)] = g.find(b) }

// all are the groups in natural order of their first names.
func (g *groups) all() (out [][]*drawn) {
	slices.SortFunc(g.order, func(a, b *drawn) int { return inventory.CompareNames(a.ref.Name, b.ref.Name) })
	at := map[*drawn]int{}
	for _, dev := range g.order {
		root := g.find(dev)
		i, ok := at[root]
		if !ok {
			i = len(out)
			at[root] = i
			out = append(out, nil)
		}
		out[i] = append(out[i], dev)
	}
	return out
}
