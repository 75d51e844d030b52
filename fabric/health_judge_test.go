package fabric

import (
	"slices"
	"strings"
	"testing"
	"time"

	"firstlight/fabric/mad"
	"firstlight/provision/acceptance"
)

// testLink is an NDR link from an adapter to a leaf.
func testLink(width int, speed string) Link {
	hca, leaf := &Node{Kind: CA, Description: "hnode001 mlx5_0", GUID: 1}, &Node{Kind: Switch, Description: "leaf-01", GUID: 2}
	a, b := &Port{Node: hca, Num: 1, Width: width, Speed: speed}, &Port{Node: leaf, Num: 7, Width: width, Speed: speed}
	a.Peer, b.Peer = b, a
	hca.Ports, leaf.Ports = []*Port{a}, []*Port{b}
	return Link{A: a, B: b}
}

func shortNames(p *Port) PortRef {
	if p.Node.Kind == Switch {
		return PortRef{Name: "leaf"}
	}
	return PortRef{Name: "hca"}
}

// counted makes a span.
func span(elapsed time.Duration, busy bool, counts ...Count) Span {
	s := Span{Elapsed: elapsed, Counts: counts}
	if busy {
		s.Traffic = elapsed
	}
	return s
}

// judged judges one link by what its ends counted; a nil series is an end that
// was not read.
func judged(l Limits, link Link, a, b []Span, has func(*Reading)) []LinkCheck {
	recent := func(series []Span, p *Port) *Recent {
		if series == nil {
			return nil
		}
		newest := ReadingOf(counters(noon, false, nil))
		if has != nil {
			has(&newest)
		}
		return l.Recent(series, &newest, p.bitsPerSecond())
	}
	return l.Judge(link, recent(a, link.A), recent(b, link.B), shortNames)
}

func checkOf(t *testing.T, checks []LinkCheck, name string) LinkCheck {
	t.Helper()
	i := slices.IndexFunc(checks, func(c LinkCheck) bool { return c.Name == name })
	if i < 0 {
		t.Fatalf("no check %s", name)
	}
	return checks[i]
}

