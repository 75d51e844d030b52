package fabricsim

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"firstlight/fabric"
)

// sweep reads a simulated fabric with the client that firstlight reads real ones
// with.
func sweep(t *testing.T, socket string, s fabric.Sweep) (*fabric.Swept, []string) {
	t.Helper()
	s.Transports = []fabric.Transport{dial(t, socket, attach)}
	swept, err := s.Run(context.Background())
	if swept == nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Logf("sweep: %v", err)
	}
	var links []string
	for _, l := range swept.Links() {
		links = append(links, linkText(End{l.A.Node.Description, l.A.Num}, End{l.B.Node.Description, l.B.Num}, fmt.Sprintf("%dx%s", l.A.Width, l.A.Speed)))
	}
	slices.Sort(links)
	return swept, links
}

// TestSweepThroughLoss: a fabric whose hops take time, whose queues overflow and
// whose cables lose packets is read whole all the same.
func TestSweepThroughLoss(t *testing.T) {
	net := pods(2, 8, 4, 4, true)
	f := build(t, net, Options{
		Managed: true, Hop: 20 * time.Microsecond, VL15: VL15{Depth: 16, Service: 5 * time.Microsecond}, Seed: 1,
		Faults: []Fault{{Kind: Lossy, At: End{"leaf-01", 33}, Share: 0.1}, {Kind: Lossy, At: End{"leaf-05", 1}, Share: 0.1}},
	})
	socket := serve(t, &Server{Fabric: f, Timeout: 20 * time.Millisecond})
	swept, links := sweep(t, socket, fabric.Sweep{Timeout: 100 * time.Millisecond, Attempts: 8})
	if diff := cmp.Diff(declared(net, narrower), links); diff != "" {
		t.Errorf("links (-declared +swept):\n%s\nunanswered: %v", diff, swept.Unanswered)
	}
	if swept.Stats.Repeats == 0 {
		t.Error("nothing had to be asked twice")
	}
}

// TestSweepHostile: none of these keeps the sweep from ending, and what is sound
// of the fabric is found.
func TestSweepHostile(t *testing.T) {
	net := pods(1, 4, 2, 2, false)
	sound := declared(net, narrower)
	for _, c := range []struct {
		fault Fault
		cost  int // sound links that it may hide
	}{
		{Fault{Kind: Loop, At: End{"leaf-01", 9}}, 0},
		{Fault{Kind: Endless, At: End{"leaf-02", 9}}, 0},
		{Fault{Kind: LiePorts, Node: "spine-01", Value: 254}, 0},
		{Fault{Kind: GUID, Node: "hnode003 mlx5_1", Value: 0xa088c20300000180}, 0},
		{Fault{Kind: Garble, Node: "leaf-02"}, 6},
		{Fault{Kind: Mute, Node: "leaf-02"}, 6},
	} {
		t.Run(string(c.fault.Kind), func(t *testing.T) {
			t.Parallel()
			f := build(t, net, Options{Managed: true, Faults: []Fault{c.fault}})
			socket := serve(t, &Server{Fabric: f})
			swept, links := sweep(t, socket, fabric.Sweep{Timeout: 50 * time.Millisecond, Deadline: 5 * time.Second})
			missing := 0
			for _, l := range sound {
				if !slices.Contains(links, l) {
					missing++
				}
			}
			if missing > c.cost {
				t.Errorf("%d sound links are not found; unanswered: %v", missing, swept.Unanswered)
			}
		})
	}
}
