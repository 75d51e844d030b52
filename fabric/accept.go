package fabric

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"firstlight/inventory"
	"firstlight/provision/acceptance"
)

// Acceptance judges nodes by a fabric that was read.
type Acceptance struct {
	*Judged
	Limits Limits
	Recent map[PortID]*Recent // of the ports at both ends of their links
	Part   string             // why the fabric was read in part only; "" when all of it was
}

// NodeVerdict is what a fabric says of one node. Do is what a person has to do
// before it can pass, or what is waited for: one for each physical action.
type NodeVerdict struct {
	Checks []acceptance.Check
	Do     []string
}

// verdictOf gathers what is said of one node.
type verdictOf struct {
	*Acceptance
	node   string
	window time.Duration
	told   []int // findings that concern it, by their index
	out    NodeVerdict
	open   []openCheck // what no finding tells
}

// openCheck is a check that does not pass, for what several adapters have in common.
type openCheck struct {
	hca, what string
	verdict   acceptance.Verdict
}

// Node judges the adapters of a node: state, rate and cable of each, its error
// counters over a window, and the findings that concern the node. An error keeps
// it from passing; a warning is only told.
func (a *Acceptance) Node(name string, window time.Duration) NodeVerdict {
	v := &verdictOf{Acceptance: a, node: name, window: window}
	places := a.Places[name]
	for i, nodes := range a.Nodes {
		if slices.Contains(nodes, name) {
			v.told = append(v.told, i)
		}
	}
	for i := range places {
		v.adapter(&places[i])
	}
	for _, i := range v.told {
		v.finding(&a.Findings[i])
	}
	v.gather()
	return v.out
}

// adapter judges one adapter.
func (v *verdictOf) adapter(p *Place) {
	part := fmt.Sprintf("HCA %s (rail %d)", p.HCA, p.Rail)
	check := func(what string) acceptance.Check {
		return acceptance.Check{Name: "fabric." + p.HCA + "." + what, Part: part, Source: cmp.Or(p.DeclaredAt, p.RateAt)}
	}
	if !p.Cabled && v.cabled() {
		c := check("cable")
		c.Verdict, c.Reading, c.Threshold = acceptance.NotApplicable, "no cable is declared for it", "none declared"
		v.out.Checks = append(v.out.Checks, c)
		return
	}
	cable, state, rate, counters := check("cable"), check("state"), check("rate"), check("counters")
	v.cable(p, &cable)
	v.member(p, check("partition"))
	if p.Port == nil {
		for _, c := range []*acceptance.Check{&state, &rate, &counters} {
			c.Verdict, c.Reading = acceptance.NotRun, "it has no link"
		}
		state.Threshold, rate.Threshold, counters.Threshold = "Active at both ends", orAny(p.Rate.Text), v.counted()
		if v.Part == "" {
			state.Verdict, state.Reading = acceptance.Fail, "no link is seen at it"
		}
		v.out.Checks = append(v.out.Checks, cable, state, rate, counters)
		if !v.errors() {
			v.open = append(v.open, openCheck{p.HCA, "no link is seen" + v.inPart(), state.Verdict})
		}
		return
	}
	link := p.link()
	from := JudgeLink(link, v.Names)
	state.Verdict, state.Reading, state.Threshold, state.Part = from[0].Verdict, from[0].Reading, from[0].Threshold, from[0].Part
	v.rate(p, from, &rate)
	v.out.Checks = append(v.out.Checks, cable, state, rate)
	v.tell(p, state, from[0].Suspect)
	v.tell(p, rate, "")
	v.counters(p, link, &counters)
}

// member judges what partitions an adapter is in, where some are declared. What is
// wrong, a finding tells.
func (v *verdictOf) member(p *Place, c acceptance.Check) {
	if p.Member == nil {
		return
	}
	c.Threshold, c.Source, c.Reading, c.Verdict = p.Member.Declared, p.Member.DeclaredAt, p.Member.Found, acceptance.Pass
	switch {
	case p.Member.Why != "":
		c.Verdict, c.Reading = acceptance.NotRun, p.Member.Why
		if p.Port != nil {
			v.tell(p, c, "")
		}
	case !p.Member.Right:
		c.Verdict = acceptance.Fail
	}
	v.out.Checks = append(v.out.Checks, c)
}

// cabled reports that the declaration has cables.
func (v *verdictOf) cabled() bool {
	for _, places := range v.Places {
		if slices.ContainsFunc(places, func(p Place) bool { return p.Cabled }) {
			return true
		}
	}
	return false
}

// link is that of an adapter; where its other end is a switch, that is B.
func (p *Place) link() Link { return Link{A: p.Port, B: p.Port.Peer} }

