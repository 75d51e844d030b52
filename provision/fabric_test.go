package provision

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"firstlight/inventory"
	"firstlight/provision/acceptance"
)

// guidOf is a GUID as sysfs prints it.
func guidOf(n *inventory.Node, h inventory.HCA) string {
	sum := fnv.New64a()
	fmt.Fprint(sum, n.Name, h.Name)
	x := fmt.Sprintf("%016x", sum.Sum64())
	return x[:4] + ":" + x[4:8] + ":" + x[8:12] + ":" + x[12:]
}

// sweepCall is one reading of a fakeFabric.
type sweepCall struct {
	waiting []string
	known   Known
}

// fakeFabric judges as it is told. It is called by one goroutine at a time.
type fakeFabric struct {
	judge func(node string, waited time.Duration, together int) FabricVerdict
	fail  error

	mu    sync.Mutex
	busy  bool
	twice bool // two readings at once
	calls []sweepCall
}

func (f *fakeFabric) Sweep(_ context.Context, known Known, waiting map[string]time.Time) (map[string]FabricVerdict, error) {
	f.mu.Lock()
	f.twice = f.twice || f.busy
	f.busy = true
	f.mu.Unlock()
	now := time.Now()
	out := map[string]FabricVerdict{}
	var names []string
	for node, since := range waiting {
		names = append(names, node)
		if f.judge != nil {
			out[node] = f.judge(node, now.Sub(since), len(waiting))
		}
	}
	slices.Sort(names)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.busy = false
	f.calls = append(f.calls, sweepCall{names, known})
	return out, f.fail
}

// said is a verdict with one check.
func said(v acceptance.Verdict, do ...string) FabricVerdict {
	return FabricVerdict{Do: do, Checks: []acceptance.Check{{Name: "fabric.ibn1.cable", Verdict: v, Reading: "leaf-01 port 2", Threshold: "leaf-01 port 2", Source: "cables.csv:2", Part: "HCA ibn1"}}}
}

const testWindow = 50 * time.Millisecond

// cabledRig is a rig whose nodes have an adapter, with a cable and a window that
// is soon over.
func cabledRig(n int, f Fabric) rig {
	r := newRig(n)
	r.fabric = f
	c := r.want.Cluster
	class := *c.Nodes[0].Hardware
	class.HCAs = []inventory.HCA{{Name: "ibn1", Device: "mlx5_3", Rail: 1}}
	accept := &inventory.Acceptance{Name: "a", Fabric: &inventory.FabricStage{Window: inventory.Duration{Duration: testWindow, Text: "50ms"}}}
	fab := &inventory.Fabric{Name: "compute", LinkLayer: "infiniband"}
	for i, node := range c.Nodes {
		node.Hardware, node.Acceptance = &class, accept
		fab.Cables = append(fab.Cables, inventory.Cable{ADevice: node.Name, APort: "ibn1", BDevice: "leaf-01", BPort: fmt.Sprint(i + 1)})
	}
	c.Fabrics = map[string]*inventory.Fabric{"compute": fab}
	c.Settings.Deadlines["validated"] = 20 * time.Second
	return r
}

// checked are the evidence's checks of a node's last proof of Validated, or of the
// refusal of it.
func (r rig) checked(t *testing.T, n Node) []acceptance.Check {
	t.Helper()
	digest := n.Proofs[Validated].Evidence
	if digest == "" && n.Refused != nil {
		digest = n.Refused.Evidence
	}
	return r.evidenceOf(t, digest).Checks
}

// TestOneSweepForAll: readings are shared by all that wait, and never overlap.
func TestOneSweepForAll(t *testing.T) {
	const nodes = 20
	f := &fakeFabric{judge: func(_ string, _ time.Duration, together int) FabricVerdict {
		if together < nodes {
			return said(acceptance.NotRun, "not yet decided")
		}
		return said(acceptance.Pass)
	}}
	r := cabledRig(nodes, f)
	known, _, err := r.apply(t)
	if err != nil {
		t.Fatal(err)
	}
	for name, n := range known.Nodes {
		if n.State != Ready {
			t.Errorf("%s is %s (%s); want ready by the reading that all waited for", name, n.State, n.Reason)
		}
	}
	if last := f.calls[len(f.calls)-1]; len(last.waiting) != nodes || f.twice {
		t.Errorf("the last reading was for %d nodes, overlapping %v; want %d, one at a time", len(last.waiting), f.twice, nodes)
	}
}

