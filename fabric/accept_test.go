package fabric

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"firstlight/fabric/mad"
	"firstlight/provision/acceptance"
)

// accepting judges a world by two readings of its counters, so far apart.
func (w *world) accepting(apart time.Duration, known Known, part string) *Acceptance {
	h := NewHistory()
	for k := range 2 {
		at := noon.Add(time.Duration(k) * apart)
		for _, n := range w.o.Nodes {
			for _, p := range n.Ports {
				p.Info = &mad.PortInfo{State: mad.PortActive}
				p.Counters = counters(at, true, nil)
			}
		}
		h.Add(w.o, at, 0.01)
	}
	l := DefaultLimits()
	return &Acceptance{Judged: Declare(w.c, w.f).Judge(w.o, known), Limits: l, Recent: h.Recent(w.o, l), Part: part}
}

func verdictOfNode(a *Acceptance, node string) (acceptance.Verdict, NodeVerdict) {
	v := a.Node(node, time.Minute)
	return acceptance.Evidence{Checks: v.Checks}.Verdict(), v
}

// keeping are the classes that keep the nodes they name from passing.
var keeping = []Class{MissingCable, MissingNode, Miswired, SwappedPair, SwappedRails, Rotated, SwappedRack, WrongSpeed, WrongWidth, RailViolation, DuplicateGUID}

// TestAcceptConcerned breaks a fabric at random: nodes that a fault has nothing to
// do with pass, and those that it names do not, with something to do.
func TestAcceptConcerned(t *testing.T) {
	s := newSite(t, "superpod-h200")
	s.full.Partitions = s.full.Partitions[:2] // those of everybody: who has another's name could be in any
	sets := 60
	if testing.Short() {
		sets = 10
	}
	for i := range sets {
		rng := rand.New(rand.NewPCG(7, uint64(i)))
		w := build(s.c, s.full, rng)
		how := saying[i%len(saying)]
		w.say(how)
		var want []item
		for n := 1 + rng.IntN(4); len(want) < n; {
			if j := injectors[rng.IntN(len(injectors))]; j.how == "" || strings.Contains(j.how, how) {
				want = append(want, j.inflict(w)...)
			}
		}
		w.prune()
		named, kept := map[string]bool{}, map[string]bool{}
		for _, it := range want {
			for _, p := range it.ports {
				device, _, _ := strings.Cut(p, " ")
				named[device] = true
				kept[device] = kept[device] || slices.Contains(keeping, it.class)
			}
		}
		a := w.accepting(time.Hour, w.known, "")
		for i := range w.f.Cables { // what is cabled to a port or switch that is named may be concerned
			if k := &w.f.Cables[i]; named[k.BDevice] && w.c.Node(k.ADevice) != nil && slices.ContainsFunc(want, func(it item) bool {
				return slices.Contains(it.ports, bEnd(k)) || slices.Contains(it.ports, k.BDevice+" ")
			}) {
				named[k.ADevice] = true
			}
		}
		for _, n := range w.c.Nodes {
			switch got, v := verdictOfNode(a, n.Name); {
			case !named[n.Name] && (got != acceptance.Pass || len(v.Do) > 0):
				t.Errorf("set %d (%s, %v): %s is no part of it: %s, to do %q", i, how, want, n.Name, got, v.Do)
			case kept[n.Name] && (got != acceptance.Fail || len(v.Do) == 0):
				t.Errorf("set %d (%s, %v): %s is a part of it: %s, to do %q", i, how, want, n.Name, got, v.Do)
			}
		}
	}
}

// rackWorld is a healthy fabric of eight nodes and eight rails.
func rackWorld(t *testing.T) *world {
	c := loadExample(t, "h200-rack")
	return build(c, c.Fabrics["compute"], rand.New(rand.NewPCG(1, 1)))
}

// TestAcceptSwap: both nodes of a swap are kept back by the same action, and
// nobody else is.
func TestAcceptSwap(t *testing.T) {
	w := rackWorld(t)
	exchange(w.port("leaf-03", "2"), w.port("leaf-03", "5"))
	a := w.accepting(time.Hour, w.known, "")
	for _, n := range w.c.Nodes {
		got, v := verdictOfNode(a, n.Name)
		if n.Name != "hnode002" && n.Name != "hnode005" {
			if got != acceptance.Pass || len(v.Do) > 0 {
				t.Errorf("%s: %s, %q; want a pass", n.Name, got, v.Do)
			}
			continue
		}
		if got != acceptance.Fail || len(v.Do) != 1 || !strings.HasPrefix(v.Do[0], "swap the cables at leaf-03 port ") || !strings.Contains(v.Do[0], "(cables.csv:") {
			t.Errorf("%s: %s, %q; want a failure, and one swap to do", n.Name, got, v.Do)
		}
	}
}

// TestAcceptDarkLeaf: the nodes of a switch without power are told of it, once.
func TestAcceptDarkLeaf(t *testing.T) {
	w := rackWorld(t)
	w.remove(w.sw["leaf-03"])
	w.prune()
	got, v := verdictOfNode(w.accepting(time.Hour, w.known, ""), "hnode002")
	if got != acceptance.Fail || len(v.Do) != 1 || !strings.HasPrefix(v.Do[0], "look at the power of leaf-03") {
		t.Errorf("%s, %q; want a failure, and the power of leaf-03 to look at", got, v.Do)
	}
	if got, _ := verdictOfNode(w.accepting(time.Hour, w.known, "the fabric was not read within 2m0s"), "hnode002"); got != acceptance.NotRun {
		t.Errorf("read in part: %s; want not-run, since it may be there", got)
	}
}

