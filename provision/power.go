package provision

import (
	"fmt"
	"math"
	"time"

	"firstlight/inventory"
	"firstlight/provision/bmc/pacing"
)

// Wave is the nodes that a plan switches on beside each other; the next wave
// follows when they have started.
type Wave struct {
	Nodes []string      `json:"nodes"`
	Watts int64         `json:"watts"` // that they draw together
	Draws []pacing.Draw `json:"draws"` // of the racks and feeds with a power-on budget
	// Measured is how many of them count what their BMC has measured, where the
	// controller declares that; the others count their nameplate. Null: all do.
	Measured *int `json:"measured,omitempty"`
}

// watts rounds what is declared to whole watts.
func watts(p inventory.Power) int64 { return int64(math.Round(p.Watts)) }

func rackCircuit(r *inventory.Rack) string { return "rack " + r.Name }

func feedCircuit(f *inventory.Feed) string { return "feed " + f.Name }

// circuits are the power-on budgets that are declared.
func circuits(c *inventory.Cluster) []pacing.Circuit {
	var out []pacing.Circuit
	seen := map[string]bool{}
	add := func(name string, budget inventory.Power) {
		if budget.Watts > 0 && !seen[name] {
			seen[name] = true
			out = append(out, pacing.Circuit{Name: name, Watts: watts(budget)})
		}
	}
	for _, n := range c.Nodes {
		if n.Rack == nil {
			continue
		}
		add(rackCircuit(n.Rack), n.Rack.PowerOnBudget)
		for _, f := range n.Rack.Feeds {
			add(feedCircuit(f), f.PowerOnBudget)
		}
	}
	return out
}

// loadOf is what a node, of which this is known, is to the budgets while it starts.
func loadOf(c *inventory.Cluster, n *inventory.Node, k Node, settle time.Duration) pacing.Load {
	l := pacing.Load{Node: n.Name, Settle: settle}
	l.Watts, _ = drawOf(c, n, k)
	if n.Rack != nil {
		l.Circuits = append(l.Circuits, rackCircuit(n.Rack))
		for _, f := range n.Rack.Feeds {
			l.Circuits = append(l.Circuits, feedCircuit(f))
		}
	}
	return l
}

// pace puts the nodes that a plan switches on into waves.
func (p *Plan) pace(want Want, have Known) {
	limits := circuits(want.Cluster)
	if len(limits) == 0 {
		return
	}
	var loads []pacing.Load
	steps := map[string]*PlanStep{}
	for i := range p.Nodes {
		if s := &p.Nodes[i]; s.switchedOn {
			steps[s.Name] = s
			loads = append(loads, loadOf(want.Cluster, s.node, have.Node(s.Name), 0))
		}
	}
	waves, never := pacing.Waves(limits, loads)
	for i, w := range waves {
		wave := Wave{Nodes: w.Nodes, Watts: w.Watts, Draws: w.Draws}
		if want.Cluster.Settings.PowerMeasured {
			wave.Measured = new(int)
		}
		for _, name := range w.Nodes {
			steps[name].Wave = i + 1
			if _, measured := drawOf(want.Cluster, steps[name].node, have.Node(name)); measured {
				*wave.Measured++
			}
		}
		p.Waves = append(p.Waves, wave)
	}
	for name, err := range never {
		steps[name].Reasons = append(steps[name].Reasons, fmt.Sprintf("it will not be switched on: %v", err))
	}
}

// pacedDuration is how much longer a plan takes because of its waves and of the
// rate at which nodes are switched on. atOnce is the waves that it takes anyway.
func (p *Plan) pacedDuration(c *inventory.Cluster, atOnce float64) float64 {
	st, _ := StageOf(Enrolled)
	start := st.Estimate
	if c.Lab != nil {
		start = st.InLab
	}
	more := max(0, float64(len(p.Waves))-atOnce) * start.Seconds()
	if rate := c.Settings.PowerOnRate; rate > 0 {
		on := 0
		for _, s := range p.Nodes {
			if s.switchedOn {
				on++
			}
		}
		more = max(more, float64(on)/rate)
	}
	return more
}
