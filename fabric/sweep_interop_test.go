package fabric

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"firstlight/fabric/mad"
	"firstlight/internal/ibsimtest"
)

// attach opens local ports of the simulated fabric, which may still be starting.
func attach(t testing.TB, sim *ibsimtest.Sim, nodes ...string) []Transport {
	t.Helper()
	var out []Transport
	for _, node := range nodes {
		port, err := mad.DialIBSim(sim.Socket, node)
		for begin := time.Now(); err != nil && time.Since(begin) < 20*time.Second; time.Sleep(50 * time.Millisecond) {
			port, err = mad.DialIBSim(sim.Socket, node)
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { port.Close() })
		out = append(out, port)
	}
	return out
}

// sweep reads the fabric and fails the test unless all of it answered.
func sweep(t testing.TB, s Sweep) *Swept {
	t.Helper()
	s.Deadline = 60 * time.Second
	found, err := s.Run(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if len(found.Unanswered) > 0 || len(found.Inconsistencies) > 0 {
		t.Fatalf("unanswered %v, inconsistent %v; want neither", found.Unanswered, found.Inconsistencies)
	}
	return found
}

// plainLinks are the links in FatTree's form.
func plainLinks(o *Observed) []string {
	var out []string
	for _, l := range o.Links() {
		out = append(out, plainLink(l))
	}
	slices.Sort(out)
	return out
}

func plainLink(l Link) string {
	name := func(p *Port) string { return fmt.Sprintf("%s[%d]", p.Node.Description, p.Num) }
	a, b := name(l.A), name(l.B)
	// A link of two switches stands below first, as the tiers are called: leaf, spine, core.
	if l.A.Node.Kind == Switch && (l.A.Node.Description[0] == 'c' || l.A.Node.Description[0] == 's' && l.B.Node.Description[0] == 'l') {
		a, b = b, a
	}
	return a + " " + b
}

func TestInteropSweep(t *testing.T) {
	net, want := ibsimtest.FatTree(64, 8)
	sim := ibsimtest.Start(t, net, ibsimtest.Adapter(1, 0))
	theirs := plainLinks(parse(t, sim.Run("ibnetdiscover")))
	if diff := cmp.Diff(want, theirs); diff != "" {
		t.Fatalf("links (-net file +ibnetdiscover):\n%s", diff)
	}
	for _, rails := range []int{1, 4} {
		var nodes []string
		for r := range rails {
			nodes = append(nodes, ibsimtest.Adapter(1, r))
		}
		found := sweep(t, Sweep{Transports: attach(t, sim, nodes...)})
		t.Logf("%d local ports: %+v", rails, found.Stats)
		if diff := cmp.Diff(want, plainLinks(found.Observed)); diff != "" {
			t.Errorf("%d local ports: links (-net file +swept):\n%s", rails, diff)
		}
	}
}

// find returns the node of that description.
func find(t testing.TB, o *Observed, description string) *Node {
	t.Helper()
	for _, n := range o.Nodes {
		if n.Description == description {
			return n
		}
	}
	t.Fatalf("no node %q was found", description)
	return nil
}

// TestInteropCable pulls a cable, plugs it elsewhere, and lets ibnetdiscover say the same.
func TestInteropCable(t *testing.T) {
	net, want := ibsimtest.FatTree(64, 2)
	sim := ibsimtest.Start(t, net, ibsimtest.Adapter(1, 0))
	transports := attach(t, sim, ibsimtest.Adapter(1, 0))
	steps := []struct {
		do        []string
		gone, new string
	}{
		{[]string{`Unlink "hnode010 mlx5_1"[1]`}, "hnode010 mlx5_1[1] leaf-002[10]", ""},
		{[]string{`Link "hnode010 mlx5_1"[1] "leaf-003"[33]`}, "", ""}, // taken: nothing changes
		{[]string{`Unlink "leaf-003"[1]`}, "hnode033 mlx5_0[1] leaf-003[1]", ""},
		{[]string{`Link "hnode010 mlx5_1"[1] "leaf-003"[1]`}, "", "hnode010 mlx5_1[1] leaf-003[1]"},
		{[]string{`Unlink "leaf-004"[40]`}, linkOf(t, want, "leaf-004[40]"), ""},
	}
	for _, step := range steps {
		sim.Do(step.do...)
		want = slices.DeleteFunc(want, func(l string) bool { return l == step.gone })
		if step.new != "" {
			want = append(want, step.new)
			slices.Sort(want)
		}
		// What is pulled from its only port is found no more.
		found := sweep(t, Sweep{Transports: transports})
		if diff := cmp.Diff(want, plainLinks(found.Observed)); diff != "" {
			t.Errorf("after %v, links (-expected +swept):\n%s", step.do, diff)
		}
		if diff := cmp.Diff(plainLinks(parse(t, sim.Run("ibnetdiscover"))), plainLinks(found.Observed)); diff != "" {
			t.Errorf("after %v, links (-ibnetdiscover +swept):\n%s", step.do, diff)
		}
	}
	dark := find(t, sweep(t, Sweep{Transports: transports}).Observed, "leaf-004").Port(40)
	if dark == nil || dark.Peer != nil || dark.Info == nil || dark.Info.PhysState != mad.PhysPolling || dark.Rate() != "" {
		t.Errorf("the port that was unplugged: %+v; want it without a peer, polling", dark)
	}
}

func linkOf(t *testing.T, links []string, port string) string {
	t.Helper()
	for _, l := range links {
		a, b, _ := strings.Cut(l, "] ")
		if a+"]" == port || b == port {
			return l
		}
	}
	t.Fatalf("no link has %s", port)
	return ""
}

// TestInteropCounters sets counters at the simulator's console, and reads those
// of every connected port.
func TestInteropCounters(t *testing.T) {
	net, links := ibsimtest.FatTree(32, 2)
	sim := ibsimtest.Start(t, net, ibsimtest.Adapter(1, 0))
	transports := attach(t, sim, ibsimtest.Adapter(1, 0))
	found, err := Sweep{Transports: transports, Counters: true}.Run(context.Background())
	if err != nil || len(found.Unanswered) != 1 || !strings.Contains(found.Unanswered[0].String(), "is a subnet manager running?") {
		t.Errorf("without a subnet manager: %v, %v; want the question whether one is running", found.Unanswered, err)
	}
	sim.Manage(ibsimtest.Adapter(2, 0))
	sim.Do(`PerformanceSet "leaf-002"[7] PortCounters.SymbolErrorCounter=120`,
		`PerformanceSet "leaf-002"[7] PortCounters.LinkDownedCounter=2`,
		`PerformanceSet "leaf-002"[7] PortCountersExtended.PortUnicastXmitPkts=4294967299`,
		`PerformanceSet "hnode007 mlx5_1"[1] PortCounters.PortRcvErrors=9`)
	found = sweep(t, Sweep{Transports: transports, Counters: true, PKeys: true})
	t.Logf("%+v", found.Stats)
	ports := 0
	for _, n := range found.Nodes {
		for _, p := range n.Ports {
			switch {
			case p.Peer == nil && p.Counters != nil:
				t.Errorf("%s has counters and nothing behind it", p.Label())
			case p.Peer != nil && (p.Counters == nil || p.Counters.Extended == nil || p.Counters.Counters.Port != uint8(p.Num) || !p.Counters.HasWait):
				t.Errorf("%s: counters %+v; want both attributes of that port", p.Label(), p.Counters)
			case p.Peer != nil:
				ports++
			}
		}
	}
	if ports != 2*len(links) {
		t.Errorf("counters of %d ports; want those of %d", ports, 2*len(links))
	}
	leaf, hca := find(t, found.Observed, "leaf-002").Port(7), find(t, found.Observed, "hnode007 mlx5_1").Port(1)
	if leaf.Peer != hca {
		t.Fatalf("%s leads to %s", leaf.Label(), leaf.Peer.Label())
	}
	if c := leaf.Counters; c.Counters.SymbolErrorCounter != 120 || c.Counters.LinkDownedCounter != 2 || c.Extended.PortUnicastXmitPkts != 1<<32+3 {
		t.Errorf("%s: %+v, %+v; want what was set", leaf.Label(), c.Counters, c.Extended)
	}
	if c := hca.Counters; c.Counters.PortRcvErrors != 9 || c.Counters.SymbolErrorCounter != 0 {
		t.Errorf("%s: %+v; want 9 receive errors", hca.Label(), c.Counters)
	}
	if !slices.Equal(hca.PKeys, []uint16{0xffff}) && !slices.Equal(hca.PKeys, []uint16{0x7fff}) {
		t.Errorf("%s: partition keys %#x; want the default partition's alone", hca.Label(), hca.PKeys)
	}
	if leaf.Rate() != "HDR" || hca.LID == 0 || leaf.Node.LID == 0 || hca.GUID != hca.Node.GUID+1 || leaf.Info.State != mad.PortActive {
		t.Errorf("%s %+v, %s %+v; want HDR, LIDs, the port's GUID and Active", leaf.Label(), leaf, hca.Label(), hca)
	}
}

// TestInteropDrops has the simulator drop answers: the sweep asks again, and
// says what never answered.
func TestInteropDrops(t *testing.T) {
	net, want := ibsimtest.FatTree(64, 2)
	sim := ibsimtest.Start(t, net, ibsimtest.Adapter(1, 0))
	transports := attach(t, sim, ibsimtest.Adapter(1, 0))
	sim.Do(`Error "leaf-003" 30`, `Error "spine-001" 30`)
	s := Sweep{Transports: transports, Attempts: 20}
	found := sweep(t, s)
	if diff := cmp.Diff(want, plainLinks(found.Observed)); diff != "" || found.Stats.Repeats == 0 {
		t.Errorf("%d repeats; links (-net file +swept):\n%s", found.Stats.Repeats, diff)
	}
	sim.Do(`Error "leaf-003" 0`, `Error "spine-001" 0`, `Error "leaf-004" 100 21`) // PortInfo
	found, err := Sweep{Transports: transports}.Run(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	// It tells its name and no port; what hangs on it is reached from above only where it has another way.
	leaf := find(t, found.Observed, "leaf-004")
	if leaf.Kind != Switch || len(found.Unanswered) == 0 {
		t.Errorf("leaf-004: %+v, unanswered %v; want it among both", leaf, found.Unanswered)
	}
	for _, u := range found.Unanswered {
		if u.Node != leaf {
			t.Errorf("unanswered: %v; want only what leaf-004 was asked", u)
		}
	}
	t.Logf("%v, %+v", found.Unanswered, found.Stats)
}

// TestInteropStopped reads from a simulator that does nothing any more, and
// again when it goes on.
func TestInteropStopped(t *testing.T) {
	net, want := ibsimtest.FatTree(32, 2)
	sim := ibsimtest.Start(t, net, ibsimtest.Adapter(1, 0))
	transports := attach(t, sim, ibsimtest.Adapter(1, 0))
	sweep(t, Sweep{Transports: transports})
	sim.Do()
	if _, err := fmt.Fprintln(sim.Console, "Wait 2"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond) // it takes the command, and sleeps
	begin := time.Now()
	found, err := Sweep{Transports: transports, Timeout: 50 * time.Millisecond}.Run(context.Background())
	if err == nil || time.Since(begin) > time.Second {
		t.Errorf("from a simulator that sleeps: %v, %v after %v; want an error soon", found, err, time.Since(begin))
	}
	sim.Do()
	// Its late answers to the sweep before are not taken for answers to this one.
	again := sweep(t, Sweep{Transports: transports})
	if diff := cmp.Diff(want, plainLinks(again.Observed)); diff != "" {
		t.Errorf("%+v; links (-net file +swept):\n%s", again.Stats, diff)
	}
	t.Logf("%v; %+v", err, again.Stats)
}
