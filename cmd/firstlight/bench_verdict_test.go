//go:build bench

package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"firstlight/fabric"
	"firstlight/fabric/mad"
	"firstlight/internal/simrack/fabricsim"
	"firstlight/inventory"
)

// TestFabricVerdict reads the declared fabric of 766 nodes from our simulator, whole
// and with faults in it, and prints how long it takes after that to hold it against
// its declaration, partitions included.
func TestFabricVerdict(t *testing.T) {
	fmt.Printf("load %s\n", load())
	env := func(string) (string, bool) { return "not-a-secret-of-anyone", true }
	c, _, diags := inventory.Load("../../examples/abci3", inventory.Options{Env: env})
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	f := c.Fabrics["compute"]
	f.Partitions = []inventory.Partition{{Name: "default", Key: 0x7fff}, {Name: "compute", Key: 1, Full: true}}
	net, err := fabricsim.FromCluster(c, f)
	if err != nil {
		t.Fatal(err)
	}
	sim, err := fabricsim.New(net, fabricsim.Options{Managed: true})
	if err != nil {
		t.Fatal(err)
	}
	s := &fabricsim.Server{Fabric: sim, Socket: fmt.Sprintf("bench-%d", os.Getpid())}
	ready, ended := make(chan struct{}), make(chan error, 1)
	s.Ready = func() { close(ready) }
	ctx, cancel := context.WithCancel(t.Context())
	go func() { ended <- s.Serve(ctx) }() // ends with ctx
	<-ready
	whole := verdictTime(t, s.Socket, c, f, 0)
	leaf := func(n, port int) fabricsim.End { return fabricsim.End{Node: fmt.Sprintf("leaf-%03d", n), Port: port} }
	var faults []fabricsim.Fault
	for i := 1; i <= 8; i++ {
		faults = append(faults, fabricsim.Fault{Kind: fabricsim.Swap, At: leaf(i, i), To: leaf(i, i+8)}, fabricsim.Fault{Kind: fabricsim.Unlink, At: leaf(i, i+16)},
			fabricsim.Fault{Kind: fabricsim.Narrow, At: leaf(i, i+24), Width: 1})
	}
	if err := sim.Inject(faults...); err != nil {
		t.Fatal(err)
	}
	broken := verdictTime(t, s.Socket, c, f, len(faults))
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	atMost(t, "fabric_verdict_766_whole", whole, "s", 0.3)
	atMost(t, "fabric_verdict_766_24_faults", broken, "s", 0.3)
}

// verdictTime is the median time of some verdicts on one reading, from the inventory
// as it is loaded.
func verdictTime(t *testing.T, socket string, c *inventory.Cluster, f *inventory.Fabric, findings int) float64 {
	t.Helper()
	port, err := mad.DialIBSim(socket, "")
	if err != nil {
		t.Fatal(err)
	}
	defer port.Close()
	found, err := fabric.Sweep{Transports: []fabric.Transport{port}, PKeys: true}.Run(t.Context())
	if err != nil || len(found.Unanswered) > 0 {
		t.Fatalf("%v, %d questions unanswered", err, len(found.Unanswered))
	}
	var took []float64
	for range 9 {
		begin := time.Now()
		v := fabric.Declare(c, f).Verify(found.Observed, fabric.Known{})
		took = append(took, time.Since(begin).Seconds())
		if len(v.Findings) != findings || len(v.NotRead) > 0 {
			t.Fatalf("%d findings, not read: %q; want %d", len(v.Findings), v.NotRead, findings)
		}
	}
	slices.Sort(took)
	fmt.Printf("%d findings: verdicts in %.3f to %.3f s\n", findings, took[0], took[len(took)-1])
	return took[len(took)/2]
}
