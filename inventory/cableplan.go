package inventory

import (
	"cmp"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"
)

// The run of a cable is estimated from where its ends stand, in metres. Cables
// go up to a tray above the racks, along the row, and across rows.
const (
	unitHeight  = 0.04445 // a rack unit (EIA-310)
	rackWidth   = 0.6     // from one position of a row to the next
	rowPitch    = 2.4     // from one row to the next: a rack and an aisle
	aboveRack   = 0.5     // from the top of a rack to the tray
	slack       = 0.5     // loose at both ends together
	copperReach = 3       // passive copper, inside a rack
)

// cableLengths are what cables are sold in, in metres.
var cableLengths = []int{1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 100}

// CableEnd is one end of a cable, as an installer finds it.
type CableEnd struct {
	Device string
	Port   string // as it is declared
	Label  string // as it is printed at the port
	Rack   *Rack  // nil when not declared
	Unit   int    // 0 when not declared
}

// CableRun is a cable with what it takes to lay it. Length and Class are 0 and
// "" where a rack of an end, or its place in the row, is not declared.
type CableRun struct {
	Fabric string
	Tier   string // of a topology: "node-leaf", "leaf-spine", "spine-core"; else ""
	A, B   CableEnd
	Rate   LinkRate
	Length float64 // estimated, metres
	Class  string  // "3m copper", "15m optical", "over 100m"
	Range  hcl.Range
}

// CablePlan is every cable of a fabric in the order of its A ends: by rack,
// unit, device and port.
func (c *Cluster) CablePlan(f *Fabric) []CableRun {
	p := newCablePlanner(c, f)
	runs := make([]CableRun, len(f.Cables))
	for i := range f.Cables {
		runs[i] = p.run(&f.Cables[i])
	}
	rackOf := func(r *Rack) string {
		if r == nil {
			return ""
		}
		return r.Name
	}
	slices.SortStableFunc(runs, func(x, y CableRun) int {
		a, b := x.A, y.A
		if a.Device != b.Device {
			return cmp.Or(natural(rackOf(a.Rack), rackOf(b.Rack)), cmp.Compare(a.Unit, b.Unit), natural(a.Device, b.Device))
		}
		return natural(a.Port, b.Port)
	})
	return runs
}

// placed is a device that cables can end at.
type placed struct {
	rack *Rack
	unit int
	sw   *Switch
	node *Node
}

// cablePlanner knows where everything stands.
type cablePlanner struct {
	fabric  *Fabric
	devices map[string]placed
	rows    map[string]int // by label, in natural order
}

func newCablePlanner(c *Cluster, f *Fabric) *cablePlanner {
	p := &cablePlanner{fabric: f, devices: make(map[string]placed, len(c.Nodes)+len(c.Switches)), rows: map[string]int{}}
	for _, n := range c.Nodes {
		p.devices[n.Name] = placed{rack: n.Rack, unit: n.Unit, node: n}
	}
	for _, s := range c.Switches {
		p.devices[s.Name] = placed{rack: s.Rack, unit: s.Unit, sw: s}
	}
	if f.Topology != nil {
		for _, a := range f.Topology.Appliances {
			p.devices[a.Name] = placed{rack: a.Rack, unit: a.Unit}
		}
	}
	var rows []string
	for _, r := range c.Racks {
		if r.Row != "" && !slices.Contains(rows, r.Row) {
			rows = append(rows, r.Row)
		}
	}
	slices.SortFunc(rows, natural)
	for i, r := range rows {
		p.rows[r] = i
	}
	return p
}

func (p *cablePlanner) run(c *Cable) CableRun {
	a, b := p.devices[c.ADevice], p.devices[c.BDevice]
	r := CableRun{Fabric: p.fabric.Name, Tier: c.Tier, A: a.end(c.ADevice, c.APort), B: b.end(c.BDevice, c.BPort), Rate: p.rate(a, b, c), Range: c.Range}
	if length, ok := p.length(a, b); ok {
		r.Length, r.Class = math.Round(length*10)/10, cableClass(length, a.rack == b.rack)
	}
	return r
}

func (d placed) end(device, port string) CableEnd {
	label := port
	if d.sw != nil && d.sw.Model != nil {
		if n, err := strconv.Atoi(port); err == nil {
			label = d.sw.PortLabel(n)
		}
	}
	return CableEnd{Device: device, Port: port, Label: label, Rack: d.rack, Unit: d.unit}
}

