package provision

import (
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"sort"
	"time"

	"github.com/hashicorp/hcl/v2"

	"firstlight/inventory"
)

// Plan actions.
const (
	ActionBringUp = "bring-up" // +
	ActionChange  = "change"   // ~
	ActionRemove  = "remove"   // -
	ActionNone    = "none"     // nothing to do
	ActionHeld    = "held"     // a person must act first
)

// Plan is what apply would do. It holds no secret.
type Plan struct {
	Serial    int64      `json:"serial"`    // of the journal it was made from
	Inventory string     `json:"inventory"` // digest of the declaration
	Cluster   string     `json:"cluster"`
	Targets   []string   `json:"targets,omitempty"`
	Summary   Summary    `json:"summary"`
	Nodes     []PlanStep `json:"nodes"`
}

// Summary counts a plan's steps. Duration is an estimate in seconds.
type Summary struct {
	BringUp      int     `json:"bring_up"`
	Change       int     `json:"change"`
	Remove       int     `json:"remove"`
	NoChange     int     `json:"no_change"`
	Held         int     `json:"held"`
	PowerCycles  int     `json:"power_cycles"`
	DiskErasures int     `json:"disk_erasures"`
	DurationS    float64 `json:"duration_s"`
}

// PlanStep is one node's part.
type PlanStep struct {
	Name       string     `json:"name"`
	Rack       string     `json:"rack"`
	Action     string     `json:"action"`
	From       State      `json:"from"`
	To         State      `json:"to"`
	Reasons    []string   `json:"reasons"`
	Disruption Disruption `json:"disruption"`
	Redo       []State    `json:"redo,omitempty"`
	Release    bool       `json:"release,omitempty"` // what held it has changed
	DurationS  float64    `json:"duration_s"`
}

// Disruption is what a step does to a node that may be in use.
type Disruption struct {
	PowerCycles  int `json:"power_cycles"`
	Reboots      int `json:"reboots"`
	DiskErasures int `json:"disk_erasures"`
}

// Changes reports whether apply would do anything.
func (p Plan) Changes() bool { return p.Summary.BringUp+p.Summary.Change+p.Summary.Remove > 0 }

// MakePlan compares what is wanted with what is known. It is pure: no clock,
// no I/O, no randomness. Targets nil means every node; otherwise only the
// nodes named, and nothing is removed.
func MakePlan(want Want, have Known, targets []*inventory.Node, now time.Time) Plan {
	p := Plan{Serial: have.Serial, Inventory: want.Cluster.Digest, Cluster: want.Cluster.Name}
	nodes := want.Cluster.Nodes
	if targets != nil {
		nodes = targets
		for _, n := range targets {
			p.Targets = append(p.Targets, n.Name)
		}
	}
	for _, n := range nodes {
		p.Nodes = append(p.Nodes, planNode(want, n, have.Node(n.Name)))
	}
	if targets == nil {
		p.Nodes = append(p.Nodes, planRemovals(want.Cluster, have)...)
	}
	p.summarise(want.Cluster.Settings.Concurrency)
	return p
}

func planNode(want Want, n *inventory.Node, known Node) PlanStep {
	s := PlanStep{Name: n.Name, From: known.State, To: Ready, Reasons: []string{}}
	if n.Rack != nil {
		s.Rack = n.Rack.Name
	}
	facets := want.Facets(n)
	switch known.State {
	case Maintenance:
		return s.held("in maintenance: " + orUnsaid(known.Reason))
	case Quarantined:
		r := known.Refused
		changed := []string(nil)
		if r != nil && r.Facets != nil {
			changed = differences(r.Facets, only(facets, stagePrefixes(Reachable)))
		}
		if changed == nil {
			return s.held("quarantined: " + orUnsaid(known.Reason) + fmt.Sprintf("; after mending it: firstlight release %s", n.Name))
		}
		s.Release = true
		s.Reasons = append(s.Reasons, changed...)
	case Failed:
		s.Reasons = append(s.Reasons, "failed before: "+known.Reason)
	}
	s.Redo = fallen(known, facets, &s.Reasons)
	s.decide(n, known, want.Cluster.Lab != nil)
	return s
}

