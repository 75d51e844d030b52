package fabric

import (
	"context"
	"fmt"
	"slices"
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
