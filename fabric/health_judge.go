package fabric

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"firstlight/provision/acceptance"
)

// LinkCheck is a check of one link. Its part names both ends.
type LinkCheck struct {
	acceptance.Check
	Suspect string      `json:"suspect"` // where the fault can be, as far as the counters tell; "" without one
	Ports   []PortRef   `json:"ports"`   // both ends
	Counter CounterName `json:"counter"` // "" without one
	New     uint64      `json:"new"`     // of it, at both ends together, since the reading before

	tell bool // it says something that no other check of the link does, though it is not-run
}

// Off reports what a person should look at: what failed, and what could not be
// judged for another reason than that it takes its time.
func (c *LinkCheck) Off() bool {
	return c.Verdict == acceptance.Fail || c.Verdict == acceptance.NotRun && c.tell
}

// Worsens reports that what the check counts is an error of the link, and not
// how busy it is.
func (c *LinkCheck) Worsens() bool {
	return c.Counter != "" && c.Counter != TransmitDiscard && c.Counter != TransmitWait
}

// Judge holds what the two ends of a link counted against the limits; nil is
// an end that was not read.
func (l Limits) Judge(link Link, a, b *Recent, names Names) []LinkCheck {
	ports, part := names.both(link)
	out := []LinkCheck{countersRead(link, a, b, names)}
	for i := range l.Table {
		limit := &l.Table[i]
		if limit.Off {
			continue
		}
		two := [2]counts{limit.read(a, i, link.A), limit.read(b, i, link.B)}
		c := LinkCheck{Check: acceptance.Check{Name: limit.Name, Threshold: limit.String(link), Source: limit.Source}, Counter: limit.Counter}
		c.Verdict = limit.verdict(two)
		c.Reading = limit.reading(two, names, c.Verdict == acceptance.Fail)
		c.tell = two[0].why == string(Full) || two[1].why == string(Full)
		for _, r := range []*Recent{a, b} {
			if r != nil {
				c.New += r.Last.Of(limit.Counter).N
			}
		}
		if c.Verdict == acceptance.Fail {
			c.Suspect = limit.suspect(two, names)
		}
		out = append(out, c)
	}
	for i := range out {
		out[i].Ports, out[i].Part = ports, part
	}
	return out
}

// CountersRead is the check that says why the counters of a link were not judged.
const CountersRead = "counters-read"

// countersRead says once for all counters of a link what keeps them from being
// judged.
func countersRead(l Link, a, b *Recent, names Names) LinkCheck {
	c := LinkCheck{tell: true, Check: acceptance.Check{Name: CountersRead, Verdict: acceptance.Pass, Threshold: "read at both ends, and not set back", Source: "IBTA §16.1.3.5"}}
	var texts []string
	for _, end := range []struct {
		port *Port
		r    *Recent
	}{{l.A, a}, {l.B, b}} {
		why := ""
		if end.r == nil {
			why = "not read"
		} else if i := slices.IndexFunc(end.r.Last.Counts, func(c Count) bool { return c.Doubt == SetBack || c.Doubt == Changed }); i >= 0 {
			why = string(end.r.Last.Counts[i].Doubt)
		} else {
			continue
		}
		c.Verdict = acceptance.NotRun
		texts = append(texts, names.of(end.port)+": "+why)
	}
	if c.Reading = strings.Join(texts, "; "); c.Reading == "" {
		c.Reading = "read at both ends"
	}
	return c
}

// counts is what one end says to a limit.
type counts struct {
	port    *Port
	window  Window
	verdict acceptance.Verdict
	why     string // why it is neither pass nor fail
}

// read judges one end by itself.
func (l *Limit) read(r *Recent, i int, p *Port) counts {
	c := counts{port: p, verdict: acceptance.NotRun}
	switch {
	case r == nil:
		c.why = "not read"
		return c
	case !r.Has[indexOf(l.Counter)]:
		c.verdict, c.why = acceptance.NotApplicable, "it has no such counter"
		return c
	}
	c.window = r.Windows[i]
	needs := l.needs(p.bitsPerSecond())
	if needs == 0 {
		c.why = "its rate is not known"
		return c
	}
	if c.window.over(l, needs) {
		c.verdict = acceptance.Fail
		return c
	}
	if c.window.Loaded != nil {
		c.window = *c.window.Loaded
	}
	w, had := c.window, c.window.Elapsed
	if l.UnderTraffic {
		had = w.Traffic
	}
	switch {
	case w.over(l, needs):
		c.verdict = acceptance.Fail
	case w.Doubt != "":
		c.why = string(w.Doubt)
	case w.Elapsed == 0:
		c.why = "no time passed between the readings"
	case had >= needs || l.Most == 0 && !l.UnderTraffic:
		c.verdict = acceptance.Pass
	default:
		c.why = fmt.Sprintf("not yet decided, %s to go", Briefly(needs-had))
		if l.UnderTraffic && r.Last.Traffic == 0 {
			c.why += " and no traffic"
		}
	}
	return c
}

