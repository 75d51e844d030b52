package provision

import (
	"math"

	"firstlight/inventory"
)

// Summary counts a plan's steps. Duration is an estimate in seconds.
type Summary struct {
	BringUp      int     `json:"bring_up"`
	Change       int     `json:"change"`
	Remove       int     `json:"remove"`
	NoChange     int     `json:"no_change"`
	Held         int     `json:"held"`
	PowerCycles  int     `json:"power_cycles"`
	Reboots      int     `json:"reboots"`
	DiskErasures int     `json:"disk_erasures"`
	BurnInS      float64 `json:"burn_in_s"` // of the node that burns in longest
	DurationS    float64 `json:"duration_s"`
}

// Part counts the steps of one rack or one hardware class. Name is "" for
// nodes of none, and for those that the inventory no longer declares.
type Part struct {
	Name         string  `json:"name"`
	BringUp      int     `json:"bring_up"`
	Change       int     `json:"change"`
	Remove       int     `json:"remove"`
	NoChange     int     `json:"no_change"`
	Held         int     `json:"held"`
	PowerCycles  int     `json:"power_cycles"`
	Reboots      int     `json:"reboots"`
	DiskErasures int     `json:"disk_erasures"`
	BurnInS      float64 `json:"burn_in_s"` // of the node that burns in longest
}

// count adds a step.
func (p *Part) count(s PlanStep) {
	switch s.Action {
	case ActionBringUp:
		p.BringUp++
	case ActionChange:
		p.Change++
	case ActionRemove:
		p.Remove++
	case ActionHeld:
		p.Held++
	default:
		p.NoChange++
	}
	p.PowerCycles += s.Disruption.PowerCycles
	p.Reboots += s.Disruption.Reboots
	p.DiskErasures += s.Disruption.DiskErasures
	p.BurnInS = max(p.BurnInS, s.Disruption.BurnInS)
}

// tally counts steps by the name that of gives them, in the order in which the
// names appear, and leaves out those where nothing happens.
func tally(steps []PlanStep, of func(PlanStep) string) []Part {
	index := map[string]int{}
	var all []Part
	for _, s := range steps {
		name := of(s)
		i, ok := index[name]
		if !ok {
			i = len(all)
			index[name] = i
			all = append(all, Part{Name: name})
		}
		all[i].count(s)
	}
	out := []Part{}
	for _, p := range all {
		if p.BringUp+p.Change+p.Remove+p.Held > 0 {
			out = append(out, p)
		}
	}
	return out
}

// summarise counts. The duration is that of waves of `concurrency` nodes, longer
// where they are switched on in more waves than that, and of the longest burn-in
// once: nodes burn in beside each other.
func (p *Plan) summarise(c *inventory.Cluster) {
	var total Part
	longest := 0.0
	working := 0
	for _, s := range p.Nodes {
		total.count(s)
		if s.DurationS > 0 {
			working++
		}
		longest = max(longest, s.DurationS-s.Disruption.BurnInS)
	}
	waves := math.Ceil(float64(working) / float64(max(c.Settings.Concurrency, 1)))
	p.Summary = Summary{BringUp: total.BringUp, Change: total.Change, Remove: total.Remove, NoChange: total.NoChange, Held: total.Held,
		PowerCycles: total.PowerCycles, Reboots: total.Reboots, DiskErasures: total.DiskErasures, BurnInS: total.BurnInS,
		DurationS: longest*waves + p.pacedDuration(c, waves) + total.BurnInS}
	p.ByRack = tally(p.Nodes, func(s PlanStep) string { return s.Rack })
	p.ByHardware = tally(p.Nodes, func(s PlanStep) string { return s.Hardware })
}