// TestJudge: each limit at, over and below what it allows, and each reason for
// no verdict.
func TestJudge(t *testing.T) {
	const (
		pass = acceptance.Pass
		fail = acceptance.Fail
		open = acceptance.NotRun
	)
	idle := []Span{span(time.Minute, false)}
	one := func(elapsed time.Duration, busy bool, counts ...Count) []Span {
		return []Span{span(elapsed, busy, counts...)}
	}
	tests := []struct {
		name    string
		check   string
		rate    string // "" is 4xNDR
		a, b    []Span
		verdict acceptance.Verdict
		reading string // part of it
		suspect string // part of it
	}{
		// Bit error rates: the time and the number, and both ends of each.
		{"clean, 12 minutes", "symbol-errors-1e-14", "", one(12*time.Minute, true), one(12*time.Minute, true), pass, "0 in 12 min at each end", ""},
		{"clean, too short", "symbol-errors-1e-15", "", one(32*time.Minute, true), one(32*time.Minute, true), open, "0 in 32 min (not yet decided, 93 min to go) at each end", ""},
		{"at the limit", "symbol-errors-1e-14", "", one(12*time.Minute, true, n(SymbolErrors, 2, "")), one(12*time.Minute, true), pass, "hca: 2 in 12 min; leaf: 0 in 12 min", ""},
		{"over it", "symbol-errors-1e-14", "", one(12*time.Minute, true, n(SymbolErrors, 3, "")), one(12*time.Minute, true), fail, "hca: 3 in 12 min",
			"the transmitter of leaf, the cable, or the receiver of hca, which counts; the other direction is clean"},
		{"over it in a minute", "symbol-errors-1e-15", "", one(time.Minute, false), one(time.Minute, false, n(SymbolErrors, 4, "")), fail, "leaf: 4 in 60 s",
			"the transmitter of hca, the cable, or the receiver of leaf"},
		{"both ends", "symbol-errors-1e-15", "", one(time.Minute, true, n(SymbolErrors, 9, "")), one(time.Minute, true, n(SymbolErrors, 4, "")), fail, "hca: 9 in 60 s; leaf: 4 in 60 s", "what they share is the cable"},
		{"few at the other end", "symbol-errors-1e-15", "", one(time.Minute, true, n(SymbolErrors, 9, "")), one(time.Minute, true, n(SymbolErrors, 1, "")), fail, "hca: 9 in 60 s; leaf: 1 in 60 s", "the receiver of hca, which counts"},
		{"twice the time allows twice as many", "symbol-errors-1e-14", "", one(24*time.Minute, true, n(SymbolErrors, 4, "")), one(24*time.Minute, true), pass, "hca: 4 in 24 min", ""},
		{"and no more", "symbol-errors-1e-14", "", one(24*time.Minute, true, n(SymbolErrors, 5, "")), one(24*time.Minute, true), fail, "hca: 5 in 24 min", "hca"},
		{"half the rate takes twice the time", "symbol-errors-1e-14", "2xNDR", one(23*time.Minute, true), one(23*time.Minute, true), open, "not yet decided, 60 s to go", ""},
		{"half the rate, whole time", "symbol-errors-1e-14", "2xNDR", one(24*time.Minute, true), one(24*time.Minute, true), pass, "0 in 24 min", ""},
		{"twice the rate, half the time", "symbol-errors-1e-15", "4xXDR", one(63*time.Minute, true), one(63*time.Minute, true), pass, "0 in 63 min", ""},
		{"no rate, no verdict", "symbol-errors-1e-14", "0x", one(time.Hour, true, n(SymbolErrors, 9, "")), one(time.Hour, true), open, "its rate is not known", ""},
		{"no traffic, no verdict", "symbol-errors-1e-14", "", one(time.Hour, false), one(time.Hour, false), open, "0 in 60 min (0 s of it under traffic) (not yet decided, 12 min to go and no traffic)", ""},
		{"one end without traffic", "symbol-errors-1e-14", "", one(time.Hour, true), one(time.Hour, false), open, "leaf: 0 in 60 min (0 s of it under traffic)", ""},
		{"idle for long: bits flowed all the same", "symbol-errors-1e-14", "", one(5*time.Hour, false, n(SymbolErrors, 9, "")), one(5*time.Hour, false), open, "hca: 9 in 5 h", ""},
		{"a burst after a quiet day", "symbol-errors-1e-14", "", []Span{span(20*time.Hour, false), span(time.Minute, true, n(SymbolErrors, 3, ""))}, one(20*time.Hour, false), fail, "hca: 3 in", "hca"},
		{"old errors are forgotten", "symbol-errors-1e-14", "", []Span{span(time.Minute, true, n(SymbolErrors, 99, "")), span(20*time.Minute, true)}, one(20*time.Minute, true), pass, "0 in 20 min", ""},
		{"full", "symbol-errors-1e-14", "", one(12*time.Minute, true, n(SymbolErrors, 0, Full)), one(12*time.Minute, true), open, "hca: 0 or more in 12 min (the counter is full)", ""},
		{"full, and over", "symbol-errors-1e-14", "", one(12*time.Minute, true, n(SymbolErrors, 3, Full)), one(12*time.Minute, true), fail, "hca: 3 or more in 12 min (the counter is full)", "hca"},
		{"cleared meanwhile", "symbol-errors-1e-14", "", one(12*time.Minute, true, n(SymbolErrors, 1, SetBack)), one(12*time.Minute, true), open, "the counters were set back meanwhile", ""},
		{"one end not read", "symbol-errors-1e-14", "", nil, one(12*time.Minute, true), open, "hca: not read", ""},
		{"one end not read, the other over", "symbol-errors-1e-14", "", nil, one(12*time.Minute, true, n(SymbolErrors, 3, "")), fail, "leaf: 3 in 12 min", "the receiver of leaf, which counts"},

		// Losing the link: both ends, or one that was restarted.
		{"lost at both ends", "link-downed", "", one(time.Minute, false, n(LinkDowned, 1, "")), one(time.Minute, false, n(LinkDowned, 1, "")), fail, "1 in 60 s at each end", "the cable or the module at either end"},
		{"lost at one end", "link-downed", "", idle, one(time.Minute, false, n(LinkDowned, 1, "")), pass, "leaf: 1 in 60 s", ""},
		{"lost, and the other end restarted", "link-downed", "", one(time.Minute, false, n(LinkDowned, 0, SetBack)), one(time.Minute, false, n(LinkDowned, 1, "")), open, "set back", ""},
		{"lost, and the other end not read", "link-downed", "", nil, one(time.Minute, false, n(LinkDowned, 1, "")), open, "hca: not read", ""},
		{"not lost", "link-downed", "", idle, idle, pass, "0 in 60 s at each end", ""},
		{"5 flaps in a day", "flaps", "", one(24*time.Hour, false, n(LinkDowned, 5, "")), one(24*time.Hour, false, n(LinkDowned, 4, "")), pass, "hca: 5 in 24 h", ""},
		{"6 flaps in a day", "flaps", "", one(24*time.Hour, false, n(LinkDowned, 6, "")), one(24*time.Hour, false), fail, "hca: 6 in 24 h", "restarted"},
		{"6 flaps in an hour", "flaps", "", one(time.Hour, false, n(LinkDowned, 6, "")), one(time.Hour, false), fail, "hca: 6 in 60 min", "restarted"},
		{"no day yet", "flaps", "", one(time.Hour, false), one(time.Hour, false), open, "not yet decided, 23 h to go", ""},
		{"one end restarted, the other has the day", "flaps", "", one(24*time.Hour, false, n(LinkDowned, 0, SetBack)), one(24*time.Hour, false, n(LinkDowned, 2, "")), pass, "leaf: 2 in 24 h", ""},

		// Errors of which none is allowed are judged at once.
		{"receive errors", "receive-errors", "", one(time.Minute, false, n(ReceiveErrors, 1, "")), idle, fail, "hca: 1 in 60 s; leaf: 0 in 60 s", "the transmitter of leaf, the cable, or the receiver of hca"},
		{"no receive errors", "receive-errors", "", idle, idle, pass, "0 in 60 s at each end", ""},
		{"no time", "receive-errors", "", one(0, false), one(0, false), open, "no time passed", ""},
		{"recoveries", "link-recoveries", "", one(time.Minute, false, n(LinkRecoveries, 1, "")), idle, fail, "hca: 1", "the cable or the module"},
		{"local integrity", "local-integrity-errors", "", idle, one(time.Minute, false, n(LocalIntegrity, 1, "")), fail, "leaf: 1", "the transmitter of hca"},
		{"overruns", "buffer-overruns", "", idle, one(time.Minute, false, n(BufferOverruns, 1, "")), fail, "leaf: 1", "hca, which sent too much, and leaf, which counts: this is not the cable"},
		{"overruns at both ends", "buffer-overruns", "", one(time.Minute, false, n(BufferOverruns, 1, "")), one(time.Minute, false, n(BufferOverruns, 1, "")), fail, "1 in 60 s at each end", "this is not the cable"},
		{"an hour's discards in an hour", "transmit-discards", "", one(time.Hour, false, n(TransmitDiscard, 100, "")), one(time.Hour, false), pass, "hca: 100", ""},
		{"an hour's discards in a minute, and the rest to come", "transmit-discards", "", one(time.Minute, false, n(TransmitDiscard, 100, "")), idle, open, "59 min to go", ""},
		{"too many discards", "transmit-discards", "", one(time.Minute, false, n(TransmitDiscard, 101, "")), idle, fail, "hca: 101", "leaf does not take what hca sends"},
		{"too many discards at both ends", "transmit-discards", "", one(time.Minute, false, n(TransmitDiscard, 101, "")), one(time.Minute, false, n(TransmitDiscard, 200, "")), fail, "hca: 101", "this is not the cable"},
	}
	for _, tt := range tests {
		t.Run(tt.check+", "+tt.name, func(t *testing.T) {
			link := testLink(4, "NDR")
			if tt.rate != "" {
				width, speed, _ := strings.Cut(tt.rate, "x")
				link = testLink(int(width[0]-'0'), speed)
			}
			c := checkOf(t, judged(DefaultLimits(), link, tt.a, tt.b, nil), tt.check)
			if c.Verdict != tt.verdict || !strings.Contains(c.Reading, tt.reading) || !strings.Contains(c.Suspect, tt.suspect) || (c.Suspect != "") != (tt.verdict == fail) {
				t.Errorf("%s: %q, suspect %q\nwant %s: %q, %q", c.Verdict, c.Reading, c.Suspect, tt.verdict, tt.reading, tt.suspect)
			}
			if c.Part != "hca — leaf" || c.Source == "" || c.Threshold == "" {
				t.Errorf("part %q, source %q, threshold %q", c.Part, c.Source, c.Threshold)
			}
		})
	}
}

