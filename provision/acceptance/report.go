package acceptance

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"
)

// Report is what is known of a whole cluster at one time. The same report
// gives the same bytes from every writer.
type Report struct {
	Cluster    string       `json:"cluster"`
	Lab        bool         `json:"lab"`
	Inventory  string       `json:"inventory"` // digest of the declaration
	Serial     int64        `json:"serial"`    // the journal's last serial
	Made       time.Time    `json:"made"`
	By         string       `json:"by,omitempty"` // the program and its version
	Nodes      []NodeReport `json:"nodes"`        // in the inventory's order
	Discovered []Discovered `json:"discovered,omitempty"`
	// Fabric is the last reading of the fabric; nil: none.
	Fabric *FabricReport `json:"fabric,omitempty"`
	// BurnIn is what all burn-ins say together; nil: there was none.
	BurnIn *FleetBurnIn `json:"burn_in,omitempty"`
}

// NodeReport is one node's way through its lifecycle.
type NodeReport struct {
	Name    string  `json:"name"`
	Rack    string  `json:"rack,omitempty"`
	Unit    int     `json:"unit,omitempty"`
	Serial  string  `json:"serial,omitempty"`
	Image   string  `json:"image,omitempty"` // name and digest
	Power   string  `json:"power,omitempty"`
	State   string  `json:"state"`
	Reason  string  `json:"reason,omitempty"` // why it failed or waits
	History []Span  `json:"history"`          // of the present bring-up, oldest first
	Record  string  `json:"record,omitempty"` // digest of the signed record
	Charts  []Chart `json:"-"`                // of what its burn-in sampled
}

// Span is one state entered, and what it took to enter it.
type Span struct {
	State    string    `json:"state"`
	Entered  time.Time `json:"entered"`
	Seconds  float64   `json:"seconds"`            // from entering the state before; 0 for the first
	Deadline float64   `json:"deadline,omitempty"` // seconds allowed for one attempt; 0: none
	Attempts int       `json:"attempts,omitempty"`
	Reason   string    `json:"reason,omitempty"`
	Evidence string    `json:"evidence,omitempty"` // digest
	Proof    *Evidence `json:"proof,omitempty"`    // for a failed node, the proof of the contrary
}

// Discovered is a machine that asked for a boot and is not declared.
type Discovered struct {
	MAC    string    `json:"mac"`
	Seen   time.Time `json:"seen"`
	Detail string    `json:"detail,omitempty"`
}

// States that the report treats apart: those that say that a person is needed,
// the last one, and the one before it.
const (
	stateFailed      = "failed"
	stateQuarantined = "quarantined"
	stateReady       = "ready"
	stateBurnedIn    = "burned-in"
)

// Counts are the nodes by what the reader wants to know first.
type Counts struct {
	Nodes      int `json:"nodes"`
	Ready      int `json:"ready"`
	Failed     int `json:"failed"` // failed or quarantined
	Unfinished int `json:"unfinished"`
}

// Counts counts the nodes.
func (r Report) Counts() Counts {
	c := Counts{Nodes: len(r.Nodes)}
	for _, n := range r.Nodes {
		switch {
		case n.State == stateReady:
			c.Ready++
		case n.Failed():
			c.Failed++
		default:
			c.Unfinished++
		}
	}
	return c
}

// Failed reports that a person is needed.
func (n NodeReport) Failed() bool { return n.State == stateFailed || n.State == stateQuarantined }

// Problem is one check that did not pass on a node that is not ready.
type Problem struct {
	State string `json:"state"`
	Check
}

// Problems are the checks that keep a node from being ready, failed ones
// first: those of the last evidence of each state.
func (n NodeReport) Problems() []Problem {
	last := map[string]int{}
	for i, s := range n.History {
		if s.Proof != nil {
			last[s.Proof.State] = i
		}
	}
	var out []Problem
	for i, s := range n.History {
		if s.Proof == nil || last[s.Proof.State] != i {
			continue
		}
		for _, c := range s.Proof.Checks {
			if c.Verdict != Pass && c.Verdict != NotApplicable {
				out = append(out, Problem{State: s.Proof.State, Check: c})
			}
		}
	}
	slices.SortStableFunc(out, func(a, b Problem) int { return cmp.Compare(rank(a.Verdict), rank(b.Verdict)) })
	return out
}

func rank(v Verdict) int {
	if v == Fail {
		return 0
	}
	return 1
}

// Slow says how long the nodes took to enter one state.
type Slow struct {
	State    string     `json:"state"`
	Nodes    int        `json:"nodes"`
	P50      float64    `json:"p50_s"`
	Max      float64    `json:"max_s"`
	Deadline float64    `json:"deadline_s,omitempty"` // the shortest that was allowed
	Slowest  []SlowNode `json:"slowest"`              // three at most
}

// SlowNode is one node's time.
type SlowNode struct {
	Node    string  `json:"node"`
	Seconds float64 `json:"seconds"`
}

// Slow lists the transitions that took longest, by their median, the slowest
// first. States that a node enters by failing are left out.
func (r Report) Slow() []Slow {
	byState := map[string]*Slow{}
	var order []string
	for _, n := range r.Nodes {
		for i, s := range n.History {
			if i == 0 || s.State == stateFailed || s.State == stateQuarantined || s.State == "maintenance" || s.State == "declared" {
				continue
			}
			t := byState[s.State]
			if t == nil {
				t = &Slow{State: s.State}
				byState[s.State] = t
				order = append(order, s.State)
			}
			t.Slowest = append(t.Slowest, SlowNode{n.Name, s.Seconds})
			if s.Deadline > 0 && (t.Deadline == 0 || s.Deadline < t.Deadline) {
				t.Deadline = s.Deadline
			}
		}
	}
	out := make([]Slow, 0, len(order))
	for _, name := range order {
		t := byState[name]
		slices.SortStableFunc(t.Slowest, func(a, b SlowNode) int { return cmp.Compare(b.Seconds, a.Seconds) })
		t.Nodes = len(t.Slowest)
		t.Max = t.Slowest[0].Seconds
		t.P50 = t.Slowest[t.Nodes/2].Seconds // of an even number, the lower middle
		t.Slowest = slices.Clone(t.Slowest[:min(3, t.Nodes)])
		out = append(out, *t)
	}
	slices.SortStableFunc(out, func(a, b Slow) int { return cmp.Compare(b.P50, a.P50) })
	return out
}

// WriteJSON writes the report with its counts, problems and slow transitions.
func (r Report) WriteJSON(w io.Writer) error {
	type node struct {
		NodeReport
		Problems []Problem `json:"problems,omitempty"`
	}
	out := struct {
		Report
		Notice string `json:"notice,omitempty"`
		Counts Counts `json:"counts"`
		Slow   []Slow `json:"slow"`
		Nodes  []node `json:"nodes"`
	}{Report: r, Counts: r.Counts(), Slow: r.Slow(), Nodes: []node{}}
	if r.Lab {
		out.Notice = LabNotice
	}
	for _, n := range r.Nodes {
		out.Nodes = append(out.Nodes, node{n, n.Problems()})
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(out); err != nil {
		return fmt.Errorf("write JSON report: %w", err)
	}
	return nil
}

// seconds prints a length of time as a person would say it.
func seconds(s float64) string {
	d := time.Duration(s * float64(time.Second))
	switch {
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", s)
	case d < 100*time.Second:
		return fmt.Sprintf("%.0f s", s)
	case d < 100*time.Minute:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
}
