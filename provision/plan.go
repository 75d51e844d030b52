package provision

import (
	"fmt"
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
	Serial     int64      `json:"serial"`    // of the journal it was made from
	Inventory  string     `json:"inventory"` // digest of the declaration
	Cluster    string     `json:"cluster"`
	Targets    []string   `json:"targets,omitempty"`
	Replace    []string   `json:"replace,omitempty"` // proven anew by request
	Summary    Summary    `json:"summary"`
	ByRack     []Part     `json:"by_rack"`     // racks that change
	ByHardware []Part     `json:"by_hardware"` // hardware classes that change
	Nodes      []PlanStep `json:"nodes"`
	Waves      []Wave     `json:"waves,omitempty"` // in which nodes are switched on, where power-on budgets are declared
}

// PlanStep is one node's part.
type PlanStep struct {
	Name       string     `json:"name"`
	Rack       string     `json:"rack"`
	Hardware   string     `json:"hardware"` // label of its class
	Action     string     `json:"action"`
	From       State      `json:"from"`
	To         State      `json:"to"`
	Reasons    []string   `json:"reasons"`
	Changes    []Change   `json:"changes,omitempty"` // the declared values among the reasons
	Disruption Disruption `json:"disruption"`
	Ladder     []Rung     `json:"ladder,omitempty"` // what may be done to boot it, in this order
	Redo       []State    `json:"redo,omitempty"`
	Release    bool       `json:"release,omitempty"` // what held it has changed
	Replace    bool       `json:"replace,omitempty"` // proven anew by request
	Burn       bool       `json:"burn,omitempty"`    // burned in anew by request
	DurationS  float64    `json:"duration_s"`
	Wave       int        `json:"wave,omitempty"` // in which it is switched on, from 1; 0: no power-on budget, or not switched on

	node       *inventory.Node // nil for one that is no longer declared
	switchedOn bool            // as far as is known now, it takes a power action
}

// Disruption is what a step does to a node that may be in use.
type Disruption struct {
	PowerCycles  int     `json:"power_cycles"`
	Reboots      int     `json:"reboots"`
	DiskErasures int     `json:"disk_erasures"`
	BurnInS      float64 `json:"burn_in_s"` // seconds under load
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
	facets := want.reader()
	p.Nodes = make([]PlanStep, 0, len(nodes))
	for _, n := range nodes {
		s := planNode(facets, n, have.Node(n.Name))
		if s.Replace {
			p.Replace = append(p.Replace, n.Name)
		}
		p.Nodes = append(p.Nodes, s)
	}
	if targets == nil {
		p.Nodes = append(p.Nodes, planRemovals(want.Cluster, have)...)
	}
	p.pace(want, have)
	p.summarise(want.Cluster)
	return p
}

func planNode(r *facetReader, n *inventory.Node, known Node) PlanStep {
	s := PlanStep{Name: n.Name, From: known.State, To: Ready, Reasons: []string{}, node: n}
	if n.Rack != nil {
		s.Rack = n.Rack.Name
	}
	if n.Hardware != nil {
		s.Hardware = n.Hardware.Name
	}
	facets := r.facets(n)
	switch known.State {
	case Maintenance:
		return s.held("in maintenance: " + orUnsaid(known.Reason))
	case Quarantined:
		if ref := known.Refused; ref != nil && ref.Facets != nil {
			s.because(changes(ref.Facets, facets, stagePrefixes(Reachable)))
		}
		if s.Changes == nil {
			return s.held("quarantined: " + orUnsaid(known.Reason) + fmt.Sprintf("; after mending it: firstlight release %s", n.Name))
		}
		s.Release = true
	case Failed:
		s.Reasons = append(s.Reasons, "failed before: "+known.Reason)
	}
	if r.want.Replace[n.Name] {
		s.Replace = true
		s.Reasons = append(s.Reasons, "replaced by request")
	}
	if r.want.Burn[n.Name] {
		s.Burn = true
		s.Reasons = append(s.Reasons, "burned in by request")
	}
	s.Redo = s.fallen(known, facets)
	s.decide(r, n, known)
	return s
}