// rate is what the adapter at one end is declared to run at; else the fabric's;
// else the most that both ends have. A faster port limits nothing.
func (p *cablePlanner) rate(a, b placed, c *Cable) LinkRate {
	for _, end := range []struct {
		node *Node
		port string
	}{{a.node, c.APort}, {b.node, c.BPort}} {
		if end.node == nil || end.node.Hardware == nil {
			continue
		}
		for i := range end.node.Hardware.HCAs {
			if h := &end.node.Hardware.HCAs[i]; h.Name == end.port && h.Rate.Text != "" {
				return h.Rate
			}
		}
	}
	if p.fabric.Rate.Text != "" {
		return p.fabric.Rate
	}
	var least LinkRate
	for _, d := range []placed{a, b} {
		if d.sw == nil {
			continue
		}
		if r := d.sw.PortRate(); r.Text != "" && (least.Text == "" || r.BitsPerSecond < least.BitsPerSecond) {
			least = r
		}
	}
	return least
}

// length estimates the run between two devices.
func (p *cablePlanner) length(a, b placed) (float64, bool) {
	if a.rack == nil || b.rack == nil {
		return 0, false
	}
	if a.rack == b.rack {
		span := float64(a.rack.Height)
		if a.unit > 0 && b.unit > 0 {
			span = math.Abs(float64(a.unit - b.unit))
		}
		return span*unitHeight + slack, true
	}
	for _, r := range []*Rack{a.rack, b.rack} {
		if r.Row == "" || r.Position == 0 {
			return 0, false
		}
	}
	along := math.Abs(float64(a.rack.Position-b.rack.Position)) * rackWidth
	across := math.Abs(float64(p.rows[a.rack.Row]-p.rows[b.rack.Row])) * rowPitch
	return a.rise() + along + across + b.rise() + slack, true
}

// rise is from a device up to the tray; of one whose unit is not declared, from
// the bottom of its rack.
func (d placed) rise() float64 {
	return float64(d.rack.Height-d.unit)*unitHeight + aboveRack
}

// cableClass is the shortest cable that reaches.
func cableClass(length float64, inRack bool) string {
	for _, l := range cableLengths {
		switch {
		case float64(l) < length:
		case inRack && l <= copperReach:
			return fmt.Sprintf("%dm copper", l)
		default:
			return fmt.Sprintf("%dm optical", l)
		}
	}
	return fmt.Sprintf("over %dm", cableLengths[len(cableLengths)-1])
}

// PortLabel is what is printed at a port of the switch: its number; or its cage
// and its place in it, where a cage has several ports; then the lane, where
// ports are split. Port 68 of a split QM9700 is 17/2/2.
func (s *Switch) PortLabel(port int) string {
	if s.Model == nil {
		return strconv.Itoa(port)
	}
	lane := 0
	if s.Split && s.Model.Split > 1 {
		port, lane = (port-1)/s.Model.Split+1, (port-1)%s.Model.Split+1
	}
	label := strconv.Itoa(port)
	if per := s.Model.CagePorts; per > 1 {
		label = strconv.Itoa((port-1)/per+1) + "/" + strconv.Itoa((port-1)%per+1)
	}
	if lane > 0 {
		label += "/" + strconv.Itoa(lane)
	}
	return label
}

// SelectDevices returns the names that targets choose among all devices that
// cables can end at: nodes and switches by name or host list, and all that stands
// in rack=NAME. A target that names nothing is an error.
func (c *Cluster) SelectDevices(targets []string) (map[string]bool, error) {
	all := map[string]*Rack{}
	for _, n := range c.Nodes {
		all[n.Name] = n.Rack
	}
	for _, s := range c.Switches {
		all[s.Name] = s.Rack
	}
	for _, f := range c.Fabrics {
		for _, name := range f.Others {
			all[name] = nil
		}
		if f.Topology != nil {
			for _, a := range f.Topology.Appliances {
				all[a.Name] = a.Rack
			}
		}
	}
	chosen := map[string]bool{}
	for _, t := range targets {
		if _, value, isField := strings.Cut(t, "="); isField {
			if _, err := c.Select([]string{t}); err != nil {
				return nil, err
			}
			racks, err := Hostlist(value)
			if err != nil {
				return nil, fmt.Errorf("target: %w", err)
			}
			for name, rack := range all {
				if rack != nil && slices.Contains(racks, rack.Name) {
					chosen[name] = true
				}
			}
			continue
		}
		list, err := Hostlist(t)
		if err != nil {
			return nil, fmt.Errorf("target: %w", err)
		}
		for _, name := range list {
			if _, ok := all[name]; !ok {
				return nil, fmt.Errorf("target %q: no node or switch %s is declared%s", t, name, hint(name, keys(all)))
			}
			chosen[name] = true
		}
	}
	return chosen, nil
}

// DeclaredAt names a line as diagnostics inside the configuration do:
// "cables.csv:131", relative to its directory.
func (c *Cluster) DeclaredAt(rng hcl.Range) string {
	file := rng.Filename
	if abs, err := filepath.Abs(file); err == nil {
		if rel, err := filepath.Rel(c.Dir, abs); err == nil && filepath.IsLocal(rel) {
			file = rel
		}
	}
	return fmt.Sprintf("%s:%d", file, rng.Start.Line)
}
