package inventory

import (
	"fmt"

	"github.com/hashicorp/hcl/v2"
)

// mounted is what stands in a rack: a node or a switch.
type mounted struct {
	in          *inst     // nil for what a topology made
	rng         hcl.Range // then the part of the topology
	label       string
	unit, units int
	class       string // hardware or switch model, for sums of power
	power       Power
}

// checkRacks checks what stands in each rack: units used once and inside the
// rack, and its power.
func (ev *evaluator) checkRacks(c *Cluster) {
	racks := map[*Rack][]mounted{}
	for _, in := range ev.insts("node") {
		rack := object[Rack](in, "rack")
		if rack == nil {
			continue
		}
		m := mounted{in: in, label: in.label(), unit: get[int](in, "unit"), units: 1}
		if hw := object[Hardware](in, "hardware"); hw != nil {
			m.units, m.class, m.power = hw.Units, fmt.Sprintf("hardware %q", hw.Name), hw.Power
		}
		racks[rack] = append(racks[rack], m)
	}
	for _, s := range c.Switches {
		if s.Rack == nil || s.Model == nil {
			continue
		}
		m := mounted{rng: s.Range, label: fmt.Sprintf("switch %q", s.Name), unit: s.Unit, units: s.Model.Units,
			class: fmt.Sprintf("switch_model %q", s.Model.Name), power: s.Model.Power}
		if s.Fabric == "" {
			m.in = ev.named["switch"][s.Name]
		}
		racks[s.Rack] = append(racks[s.Rack], m)
	}
	for _, name := range keys(c.Fabrics) {
		f := c.Fabrics[name]
		if f.Topology == nil {
			continue
		}
		for _, a := range f.Topology.Appliances {
			racks[a.Rack] = append(racks[a.Rack], mounted{rng: a.Range, label: fmt.Sprintf("appliance %q", a.Name), unit: a.Unit, units: 1})
		}
	}
	places := newClaims[string](ev, "rack position")
	for _, in := range ev.insts("rack") {
		rack, ok := in.obj.(*Rack)
		if !ok {
			continue
		}
		if rack.Row != "" && rack.Position > 0 {
			where := fmt.Sprintf("%d of row %s", rack.Position, rack.Row)
			places.take(where, where, claim{in: in, attr: "position"})
		}
		ev.checkUnits(rack, racks[rack])
		ev.checkPower(in, fmt.Sprintf("What stands in rack %q", rack.Name), rack.PowerBudget, racks[rack])
		ev.checkPowerOn(in, rack)
	}
	ev.checkFeeds(racks)
}

// checkUnits finds rack units used twice, and those above the rack.
func (ev *evaluator) checkUnits(rack *Rack, stands []mounted) {
	owner := map[int]mounted{}
	for _, m := range stands {
		if m.unit == 0 {
			continue
		}
		top := m.unit + m.units - 1
		if top > rack.Height && rack.Height > 0 {
			ev.standsAt(m, "Unit outside the rack", "%s of %s: the top of rack %q is unit %d.", capital(unitText(m.unit, top)), m.label, rack.Name, rack.Height)
			continue
		}
		for u := m.unit; u <= top; u++ {
			if old, taken := owner[u]; taken {
				at := ev.place(old.rng)
				if old.in != nil {
					at = ev.origin(old.in, "unit")
				}
				ev.standsAt(m, "Duplicate rack unit", "%s of rack %q is taken twice: %s stands at %s, %s at %s (%s).",
					capital(unitText(u, u)), rack.Name, m.label, unitText(m.unit, top), old.label, unitText(old.unit, old.unit+old.units-1), at)
				break
			}
			owner[u] = m
		}
	}
}

// standsAt records a mistake at the unit of what stands in a rack, or at the
// part of a topology that put it there.
func (ev *evaluator) standsAt(m mounted, summary, format string, args ...any) {
	if m.in == nil {
		ev.errorAt(m.rng, nil, summary, format, args...)
		return
	}
	ev.errorAt(m.in.at("unit"), m.in.each, summary, format, args...)
}

func unitText(low, top int) string {
	if low == top {
		return fmt.Sprintf("unit %d", low)
	}
	return fmt.Sprintf("units %d-%d", low, top)
}