// cable judges where the cable of an adapter leads. Whoever read only a part has
// not seen what is not there.
func (v *verdictOf) cable(p *Place, c *acceptance.Check) {
	c.Threshold = p.Declared.String()
	switch {
	case !p.Cabled:
		c.Verdict, c.Threshold, c.Reading = acceptance.NotApplicable, "none declared", "no link"
		if p.Found != nil {
			c.Reading = p.Found.String()
		}
	case p.Found == nil:
		c.Verdict, c.Reading = acceptance.Fail, "no link"
		if v.Part != "" {
			c.Verdict, c.Reading = acceptance.NotRun, "no link is seen"+v.inPart()
		}
	default:
		c.Reading, c.Verdict = p.Found.String(), acceptance.Pass
		if !p.Right {
			c.Verdict = acceptance.Fail
			if !v.errors() {
				v.open = append(v.open, openCheck{p.HCA, fmt.Sprintf("cabled to %s, declared %s (%s)", p.Found, p.Declared, p.DeclaredAt), c.Verdict})
			}
		}
	}
}

func (v *verdictOf) inPart() string {
	if v.Part == "" {
		return ""
	}
	return ", and the fabric was read in part only: " + v.Part
}

// errors reports a finding that keeps the node from passing.
func (v *verdictOf) errors() bool {
	return slices.ContainsFunc(v.told, func(i int) bool { return v.Findings[i].Severity == Error })
}

// rate judges what the link runs at: no less than declared, or else no less than
// both ends can do.
func (v *verdictOf) rate(p *Place, from []LinkCheck, c *acceptance.Check) {
	best, symmetry := from[2], from[1]
	runs := slower(p.Port, p.Port.Peer)
	c.Threshold, c.Source, c.Reading = p.Rate.Text, p.RateAt, runs.String()
	want, named := lanesOf(p.Rate)
	least := p.Rate.BitsPerSecond / 1e9
	if named {
		least = want.bandwidth()
	}
	switch {
	case p.Rate.Text == "":
		c.Verdict, c.Threshold, c.Source, c.Reading = best.Verdict, best.Threshold, best.Source, best.Reading
	case runs.width == 0 || runs.speed == "":
		c.Verdict, c.Reading = acceptance.NotRun, "the port does not tell its rate"
	case runs.bandwidth() < least:
		c.Verdict = acceptance.Fail
	case symmetry.Verdict == acceptance.Fail:
		c.Verdict, c.Reading = acceptance.Fail, symmetry.Reading
	default:
		c.Verdict = acceptance.Pass
	}
}

// tell notes a check that does not pass and that no finding tells.
func (v *verdictOf) tell(p *Place, c acceptance.Check, suspect string) {
	if c.Verdict == acceptance.Pass || c.Verdict == acceptance.NotApplicable {
		return
	}
	if c.Verdict == acceptance.Fail && slices.ContainsFunc(v.told, func(i int) bool {
		f := &v.Findings[i]
		return (f.Class == WrongSpeed || f.Class == WrongWidth) && strings.HasSuffix(c.Name, ".rate")
	}) {
		return
	}
	_, what, _ := strings.Cut(strings.TrimPrefix(c.Name, "fabric."), ".")
	text := fmt.Sprintf("%s: %s; wanted %s (%s)", what, c.Reading, c.Threshold, c.Source)
	if suspect != "" {
		text += "; suspect: " + suspect
	}
	v.open = append(v.open, openCheck{p.HCA, text, c.Verdict})
}

// finding makes a check of a finding.
func (v *verdictOf) finding(f *Finding) {
	c := acceptance.Check{Name: "fabric." + string(f.Class), Verdict: acceptance.Fail, Reading: f.Message, Threshold: orAny(f.Declared),
		Source: cmp.Or(f.DeclaredAt, "the structure of the fabric"), Part: f.Action}
	switch {
	case f.Severity != Error:
		c.Verdict = acceptance.NotApplicable
		c.Reading = "a warning, and no reason to refuse the node: " + f.Message
	case v.Part != "":
		// What did not answer may be what is missing here.
		c.Verdict = acceptance.NotRun
		c.Reading += v.inPart()
	}
	v.out.Checks = append(v.out.Checks, c)
	if f.Severity == Error {
		v.out.Do = append(v.out.Do, fmt.Sprintf("%s: %s, %s%s", f.Action, f.Class, f.Message, v.inPart()))
	}
}

// gather says once what several adapters have in common, what failed first.
func (v *verdictOf) gather() {
	slices.SortStableFunc(v.open, func(a, b openCheck) int {
		return cmp.Compare(boolOrder(b.verdict == acceptance.Fail), boolOrder(a.verdict == acceptance.Fail))
	})
	hcas := map[string][]string{}
	var order []string
	for _, o := range v.open {
		if hcas[o.what] == nil {
			order = append(order, o.what)
		}
		hcas[o.what] = append(hcas[o.what], o.hca)
	}
	for _, what := range order {
		v.out.Do = append(v.out.Do, inventory.Fold(hcas[what])+" "+what)
	}
}

func boolOrder(b bool) int {
	if b {
		return 1
	}
	return 0
}

func orAny(s string) string { return cmp.Or(s, "as declared") }
