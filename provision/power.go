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

// loadOf is what a node is to the budgets while it starts.
func loadOf(n *inventory.Node, settle time.Duration) pacing.Load {
	l := pacing.Load{Node: n.Name, Settle: settle}
	if n.Hardware != nil {
		l.Watts = watts(n.Hardware.Power)
	}
	if n.Rack != nil {
		l.Circuits = append(l.Circuits, rackCircuit(n.Rack))
		for _, f := range n.Rack.Feeds {
			l.Circuits = append(l.Circuits, feedCircuit(f))
		}
	}
	return l
}

// pace puts the nodes that a plan switches on into waves.
func (p *Plan) pace(want Want) {
	limits := circuits(want.Cluster)
	if len(limits) == 0 {
		return
	}
	var loads []pacing.Load
	steps := map[string]*PlanStep{}
	for i := range p.Nodes {
		if s := &p.Nodes[i]; s.switchedOn {
			steps[s.Name] = s
			loads = append(loads, loadOf(s.node, 0))
		}
	}
	waves, never := pacing.Waves(limits, loads)
	for i, w := range waves {
		p.Waves = append(p.Waves, Wave{Nodes: w.Nodes, Watts: w.Watts, Draws: w.Draws})
		for _, name := range w.Nodes {
			steps[name].Wave = i + 1
		}
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