// verdict is that of the link.
func (l *Limit) verdict(two [2]counts) acceptance.Verdict {
	has := func(v acceptance.Verdict, n int) bool {
		k := 0
		for _, c := range two {
			if c.verdict == v {
				k++
			}
		}
		return k >= n
	}
	need := map[whichEnds]struct{ fail, pass int }{eachEnd: {1, 2}, bothEnds: {2, 1}, eitherEnd: {1, 1}}[l.Ends]
	switch {
	case has(acceptance.Fail, need.fail):
		return acceptance.Fail
	case has(acceptance.NotApplicable, 2):
		return acceptance.NotApplicable
	case has(acceptance.Pass, need.pass):
		return acceptance.Pass
	case l.Ends == eachEnd && has(acceptance.Pass, 1) && has(acceptance.NotApplicable, 1):
		return acceptance.Pass
	}
	return acceptance.NotRun
}

// reading is "leaf-01 port 3: 120 in 60 s; hnode003 ibn1: 0 in 60 s". Of a link
// that failed it does not matter how long the other end has still to wait.
func (l *Limit) reading(two [2]counts, names Names, failed bool) string {
	var texts []string
	for _, c := range two {
		texts = append(texts, c.text(l, failed))
	}
	if texts[0] == texts[1] {
		return texts[0] + " at each end"
	}
	return fmt.Sprintf("%s: %s; %s: %s", names.of(two[0].port), texts[0], names.of(two[1].port), texts[1])
}

func (c counts) text(l *Limit, failed bool) string {
	if c.window.Elapsed == 0 && c.window.N == 0 && c.why != "" {
		return c.why
	}
	n, why := fmt.Sprint(c.window.N), c.why
	if failed {
		why = ""
	}
	if c.window.Doubt != "" {
		n += " or more"
		why = string(c.window.Doubt)
	}
	text := n + " in " + Briefly(c.window.Elapsed)
	if l.UnderTraffic && c.window.Traffic != c.window.Elapsed && !failed {
		text = fmt.Sprintf("%s in %s (%s of it under traffic)", n, Briefly(c.window.Elapsed), Briefly(c.window.Traffic))
	}
	if why != "" {
		text += " (" + why + ")"
	}
	return text
}

// String is the threshold as a sentence would have it, for a link of that rate.
func (l *Limit) String(link Link) string {
	text := fmt.Sprintf("at most %d", l.Most)
	if l.Most == 0 {
		text = "none"
	}
	in := l.needs(max(link.A.bitsPerSecond(), link.B.bitsPerSecond()))
	if in == 0 {
		in = l.In
	}
	text += " in " + Briefly(in)
	if l.UnderTraffic {
		text += " under traffic"
	}
	return text + " " + string(l.Ends)
}

// suspect says where the fault can be. Errors of reception are counted by the
// end that received them, and whoever sent, carried or received them can have
// spoilt them.
func (l *Limit) suspect(two [2]counts, names Names) string {
	bad, good := two[0], two[1]
	if bad.verdict != acceptance.Fail {
		bad, good = good, bad
	}
	near, far := names.of(bad.port), names.of(good.port)
	if good.verdict == acceptance.Fail {
		switch l.Tells {
		case tellsSignal:
			return "both directions are bad: what they share is the cable and how it sits at both ends"
		case tellsBuffer:
			return "the flow control of both ends: this is not the cable"
		case tellsSender:
			return fmt.Sprintf("neither %s nor %s takes what is sent: congestion beyond them, or a receiver that stopped; this is not the cable", near, far)
		}
	}
	clean := ""
	switch {
	case good.window.N > 0 || good.window.Doubt != "" || good.window.Elapsed == 0:
	default:
		clean = "; the other direction is clean"
	}
	switch l.Tells {
	case tellsSignal:
		return fmt.Sprintf("the transmitter of %s, the cable, or the receiver of %s, which counts%s", far, near, clean)
	case tellsBuffer:
		return fmt.Sprintf("the flow control between %s, which sent too much, and %s, which counts: this is not the cable", far, near)
	case tellsSender:
		return fmt.Sprintf("%s does not take what %s sends: congestion beyond it, or a receiver that stopped; this is not the cable", far, near)
	}
	return "the cable or the module at either end, or an end that was restarted"
}

// Briefly prints a time as people say it: "60 s", "93 min", "24 h".
func Briefly(d time.Duration) string {
	switch {
	case d < 10*time.Second:
		return trim(d.Seconds(), 1) + " s"
	case d < 2*time.Minute:
		return trim(d.Seconds(), 0) + " s"
	case d < 3*time.Hour:
		return trim(d.Minutes(), roundTo(d, time.Minute)) + " min"
	}
	return trim(d.Hours(), roundTo(d, time.Hour)) + " h"
}

// roundTo keeps a decimal only where the number is small.
func roundTo(d, unit time.Duration) int {
	if d < 10*unit {
		return 1
	}
	return 0
}

func trim(x float64, digits int) string {
	s := fmt.Sprintf("%.*f", digits, x)
	if digits > 0 {
		s = strings.TrimSuffix(s, ".0")
	}
	return s
}
