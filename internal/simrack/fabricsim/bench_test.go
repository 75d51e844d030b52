package fabricsim

import (
	"strings"
	"testing"
	"time"

	"firstlight/internal/ibsimtest"
	"firstlight/inventory"
)

// BenchmarkDiscovery is ibnetdiscover over 6,128 adapters and 480 switches,
// here and in ibsim.
func BenchmarkDiscovery(b *testing.B) {
	cluster, _, diags := inventory.Load("../../../examples/abci3", inventory.Options{})
	if diags.HasErrors() {
		b.Fatal(diags)
	}
	net, err := FromCluster(cluster, cluster.Fabrics["compute"])
	if err != nil {
		b.Fatal(err)
	}
	var file strings.Builder
	if err := net.WriteIBSim(&file); err != nil {
		b.Fatal(err)
	}
	const host = "hnode001 mlx5_ibn1"
	sims := []struct {
		name string
		slow bool
		sim  func() *ibsimtest.Sim
	}{
		{"ibsim", false, func() *ibsimtest.Sim { return ibsimtest.Start(b, file.String(), host) }},
		{"ours", false, func() *ibsimtest.Sim {
			return ibsimtest.Attach(b, serve(b, &Server{Fabric: build(b, net, Options{Managed: true})}), host, "ibnetdiscover")
		}},
		{"ours-100us-hop", true, func() *ibsimtest.Sim {
			return ibsimtest.Attach(b, serve(b, &Server{Fabric: build(b, net, Options{Managed: true, Hop: 100 * time.Microsecond})}), host, "ibnetdiscover")
		}},
	}
	for _, s := range sims {
		sim := s.sim()
		links := strings.Count(sim.Run("ibnetdiscover", "-o", "128"), "\n[")
		for _, window := range []string{"2", "128"} {
			if s.slow && window == "2" {
				continue // 200 µs and more a question, two at a time
			}
			b.Run(s.name+"/window="+window, func(b *testing.B) {
				for b.Loop() {
					if got := strings.Count(sim.Run("ibnetdiscover", "-o", window), "\n["); got != links || got != 2*len(net.Links) {
						b.Fatalf("%d ends of links; want %d", got, 2*len(net.Links))
					}
				}
			})
		}
	}
}