// because adds changed declarations to the reasons, each once: two proofs may
// rest on the same.
func (s *PlanStep) because(changed []Change) {
	for _, c := range changed {
		if !slices.Contains(s.Changes, c) {
			s.Changes = append(s.Changes, c)
			s.Reasons = append(s.Reasons, c.String())
		}
	}
}

// decide sets the action from the proofs that are missing or have fallen.
func (s *PlanStep) decide(r *facetReader, n *inventory.Node, known Node) {
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
	s.cost(n, known, missing, r.want.Cluster.Lab != nil)
	if s.Disruption.PowerCycles+s.Disruption.Reboots > 0 {
		s.Ladder = LadderOf(n, r.want.Cluster.Settings)
		if slices.Contains(s.Ladder, RungOutlet) {
			s.Reasons = append(s.Reasons, "its PDU outlets are switched off and on if nothing else gets its BMC to obey")
		}
	}
	for _, w := range r.cabling.unchecked(n) {
		s.Reasons = append(s.Reasons, w.Part+": "+w.Reading)
	}
}

// cost adds up what seeking the missing proofs does to the node.
func (s *PlanStep) cost(n *inventory.Node, known Node, missing []State, lab bool) {
	switch first := missing[0]; {
	case first == Matched || first == Validated || first == BurnedIn && burnInParts(n) != nil:
		s.Disruption.PowerCycles++
		s.Reasons = append(s.Reasons, "it is power-cycled only if its agent no longer answers")
	case first == Provisioned && known.Boot != nil && known.Boot.Home != nil:
		s.Reasons = append(s.Reasons, "the agent on it is asked to reboot it; it is power-cycled only if that agent no longer answers")
	}
	for i, m := range missing {
		st, _ := StageOf(m)
		if lab {
			s.DurationS += st.InLab.Seconds()
		} else {
			s.DurationS += st.Estimate.Seconds()
		}
		switch st.Activity {
		case CheckNode:
			s.DurationS += FabricWindow(n).Seconds()
		case Boot:
			s.Disruption.PowerCycles++
			s.switchedOn = true
		case BootImage:
			if i == 0 {
				s.Disruption.PowerCycles++ // the most it may cost: no bring-up agent is there to ask
				s.switchedOn = known.Boot == nil || known.Boot.Home == nil
			} else {
				s.Disruption.Reboots++
			}
		case BurnIn:
			s.Disruption.BurnInS = burnInTime(n).Seconds()
			s.DurationS += s.Disruption.BurnInS
			if len(burnInParts(n)) > 1 {
				s.Disruption.PowerCycles++
				s.Reasons = append(s.Reasons, "a cold power cycle lies between its quick burn-in and its soak")
				s.DurationS += bootEstimate(lab).Seconds()
			}
		}
	}
}

// bootEstimate is what booting the image takes.
func bootEstimate(lab bool) time.Duration {
	st, _ := StageOf(Provisioned)
	if lab {
		return st.InLab
	}
	return st.Estimate
}

func (s PlanStep) held(reason string) PlanStep {
	s.Action, s.To, s.Reasons = ActionHeld, s.From, []string{reason}
	return s
}

// fallen are the proofs whose declared values have changed, and the later ones
// that fall with them, in the order of the chain: all of them for a node that
// is to be proven anew. The changes become reasons.
func (s *PlanStep) fallen(known Node, facets []facet) []State {
	redo := make([]bool, len(Chain))
	for i, st := range Chain {
		p, ok := known.Proofs[st.State]
		if !ok {
			continue
		}
		changed := changes(p.Facets, facets, st.Facets)
		s.because(changed)
		if len(changed) == 0 {
			continue
		}
		redo[i] = true
		for _, later := range st.Redo {
			redo[position(later)] = true
		}
	}
	var out []State
	for i, st := range Chain {
		_, proven := known.Proofs[st.State]
		if redo[i] || s.Replace && proven || s.Burn && proven && i >= position(BurnedIn) {
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