// decide sets the action from the proofs that are missing or have fallen.
func (s *PlanStep) decide(n *inventory.Node, known Node, lab bool) {
	missing := missingProofs(known, s.Redo)
	if len(missing) == 0 {
		s.Action = ActionNone
		s.Reasons = append(s.Reasons, "every proof is in and rests on what is declared")
		return
	}
	s.Action = ActionBringUp
	if known.State == Ready || len(known.Proofs) == len(Chain)-1 {
		s.Action = ActionChange
	}
	if len(s.Reasons) == 0 {
		if known.State == Declared {
			s.Reasons = append(s.Reasons, "declared, nothing proven yet")
		} else {
			s.Reasons = append(s.Reasons, fmt.Sprintf("%s: no proof of %s yet", known.State, joinStates(missing)))
		}
	}
	if first := missing[0]; first == Matched || first == Validated {
		s.Disruption.PowerCycles++
		s.Reasons = append(s.Reasons, "it is power-cycled only if its agent no longer answers")
	}
	for _, m := range missing {
		st, _ := StageOf(m)
		if lab {
			s.DurationS += st.InLab.Seconds()
		} else {
			s.DurationS += st.Estimate.Seconds()
		}
		switch st.Activity {
		case Boot:
			s.Disruption.PowerCycles++
		case BootImage:
			if missingProofs(known, s.Redo)[0] == m {
				s.Disruption.PowerCycles++ // no bring-up agent to ask
			} else {
				s.Disruption.Reboots++
			}
		case BurnIn:
			for _, b := range burnInStages(n) {
				s.Reasons = append(s.Reasons, fmt.Sprintf("burn-in %s %s (%s) is declared; this version cannot run it and the node will stop there", b.Name, b.Want, b.Source))
			}
		}
	}
	for _, w := range unchecked(n) {
		s.Reasons = append(s.Reasons, w.Part+": "+w.Reading)
	}
}

func (s PlanStep) held(reason string) PlanStep {
	s.Action, s.To, s.Reasons = ActionHeld, s.From, []string{reason}
	return s
}

// fallen are the proofs whose declared values have changed, and the later ones
// that fall with them, in the order of the chain.
func fallen(known Node, facets map[string]string, reasons *[]string) []State {
	redo := map[State]bool{}
	for _, st := range Chain[1:] {
		p, ok := known.Proofs[st.State]
		if !ok {
			continue
		}
		changed := differences(p.Facets, only(facets, st.Facets))
		if len(changed) == 0 {
			continue
		}
		for _, c := range changed {
			if !slices.Contains(*reasons, c) {
				*reasons = append(*reasons, c)
			}
		}
		redo[st.State] = true
		for _, later := range st.Redo {
			redo[later] = true
		}
	}
	var out []State
	for _, st := range Chain {
		if redo[st.State] {
			out = append(out, st.State)
		}
	}
	return out
}

func missingProofs(known Node, redo []State) []State {
	var out []State
	for _, st := range Chain[1:] {
		if _, ok := known.Proofs[st.State]; !ok || slices.Contains(redo, st.State) {
			out = append(out, st.State)
		}
	}
	return out
}

func stagePrefixes(s State) []string {
	st, _ := StageOf(s)
	return st.Facets
}

// planRemovals forgets nodes that are no longer declared. It never touches them.
func planRemovals(c *inventory.Cluster, have Known) []PlanStep {
	declared := map[string]bool{}
	for _, n := range c.Nodes {
		declared[n.Name] = true
	}
	var out []PlanStep
	for name, n := range have.Nodes {
		if declared[name] {
			continue
		}
		if n.State == Quarantined || n.State == Maintenance {
			// Forgotten and declared again it would be powered on.
			held := PlanStep{Name: name, From: n.State}
			out = append(out, held.held(fmt.Sprintf("%s, and no longer in the inventory: release it first", n.State)))
		} else {
			out = append(out, PlanStep{Name: name, Action: ActionRemove, From: n.State,
				Reasons: []string{"no longer in the inventory: its record is closed, the machine is not touched"}})
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out
}

// summarise counts; the duration is that of waves of `concurrency` nodes.
func (p *Plan) summarise(concurrency int) {
	longest := 0.0
	working := 0
	for _, s := range p.Nodes {
		switch s.Action {
		case ActionBringUp:
			p.Summary.BringUp++
		case ActionChange:
			p.Summary.Change++
		case ActionRemove:
			p.Summary.Remove++
		case ActionHeld:
			p.Summary.Held++
		default:
			p.Summary.NoChange++
		}
		if s.DurationS > 0 {
			working++
		}
		p.Summary.PowerCycles += s.Disruption.PowerCycles
		p.Summary.DiskErasures += s.Disruption.DiskErasures
		longest = max(longest, s.DurationS)
	}
	waves := math.Ceil(float64(working) / float64(max(concurrency, 1)))
	p.Summary.DurationS = longest * waves
}

func orUnsaid(reason string) string {
	if reason == "" {
		return "no reason was given"
	}
	return reason
}

// where prints a range as file:line, the file without its directory.
func where(r hcl.Range) string {
	if r.Filename == "" {
		return "inventory"
	}
	return fmt.Sprintf("%s:%d", filepath.Base(r.Filename), r.Start.Line)
}