// TestJudgeOthers: thresholds as they are printed, a counter that a port does
// not have, and limits of the inventory.
func TestJudgeOthers(t *testing.T) {
	minute := []Span{span(time.Minute, true, n(TransmitWait, 60*50, ""))}
	link := testLink(2, "NDR")
	checks := judged(DefaultLimits(), link, minute, minute, nil)
	for name, want := range map[string]string{
		"symbol-errors-1e-14": "at most 2 in 24 min under traffic at each end", "link-downed": "none in 60 min at both ends",
		"flaps": "at most 5 in 24 h at the worse end", "receive-errors": "none in 60 min at each end",
	} {
		if c := checkOf(t, checks, name); c.Threshold != want {
			t.Errorf("threshold of %s: %q; want %q", name, c.Threshold, want)
		}
	}
	if slices.ContainsFunc(checks, func(c LinkCheck) bool { return c.Name == "transmit-wait" }) {
		t.Error("waiting is judged without a limit")
	}
	without := judged(DefaultLimits(), link, minute, minute, func(r *Reading) { r.Bits[indexOf(ReceiveErrors)] = 0 })
	if c := checkOf(t, without, "receive-errors"); c.Verdict != acceptance.NotApplicable || !strings.Contains(c.Reading, "no such counter") {
		t.Errorf("a counter that is not there: %+v; want not-applicable", c)
	}
	for most, want := range map[int]acceptance.Verdict{50: acceptance.Pass, 49: acceptance.Fail} {
		l := DefaultLimits()
		i := slices.IndexFunc(l.Table, func(l Limit) bool { return l.Name == "transmit-wait" })
		l.Table[i].Most, l.Table[i].Off = most, false
		if c := checkOf(t, judged(l, link, minute, minute, nil), "transmit-wait"); c.Verdict != want || !strings.Contains(c.Threshold, "in 1 s") {
			t.Errorf("3,000 ticks in a minute, at most %d a second: %+v; want %s", most, c, want)
		}
	}
}