// TestFabricMovesOnlyItsNodes has every node of a random site with a fabric that is
// good, bad, bad for a time shorter than the window, or never decided: each ends as
// its own fabric says, at no cost to its power.
func TestFabricMovesOnlyItsNodes(t *testing.T) {
	const move = "move the cable at leaf-01 port 7 to port 8: miswired, n1 ibn1: cabled to leaf-01 port 7"
	for seed := range uint64(2) {
		rng := rand.New(rand.NewPCG(seed, 1))
		kinds := map[string]string{}
		f := &fakeFabric{judge: func(node string, waited time.Duration, _ int) FabricVerdict {
			switch kinds[node] {
			case "bad":
				return said(acceptance.Fail, move)
			case "late":
				if waited < testWindow {
					return said(acceptance.Fail, move)
				}
			case "never":
				return said(acceptance.NotRun, "ibn1 counters: not yet decided, 93 min to go")
			}
			return said(acceptance.Pass)
		}}
		r := cabledRig(12, f)
		r.want.Cluster.Settings.Deadlines["validated"] = 4 * time.Second
		for _, n := range r.want.Cluster.Nodes {
			kinds[n.Name] = []string{"good", "bad", "late", "never"}[rng.IntN(4)]
		}
		known, _, err := r.apply(t)
		if err != nil {
			t.Fatal(err)
		}
		for name, n := range known.Nodes {
			kind, m := kinds[name], r.world.machines[name]
			want, reason := Ready, ""
			switch kind {
			case "bad":
				want, reason = Failed, move
			case "never":
				want, reason = Failed, "not yet decided, 93 min to go"
			}
			if n.State != want || !strings.HasPrefix(n.Reason, reason) && !strings.HasSuffix(n.Reason, reason) {
				t.Errorf("seed %d: %s (%s) is %s (%s); want %s (%s)", seed, name, kind, n.State, n.Reason, want, reason)
			}
			if m.ons != 1 || m.cycles != 0 || m.reboots != 1 {
				t.Errorf("seed %d: %s (%s): %d power-ons, %d cycles, %d reboots; want 1, 0, 1", seed, name, kind, m.ons, m.cycles, m.reboots)
			}
		}
		r.goesOnWhenMended(t, f, kinds)
	}
}

// goesOnWhenMended applies again with a good fabric: only the checks are made anew.
func (r rig) goesOnWhenMended(t *testing.T, f *fakeFabric, kinds map[string]string) {
	t.Helper()
	f.judge = func(string, time.Duration, int) FabricVerdict { return said(acceptance.Pass) }
	f.calls = nil
	known, _, err := r.apply(t)
	if err != nil {
		t.Fatal(err)
	}
	for name, n := range known.Nodes {
		m := r.world.machines[name]
		if n.State != Ready || m.ons != 1 || m.cycles != 0 || m.reboots != 1 {
			t.Errorf("mended: %s (%s) is %s (%s) after %d power-ons, %d cycles, %d reboots; want ready after 1, 0, 1", name, kinds[name], n.State, n.Reason, m.ons, m.cycles, m.reboots)
		}
	}
	for _, c := range f.calls {
		for _, name := range c.waiting {
			if kinds[name] == "good" || kinds[name] == "late" {
				t.Errorf("mended: %s, which was ready, waited for the fabric", name)
			}
		}
	}
}

// TestFabricNotRead: what cannot be read is not run, and never passes.
func TestFabricNotRead(t *testing.T) {
	tests := []struct {
		name   string
		fabric Fabric
		reason string
	}{
		{"no reader", nil, "fabric not run: this controller has nothing to read it with"},
		{"refused", &fakeFabric{fail: &Refused{Reason: "no InfiniBand port of this machine has a link"}}, "fabric not run: it could not be read: no InfiniBand port of this machine has a link"},
		{"silent", &fakeFabric{fail: errors.New("nothing of the fabric answered")}, "fabric not run: it could not be read: nothing of the fabric answered"},
		{"nothing said", &fakeFabric{}, "fabric not run: it was read, and nothing was said of this node"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := cabledRig(1, tt.fabric)
			r.want.Cluster.Settings.Deadlines["validated"] = 2 * time.Second
			known, _, err := r.apply(t)
			if err != nil {
				t.Fatal(err)
			}
			n := known.Nodes["n1"]
			if n.State != Failed || n.Reason != tt.reason || n.proven() != Provisioned {
				t.Errorf("%s (%s), proven %s; want failed, proven provisioned (%s)", n.State, n.Reason, n.proven(), tt.reason)
			}
			if v := (acceptance.Evidence{Checks: r.checked(t, n)}).Verdict(); v != acceptance.NotRun {
				t.Errorf("the evidence says %s; want not-run", v)
			}
			if m := r.world.machines["n1"]; m.cycles != 0 || m.reboots != 1 {
				t.Errorf("%d power cycles, %d reboots; want none, 1", m.cycles, m.reboots)
			}
		})
	}
}