// TestAcceptWindow: before the window is over nothing is decided; after it limits
// that need longer are named, and keep nobody.
func TestAcceptWindow(t *testing.T) {
	w := rackWorld(t)
	got, v := verdictOfNode(w.accepting(20*time.Second, w.known, ""), "hnode002")
	if got != acceptance.NotRun || len(v.Do) != 1 || v.Do[0] != "ibn[1-8] counters: not yet decided, 40 s to go" {
		t.Errorf("20 s of 60: %s, %q; want 40 s to go for all adapters at once", got, v.Do)
	}
	got, v = verdictOfNode(w.accepting(time.Minute, w.known, ""), "hnode002")
	i := slices.IndexFunc(v.Checks, func(c acceptance.Check) bool { return c.Name == "fabric.ibn1.counters" })
	if got != acceptance.Pass || !strings.Contains(v.Checks[i].Reading, "nothing above its limit in 60 s") || !strings.Contains(v.Checks[i].Reading, "still undecided, since they take longer than the window: symbol-errors-1e-14") {
		t.Errorf("60 s of 60: %s, %+v; want a pass that names what is undecided", got, v.Checks[i])
	}
	if v := w.accepting(time.Minute, w.known, "").Node("hnode002", 24*time.Hour); (acceptance.Evidence{Checks: v.Checks}).Verdict() != acceptance.NotRun || !strings.Contains(v.Do[0], "24 h to go") {
		t.Errorf("a minute of a day: %q; want it not decided", v.Do)
	}
}

// TestAcceptLinks: what is wrong at one link is told of the node at its end.
func TestAcceptLinks(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(w *world, p *Port)
		check string
		want  acceptance.Verdict
		do    string
	}{
		{"not configured", func(_ *world, p *Port) { p.Info.State = mad.PortInit }, "fabric.ibn4.state", acceptance.Fail, "suspect: the subnet manager"},
		{"slow", func(w *world, p *Port) { p.Speed, p.Peer.Speed = "HDR", "HDR" }, "fabric.ibn4.rate", acceptance.Fail, "reseat the cable"},
		{"rate not told", func(w *world, p *Port) { p.Speed, p.Peer.Speed = "", "" }, "fabric.ibn4.rate", acceptance.NotRun, "the port does not tell its rate"},
		{"state not told", func(_ *world, p *Port) { p.Info = nil }, "fabric.ibn4.state", acceptance.NotRun, "state: "},
		{"counters not read", func(_ *world, p *Port) { p.Counters = nil }, "fabric.ibn4.counters", acceptance.NotRun, "not read"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := rackWorld(t)
			a := w.accepting(time.Hour, w.known, "")
			p := w.port("hnode002", "ibn4")
			tt.spoil(w, p)
			if p.Counters == nil {
				delete(a.Recent, p.ID())
			}
			a.Judged = Declare(w.c, w.f).Judge(w.o, w.known)
			got, v := verdictOfNode(a, "hnode002")
			i := slices.IndexFunc(v.Checks, func(c acceptance.Check) bool { return c.Name == tt.check })
			if got != tt.want || v.Checks[i].Verdict != tt.want || len(v.Do) != 1 || !strings.Contains(v.Do[0], tt.do) {
				t.Errorf("%s, %s is %s, to do %q; want %s, %q", got, tt.check, v.Checks[i].Verdict, v.Do, tt.want, tt.do)
			}
			if got, _ := verdictOfNode(a, "hnode003"); got != acceptance.Pass {
				t.Errorf("hnode003 is %s; want it to pass", got)
			}
		})
	}
}

// TestRecentFrom: what was counted before a node runs its image, as by its
// restart, says nothing of it.
func TestRecentFrom(t *testing.T) {
	s, h := newSmall(1), NewHistory()
	id := PortID{1, 1}
	for k := range 4 {
		if k == 1 {
			s.values[id][LinkDowned], s.values[PortID{1000, 1}][LinkDowned] = 1, 1
		}
		at := noon.Add(time.Duration(k) * time.Minute)
		h.Add(s.read(at, false), at, 0.01)
	}
	for from, want := range map[time.Duration]struct {
		n       uint64
		watched time.Duration
	}{0: {1, 3 * time.Minute}, time.Second: {0, 2 * time.Minute}, 2 * time.Minute: {0, time.Minute}, time.Hour: {0, 0}} {
		r := h.RecentFrom(s.Observed, DefaultLimits(), func(at PortID) (time.Time, bool) { return noon.Add(from), at == id })
		limit := slices.IndexFunc(DefaultLimits().Table, func(l Limit) bool { return l.Name == "link-downed" })
		if got := r[id]; len(r) != 1 || got.Windows[limit].N != want.n || got.Watched != want.watched {
			t.Errorf("from %v: %d lost links in %v, of %d ports; want %d in %v, of 1", from, got.Windows[limit].N, got.Watched, len(r), want.n, want.watched)
		}
	}
}

// TestDescribe: names that inspection found are given to adapters that have none.
func TestDescribe(t *testing.T) {
	o := &Observed{Nodes: []*Node{{Kind: CA, GUID: 1, Description: "MT4129 ConnectX7"}, {Kind: CA, GUID: 2, Description: "other mlx5_0"}, {Kind: CA, GUID: 3}, {Kind: Switch, GUID: 1, Description: ""}}}
	o.Describe(map[uint64]Adapter{0: {"zero", "x"}, 1: {"n1", "ibn1"}, 2: {"n2", "ibn1"}})
	for i, want := range []string{"n1 ibn1", "other mlx5_0", "", ""} {
		if got := o.Nodes[i].Description; got != want {
			t.Errorf("adapter %d is described as %q; want %q", i, got, want)
		}
	}
}