// TestCountersRead says once for a link what keeps its counters from being
// judged, and what a person should look at.
func TestCountersRead(t *testing.T) {
	clean := []Span{span(time.Minute, true)}
	back := []Span{span(time.Minute, true, n(SymbolErrors, 0, SetBack), n(LinkDowned, 0, SetBack))}
	tests := []struct {
		name    string
		a, b    []Span
		verdict acceptance.Verdict
		reading string
		off     []string
	}{
		{"both", clean, clean, acceptance.Pass, "read at both ends", nil},
		{"one", nil, clean, acceptance.NotRun, "hca: not read", []string{"counters-read"}},
		{"none", nil, nil, acceptance.NotRun, "hca: not read; leaf: not read", []string{"counters-read"}},
		{"set back", clean, back, acceptance.NotRun, "leaf: the counters were set back meanwhile", []string{"counters-read"}},
		{"full", clean, []Span{span(time.Minute, true, n(ReceiveErrors, 0, Full))}, acceptance.Pass, "read at both ends", []string{"receive-errors"}},
		{"bad", []Span{span(time.Minute, true, n(ReceiveErrors, 2, ""))}, clean, acceptance.Pass, "read at both ends", []string{"receive-errors"}},
	}
	for _, tt := range tests {
		checks := judged(DefaultLimits(), testLink(4, "NDR"), tt.a, tt.b, nil)
		c := checkOf(t, checks, "counters-read")
		var off []string
		for i := range checks {
			if checks[i].Off() {
				off = append(off, checks[i].Name)
			}
		}
		if c.Verdict != tt.verdict || c.Reading != tt.reading || !slices.Equal(off, tt.off) {
			t.Errorf("%s: %s, %q, off: %v; want %s, %q, %v", tt.name, c.Verdict, c.Reading, off, tt.verdict, tt.reading, tt.off)
		}
	}
	checks := judged(DefaultLimits(), testLink(4, "NDR"), []Span{span(time.Hour, true, n(ReceiveErrors, 5, "")), span(time.Minute, true, n(ReceiveErrors, 2, ""))}, []Span{span(time.Minute, true, n(ReceiveErrors, 1, ""))}, nil)
	if c := checkOf(t, checks, "receive-errors"); c.New != 3 || c.Counter != ReceiveErrors {
		t.Errorf("%d new of %s; want 3 since the reading before, of both ends", c.New, c.Counter)
	}
}