// TestFabricNotApplicable: nodes without adapters are not asked for a fabric.
func TestFabricNotApplicable(t *testing.T) {
	f := &fakeFabric{fail: errors.New("must not be read")}
	r := newRig(1)
	r.fabric = f
	known, _, err := r.apply(t)
	if err != nil {
		t.Fatal(err)
	}
	n := known.Nodes["n1"]
	i := slices.IndexFunc(r.checked(t, n), func(c acceptance.Check) bool { return c.Name == "fabric" && c.Verdict == acceptance.NotApplicable })
	if n.State != Ready || len(f.calls) > 0 || i < 0 {
		t.Errorf("%s after %d readings, evidence %+v; want ready after none, and the fabric not applicable", n.State, len(f.calls), r.checked(t, n))
	}
}

// TestAdaptersAreLearned: the journal keeps what inspection found, also of a node
// that it refused, and the fabric is judged with it.
func TestAdaptersAreLearned(t *testing.T) {
	f := &fakeFabric{judge: func(string, time.Duration, int) FabricVerdict { return said(acceptance.Pass) }}
	r := cabledRig(2, f)
	r.world.machines["n2"].disksLess = 1
	if _, _, err := r.apply(t); err != nil {
		t.Fatal(err)
	}
	_, known := r.engine(t) // from the journal
	for _, n := range r.want.Cluster.Nodes {
		want := adaptersOf(n, r.world.machines[n.Name].work(inspectJob).Inspection)
		if got := known.Nodes[n.Name].Adapters; len(want) != 1 || !slices.Equal(got, want) || got[0].HCA != "ibn1" || got[0].Device != "mlx5_3" || got[0].Rail != 1 {
			t.Errorf("%s: the journal knows the adapters %+v; want %+v", n.Name, got, want)
		}
	}
	if len(f.calls) == 0 || len(f.calls[0].known.Nodes["n1"].Adapters) != 1 {
		t.Errorf("%d readings; want one at least, with the adapters that are known", len(f.calls))
	}
}

// TestPlanOfCabledNodes: the window counts, another cable is a reason to validate
// anew, and what this version cannot validate is said beforehand.
func TestPlanOfCabledNodes(t *testing.T) {
	r := cabledRig(2, nil)
	known := NewKnown()
	for _, n := range r.want.Cluster.Nodes {
		known.Nodes[n.Name] = proven(r.want, n)
	}
	fab := r.want.Cluster.Fabrics["compute"]
	fab.Cables[1].BPort = "40"
	p := MakePlan(r.want, known, nil, epoch)
	if a, b := p.Nodes[0], p.Nodes[1]; a.Action != ActionNone || b.Action != ActionChange || !slices.Equal(b.Redo, []State{Validated, Ready}) ||
		!strings.Contains(strings.Join(b.Reasons, "\n"), "fabric.cable.mlx5_3: leaf-01 port 2 -> leaf-01 port 40") {
		t.Errorf("another cable of n2: %s; %s %v because %q; want only n2 validated anew because of its cable", a.Action, b.Action, b.Redo, b.Reasons)
	}
	fab.LinkLayer = "ethernet"
	p = MakePlan(r.want, NewKnown(), nil, epoch)
	if !strings.Contains(strings.Join(p.Nodes[0].Reasons, "\n"), "compute fabric: this version validates InfiniBand only and the node will stop at provisioned") {
		t.Errorf("an Ethernet fabric: reasons %q; want that the node will stop", p.Nodes[0].Reasons)
	}
	f := &fakeFabric{judge: func(string, time.Duration, int) FabricVerdict { return said(acceptance.Pass) }}
	r.fabric = f
	known, _, err := r.apply(t)
	if err != nil {
		t.Fatal(err)
	}
	if n := known.Nodes["n1"]; n.State != Failed || !strings.Contains(n.Reason, "InfiniBand only") || len(f.calls) > 0 {
		t.Errorf("an Ethernet fabric: n1 is %s (%s) after %d readings; want failed after none", n.State, n.Reason, len(f.calls))
	}
}
