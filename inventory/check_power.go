package inventory

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
)

// checkPower holds the sum of nameplates against the budget of a block. what
// begins the message.
func (ev *evaluator) checkPower(in *inst, what string, budget Power, stands []mounted) {
	if budget.Watts == 0 {
		return
	}
	type class struct {
		name  string
		power Power
	}
	sum, counts := 0.0, map[class]int{}
	var order []class
	for _, m := range stands {
		sum += m.power.Watts
		k := class{m.class, m.power}
		if m.power.Watts > 0 && counts[k] == 0 {
			order = append(order, k)
		}
		counts[k]++
	}
	if sum <= budget.Watts {
		return
	}
	var parts []string
	for _, k := range order {
		parts = append(parts, fmt.Sprintf("%d x %s of %s", counts[k], k.power, k.name))
	}
	slices.Sort(parts)
	ev.errorAt(in.at("power_budget"), in.each, "Power budget exceeded", "%s may draw %gkW, and its budget is %s: %s.",
		what, sum/1000, budget, strings.Join(parts, ", "))
}

// checkFeeds holds all racks on a feed against its budget.
func (ev *evaluator) checkFeeds(racks map[*Rack][]mounted) {
	fed := map[*Feed][]mounted{}
	for _, in := range ev.insts("rack") {
		rack, ok := in.obj.(*Rack)
		if !ok {
			continue
		}
		for i, f := range rack.Feeds {
			if slices.Contains(rack.Feeds[:i], f) {
				ev.errorAt(in.at("feeds"), in.each, "Duplicate feed", "Rack %q names feed %q twice.", rack.Name, f.Name)
				continue
			}
			fed[f] = append(fed[f], racks[rack]...)
		}
	}
	for _, in := range ev.insts("feed") {
		if f, ok := in.obj.(*Feed); ok {
			ev.checkPower(in, fmt.Sprintf("What feed %q feeds", f.Name), f.PowerBudget, fed[f])
		}
	}
}

// checkPowerOn finds nodes that could never be switched on: those whose draw
// nothing tells, and those that draw more than a power-on budget of theirs. A
// class is told of once.
func (ev *evaluator) checkPowerOn(in *inst, rack *Rack) {
	type limit struct {
		name   string
		budget Power
		rng    hcl.Range
	}
	limits := []limit{{fmt.Sprintf("rack %q", rack.Name), rack.PowerOnBudget, in.at("power_on_budget")}}
	for _, f := range rack.Feeds {
		limits = append(limits, limit{fmt.Sprintf("feed %q", f.Name), f.PowerOnBudget, in.at("feeds")})
	}
	told := map[*Hardware]bool{}
	for _, node := range ev.insts("node") {
		hw := object[Hardware](node, "hardware")
		if object[Rack](node, "rack") != rack || told[hw] {
			continue
		}
		for _, l := range limits {
			switch {
			case l.budget.Watts == 0:
				continue
			case hw == nil:
				ev.errorAt(l.rng, in.each, "Unknown draw of a node", "Nodes of rack %q are switched on within the %s of %s, and nothing says what node %q (%s) draws: give it a hardware with a power.",
					rack.Name, l.budget, l.name, node.name, ev.place(node.rng))
			case hw.Power.Watts == 0:
				ev.errorAt(l.rng, in.each, "Unknown draw of a node", "Nodes of rack %q are switched on within the %s of %s, and hardware %q (%s) does not say what one draws: give it a power.",
					rack.Name, l.budget, l.name, hw.Name, ev.place(hw.Range))
			case hw.Power.Watts > l.budget.Watts:
				ev.errorAt(l.rng, in.each, "Node that can never be switched on", "A node of hardware %q (%s) draws %s, and %s has %s for nodes that start.",
					hw.Name, ev.place(hw.Range), hw.Power, l.name, l.budget)
			default:
				continue
			}
			told[hw] = true
			break
		}
	}
}