// TestJudgeLink: state, symmetry and the best rate, as the ends tell them.
func TestJudgeLink(t *testing.T) {
	up := func(change func(a, b *Port)) Link {
		l := testLink(4, "NDR")
		for _, p := range []*Port{l.A, l.B} {
			p.Info = &mad.PortInfo{State: mad.PortActive, PhysState: mad.PhysLinkUp, WidthSupported: 1 | 2 | 16, SpeedExtCap: 15, SpeedSupported: 7}
		}
		change(l.A, l.B)
		return l
	}
	tests := []struct {
		name                  string
		link                  Link
		state, symmetry, rate acceptance.Verdict
		reading               string // of the one that fails
	}{
		{"healthy", up(func(a, b *Port) {}), "pass", "pass", "pass", ""},
		{"one end not configured", up(func(a, b *Port) { b.Info.State = mad.PortInit }), "fail", "pass", "pass", "hca: Active; leaf: Init"},
		{"down", up(func(a, b *Port) { b.Info.State, b.Info.PhysState = mad.PortDown, mad.PhysTraining }), "fail", "pass", "pass", "leaf: Down (Training)"},
		{"other width", up(func(a, b *Port) { a.Width = 2 }), "pass", "fail", "fail", "hca: 2xNDR; leaf: 4xNDR"},
		{"other speed", up(func(a, b *Port) { a.Speed = "HDR" }), "pass", "fail", "fail", "hca: 4xHDR; leaf: 4xNDR"},
		{"both slow", up(func(a, b *Port) { a.Speed, b.Speed = "HDR", "HDR" }), "pass", "pass", "fail", "4xHDR at both ends"},
		{"both narrow", up(func(a, b *Port) { a.Width, b.Width = 1, 1 }), "pass", "pass", "fail", "1xNDR at both ends"},
		{"an end that can do no more", up(func(a, b *Port) { a.Speed, b.Speed, a.Info.SpeedExtCap = "HDR", "HDR", 7 }), "pass", "pass", "pass", ""},
		{"an end with 2 lanes", up(func(a, b *Port) { a.Width, b.Width, a.Info.WidthSupported = 2, 2, 1|16 }), "pass", "pass", "pass", ""},
		{"held to 2 lanes", up(func(a, b *Port) { a.Width, b.Width, b.Info.WidthEnabled = 2, 2, 1|16 }), "pass", "pass", "pass", ""},
		{"held to HDR", up(func(a, b *Port) { a.Speed, b.Speed, a.Info.SpeedExtOn = "HDR", "HDR", 7 }), "pass", "pass", "pass", ""},
		{"held to HDR, runs at EDR", up(func(a, b *Port) { a.Speed, b.Speed, a.Info.SpeedExtOn = "EDR", "EDR", 7 }), "pass", "pass", "fail", "4xEDR at both ends"},
		{"held to QDR", up(func(a, b *Port) { a.Speed, b.Speed, a.Info.SpeedExtOn = "QDR", "QDR", 30 }), "pass", "pass", "pass", ""},
		{"from a dump", testLink(4, "NDR"), "not-run", "pass", "not-run", ""},
		{"from a dump, without rate", testLink(0, ""), "not-run", "not-run", "not-run", ""},
	}
	for _, tt := range tests {
		checks := JudgeLink(tt.link, shortNames)
		for i, want := range []acceptance.Verdict{tt.state, tt.symmetry, tt.rate} {
			c := checks[i]
			if c.Verdict != want || c.Part != "hca — leaf" || c.Source == "" || want == acceptance.Fail && !strings.Contains(c.Reading, tt.reading) {
				t.Errorf("%s: %s is %s, %q; want %s, %q", tt.name, c.Name, c.Verdict, c.Reading, want, tt.reading)
			}
		}
	}
}

func TestGone(t *testing.T) {
	link := testLink(4, "NDR")
	before := &Observed{Nodes: []*Node{link.A.Node, link.B.Node}}
	same, other := testLink(4, "NDR"), testLink(4, "NDR")
	other.B.Num = 9
	if gone := Gone(before, &Observed{Nodes: []*Node{same.B.Node, same.A.Node}}); len(gone) != 0 {
		t.Errorf("gone: %v, of the same links in another order", gone)
	}
	gone := Gone(before, &Observed{Nodes: []*Node{other.A.Node, other.B.Node}})
	if len(gone) != 1 || gone[0].B != link.B {
		t.Errorf("gone: %v; want the link to port 7", gone)
	}
	if c := GoneCheck(link, nil); c.Verdict != acceptance.Fail || c.Part != "hnode001 mlx5_0 — leaf-01 port 7" {
		t.Errorf("check of a link that is gone: %+v", c)
	}
}
