package acceptance

import (
	_ "embed" // the page's template
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"
	"time"
)

//go:embed report.html.tmpl
var reportTemplate string

// page is what the template shows.
type page struct {
	Report
	Counts   Counts
	Stood    []Engine // engines that computed in place of GPUs
	Failures []pageNode
	Nodes    []pageNode
	Slow     []pageSlow
	Legend   []string
	From, To time.Time // the time axis of the bars
}

type pageNode struct {
	NodeReport
	Bar      []segment
	Took     string
	Problems []Problem
	First    *Problem        // what to look at first
	Fabric   []FabricFinding // that concern it
	Charts   []*drawn
	Open     bool
	Bad      bool
}

// segment is a part of a node's bar: X and Width in percent of the axis.
type segment struct {
	State    string
	X, Width float64
	Title    string
}

type pageSlow struct {
	Slow
	Share float64 // of the deadline, in percent; 0 without one
}

// WriteHTML writes the report as one page that needs nothing beside it and is
// whole without scripts.
func (r Report) WriteHTML(w io.Writer) error {
	funcs := template.FuncMap{
		"seconds": seconds,
		"clock":   func(t time.Time) string { return t.UTC().Format("15:04:05") },
		"stamp":   func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") },
		"short":   shortDigest,
		"mark":    mark,
		"class":   stateClass,
		"late":    func(s Span) bool { return s.Deadline > 0 && s.Seconds > s.Deadline },
	}
	t, err := template.New("report").Funcs(funcs).Parse(reportTemplate)
	if err != nil {
		return fmt.Errorf("report template: %w", err)
	}
	if err := t.Execute(w, r.page()); err != nil {
		return fmt.Errorf("write HTML report: %w", err)
	}
	return nil
}

func (r Report) page() page {
	p := page{Report: r, Counts: r.Counts(), Stood: r.standIns()}
	p.From, p.To = r.axis()
	seen := map[string]bool{}
	for _, n := range r.Nodes {
		v := pageNode{NodeReport: n, Bad: n.Failed(), Bar: n.bar(p.From, p.To), Fabric: r.Fabric.of(n.Name)}
		for _, s := range v.Bar {
			seen[s.State] = true
		}
		total := 0.0
		for _, s := range n.History {
			total += s.Seconds
		}
		v.Took = seconds(total)
		if n.State != stateReady {
			v.Problems = n.Problems()
		}
		if len(v.Problems) > 0 {
			v.First = &v.Problems[0]
		}
		for _, c := range n.Charts {
			if d := c.draw(); d != nil {
				v.Charts = append(v.Charts, d)
			}
		}
		v.Open = len(r.Nodes) <= 2 // read at length; more are looked through
		if v.Bad {
			p.Failures = append(p.Failures, v)
		}
		p.Nodes = append(p.Nodes, v)
	}
	for _, s := range []string{"declared", "reachable", "enrolled", "matched", "provisioned", "validated", "burned-in", stateReady, stateFailed, stateQuarantined, "maintenance"} {
		if seen[s] {
			p.Legend = append(p.Legend, s)
		}
	}
	for _, s := range r.Slow() {
		v := pageSlow{Slow: s}
		if s.Deadline > 0 {
			v.Share = min(100, 100*s.Max/s.Deadline)
		}
		p.Slow = append(p.Slow, v)
	}
	return p
}

// standIns are the engines whose results stand in for those of GPUs.
func (r Report) standIns() (out []Engine) {
	for _, n := range r.Nodes {
		for _, s := range n.History {
			if s.Proof != nil && (s.Proof.Engine == EngineReference || s.Proof.Engine == EngineSimulated) && !slices.Contains(out, s.Proof.Engine) {
				out = append(out, s.Proof.Engine)
			}
		}
	}
	slices.Sort(out)
	return out
}

// axis spans the entries of all nodes; while a node is unfinished, up to now.
func (r Report) axis() (from, to time.Time) {
	for _, n := range r.Nodes {
		for _, s := range n.History {
			if from.IsZero() || s.Entered.Before(from) {
				from = s.Entered
			}
			if s.Entered.After(to) {
				to = s.Entered
			}
		}
		if n.State != stateReady && !n.Failed() && len(n.History) > 1 && r.Made.After(to) {
			to = r.Made
		}
	}
	// Room for the last state to be seen.
	return from, to.Add(to.Sub(from) / 20)
}

func (n NodeReport) bar(from, to time.Time) []segment {
	span := to.Sub(from).Seconds()
	if span <= 0 {
		return nil
	}
	var out []segment
	for i, s := range n.History {
		end, title := to, s.State+" since "+s.Entered.UTC().Format("15:04:05")
		if i+1 < len(n.History) {
			end = n.History[i+1].Entered
			title = fmt.Sprintf("%s for %s", s.State, seconds(end.Sub(s.Entered).Seconds()))
		}
		if width := 100 * end.Sub(s.Entered).Seconds() / span; width > 0 {
			out = append(out, segment{State: s.State, X: round(100 * s.Entered.Sub(from).Seconds() / span), Width: round(width), Title: title})
		}
	}
	return out
}

func round(f float64) float64 { return float64(int(f*100+0.5)) / 100 }

// shortDigest keeps enough of a digest to tell two apart; the title has it all.
func shortDigest(s string) string {
	if h, ok := strings.CutPrefix(s, "sha256:"); ok && len(h) > 12 {
		return h[:12]
	}
	return s
}

// mark shows a verdict without relying on colour.
func mark(v Verdict) string {
	switch v {
	case Pass:
		return "✓ pass"
	case Fail:
		return "✗ FAIL"
	case NotApplicable:
		return "· not applicable"
	}
	return "– not run"
}

// stateClass is a CSS class for a state: a name this page has a colour for.
func stateClass(s string) string {
	switch s {
	case "declared", "reachable", "enrolled", "matched", "provisioned", "validated", "burned-in", stateReady, stateFailed, stateQuarantined, "maintenance":
		return "s-" + s
	}
	return "s-other"
}
