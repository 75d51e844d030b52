package topology

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// rails are the HCAs of a node with one on each rail.
func rails(n int) []HCA {
	out := make([]HCA, n)
	for i := range out {
		out[i] = HCA{Port: fmt.Sprintf("ibn%d", i+1), Rail: i + 1}
	}
	return out
}

func nodes(n int, hcas []HCA) []Node {
	out := make([]Node, n)
	for i := range out {
		out[i] = Node{Name: fmt.Sprintf("n%05d", i+1), HCAs: hcas}
	}
	return out
}

func must(t *testing.T, s Spec) *Fabric {
	t.Helper()
	f, problems := Build(s)
	if len(problems) > 0 {
		t.Fatalf("Build: %v", problems)
	}
	return f
}

// counts are switches by role and cables by tier.
type counts struct{ Leaf, Spine, Core, NodeLeaf, LeafSpine, SpineCore int }

func count(f *Fabric) counts {
	var c counts
	for _, s := range f.Switches {
		switch s.Role {
		case Leaf:
			c.Leaf++
		case Spine:
			c.Spine++
		case Core:
			c.Core++
		}
	}
	for _, k := range f.Cables {
		switch k.Tier {
		case NodeLeaf:
			c.NodeLeaf++
		case LeafSpine:
			c.LeafSpine++
		case SpineCore:
			c.SpineCore++
		}
	}
	return c
}

// superPOD is a DGX SuperPOD of H100 or H200 nodes: scalable units of 32 nodes
// with eight rails on switches of 64 NDR ports. Up to four units one place is
// kept for the fabric manager, which has four ports.
func superPOD(units int, ufm, core bool) Spec {
	s := Spec{Kind: RailOptimized, UnitNodes: 32, Leaf: Tier{Ports: 64}, Spine: &Tier{Ports: 64}}
	n := 32 * units
	if ufm {
		n--
		s.Reserved, s.Appliances = 1, []Appliance{{Name: "ufm", Ports: 4}}
	}
	if core {
		s.Core = &Tier{Ports: 64}
	}
	s.Nodes = nodes(n, rails(8))
	return s
}

// TestSuperPOD holds the generator against NVIDIA's published table. From eight
// units on the table counts full units and no fabric manager.
func TestSuperPOD(t *testing.T) {
	for _, tt := range []struct {
		units, nodes int
		ufm, core    bool
		want         counts
	}{
		{1, 31, true, false, counts{8, 4, 0, 252, 256, 0}},
		{2, 63, true, false, counts{16, 8, 0, 508, 512, 0}},
		{4, 127, true, false, counts{32, 16, 0, 1020, 1024, 0}},
		{8, 256, false, false, counts{64, 32, 0, 2048, 2048, 0}},
		{16, 512, false, true, counts{128, 128, 64, 4096, 4096, 4096}},
		{32, 1024, false, true, counts{256, 256, 128, 8192, 8192, 8192}},
		{64, 2048, false, true, counts{512, 512, 256, 16384, 16384, 16384}},
	} {
		t.Run(fmt.Sprintf("%d SU", tt.units), func(t *testing.T) {
			s := superPOD(tt.units, tt.ufm, tt.core)
			if len(s.Nodes) != tt.nodes {
				t.Errorf("%d nodes; want %d", len(s.Nodes), tt.nodes)
			}
			f := must(t, s)
			if diff := cmp.Diff(tt.want, count(f)); diff != "" {
				t.Errorf("counts (-want +got):\n%s", diff)
			}
			hold(t, s, f)
		})
	}
}

// TestCounts are other fabrics whose sizes are known, or follow from the rules.
func TestCounts(t *testing.T) {
	abci := superPOD(24, false, true)
	abci.Nodes = nodes(766, rails(8))
	for _, tt := range []struct {
		name string
		spec Spec
		want counts
	}{
		{"766 nodes of 8 rails in units of 32", abci, counts{192, 192, 96, 6128, 6144, 6144}},
		{"3 units: 12 spines would not divide 32 uplinks", superPOD(3, true, false), counts{24, 16, 0, 764, 768, 0}},
		{"the rule for 8 units with a fabric manager", superPOD(8, true, false), counts{64, 32, 0, 2044, 2048, 0}},
		{"part-filled last pod", superPOD(23, false, true), counts{184, 192, 96, 5888, 5888, 6144}},
		{"declared cores, in 16 groups of 9", Spec{Kind: FatTree, Nodes: nodes(2084, rails(4)), Leaf: Tier{Ports: 64}, Spine: &Tier{Ports: 64}, Core: &Tier{Ports: 64, Count: 144}}, counts{261, 288, 144, 8336, 8352, 9216}},
		{"one node", Spec{Kind: RailOptimized, Nodes: nodes(1, rails(8)), Leaf: Tier{Ports: 64}, Spine: &Tier{Ports: 64}}, counts{8, 4, 0, 8, 256, 0}},
		{"small units have small uplinks", Spec{Kind: RailOptimized, UnitNodes: 16, Nodes: nodes(64, rails(4)), Leaf: Tier{Ports: 64}, Spine: &Tier{Ports: 64}}, counts{16, 4, 0, 256, 256, 0}},
		{"fewer uplinks", Spec{Kind: RailOptimized, UnitNodes: 48, Nodes: nodes(96, rails(8)), Leaf: Tier{Ports: 64, Uplinks: 16}, Spine: &Tier{Ports: 64}}, counts{16, 4, 0, 768, 256, 0}},
		{"a single leaf", Spec{Kind: FatTree, Nodes: nodes(8, rails(8)), Leaf: Tier{Ports: 64}}, counts{1, 0, 0, 64, 0, 0}},
		{"fat tree", Spec{Kind: FatTree, Nodes: nodes(64, rails(4)), Leaf: Tier{Ports: 64}, Spine: &Tier{Ports: 64}}, counts{8, 4, 0, 256, 256, 0}},
		{"fat tree, nodes are not split", Spec{Kind: FatTree, Nodes: nodes(6, rails(8)), Leaf: Tier{Ports: 40}, Spine: &Tier{Ports: 40}}, counts{3, 2, 0, 48, 60, 0}},
		{"fat tree, wide nodes", Spec{Kind: FatTree, Nodes: nodes(2, rails(12)), Leaf: Tier{Ports: 16}, Spine: &Tier{Ports: 16}}, counts{4, 2, 0, 24, 32, 0}},
		{"fat tree with cores", Spec{Kind: FatTree, Nodes: nodes(2084, rails(4)), Leaf: Tier{Ports: 64}, Spine: &Tier{Ports: 64}, Core: &Tier{Ports: 64}}, counts{261, 288, 160, 8336, 8352, 9216}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := must(t, tt.spec)
			if diff := cmp.Diff(tt.want, count(f)); diff != "" {
				t.Errorf("counts (-want +got):\n%s", diff)
			}
			hold(t, tt.spec, f)
		})
	}
}

// hold checks what must be so of every layout.
func hold(t *testing.T, s Spec, f *Fabric) {
	t.Helper()
	tier := map[string]int{Leaf: s.Leaf.Ports}
	if s.Spine != nil {
		tier[Spine] = s.Spine.Ports
	}
	if s.Core != nil {
		tier[Core] = s.Core.Ports
	}
	switches := map[string]Switch{}
	for _, w := range f.Switches {
		if _, twice := switches[w.Name]; twice {
			t.Fatalf("two switches are named %s", w.Name)
		}
		switches[w.Name] = w
	}
	used := map[[2]string]bool{}
	end := func(device, port string) {
		if used[[2]string{device, port}] {
			t.Fatalf("%s port %s has two cables", device, port)
		}
		used[[2]string{device, port}] = true
		if w, ok := switches[device]; ok {
			if n, err := strconv.Atoi(port); err != nil || n < 1 || n > tier[w.Role] {
				t.Fatalf("%s has no port %s of %d", device, port, tier[w.Role])
			}
		}
	}
	up, down := map[string]map[string]int{}, map[string]int{}
	for _, k := range f.Cables {
		end(k.ADevice, k.APort)
		end(k.BDevice, k.BPort)
		a, b := switches[k.ADevice], switches[k.BDevice]
		if want := map[string]string{"": NodeLeaf, Leaf: LeafSpine, Spine: SpineCore}[a.Role]; k.Tier != want || b.Role != map[string]string{NodeLeaf: Leaf, LeafSpine: Spine, SpineCore: Core}[k.Tier] {
			t.Fatalf("cable %v is of tier %s; want %s", k, k.Tier, want)
		}
		if k.Tier == LeafSpine && a.Pod != b.Pod {
			t.Fatalf("cable %v joins pods %d and %d", k, a.Pod, b.Pod)
		}
		if k.Tier != NodeLeaf {
			if up[k.ADevice] == nil {
				up[k.ADevice] = map[string]int{}
			}
			up[k.ADevice][k.BDevice]++
			down[k.BDevice]++
		}
	}
	holdBalance(t, s, f, up, down)
	holdNodes(t, s, f, switches)
}

// holdBalance: all switches of a tier have as many uplinks, spread evenly over
// all they reach; leaves reach every spine of the pod, and loads differ by one.
func holdBalance(t *testing.T, s Spec, f *Fabric, up map[string]map[string]int, down map[string]int) {
	t.Helper()
	uplinks, spines, load := map[string]int{}, map[int]int{}, map[string][]int{}
	for _, w := range f.Switches {
		if w.Role == Spine {
			spines[w.Pod]++
		}
	}
	for _, w := range f.Switches {
		if w.Role != Leaf {
			key := fmt.Sprint(w.Role, w.Pod)
			load[key] = append(load[key], down[w.Name])
		}
		if w.Role == Core || w.Role == Leaf && s.Spine == nil || w.Role == Spine && s.Core == nil {
			continue
		}
		sum := 0
		var each []int
		for _, n := range up[w.Name] {
			sum += n
			each = append(each, n)
		}
		if was, ok := uplinks[w.Role]; ok && was != sum {
			t.Fatalf("%s has %d uplinks, others have %d", w.Name, sum, was)
		}
		uplinks[w.Role] = sum
		if slices.Max(each)-slices.Min(each) > 1 {
			t.Fatalf("%s has from %d to %d cables to one switch", w.Name, slices.Min(each), slices.Max(each))
		}
		if w.Role == Leaf && len(each) != spines[w.Pod] {
			t.Fatalf("%s reaches %d of %d spines", w.Name, len(each), spines[w.Pod])
		}
	}
	for key, loads := range load {
		if slices.Max(loads)-slices.Min(loads) > 1 {
			t.Fatalf("%s have from %d to %d cables below", key, slices.Min(loads), slices.Max(loads))
		}
	}
}

// holdNodes: every HCA has one cable; on RailOptimized to the leaf of its rail,
// in one unit for all of a node.
func holdNodes(t *testing.T, s Spec, f *Fabric, switches map[string]Switch) {
	t.Helper()
	at := map[[2]string]Switch{}
	for _, k := range f.Cables {
		if k.Tier == NodeLeaf {
			at[[2]string{k.ADevice, k.APort}] = switches[k.BDevice]
		}
	}
	want := 0
	for i, n := range s.Nodes {
		want += len(n.HCAs)
		for _, h := range n.HCAs {
			w, ok := at[[2]string{n.Name, h.Port}]
			if !ok {
				t.Fatalf("%s %s has no cable", n.Name, h.Port)
			}
			if s.Kind == RailOptimized && w.Rail != h.Rail {
				t.Fatalf("%s %s of rail %d is on a leaf of rail %d", n.Name, h.Port, h.Rail, w.Rail)
			}
			if s.UnitNodes > 0 && w.Unit != i/s.UnitNodes+1 {
				t.Fatalf("%s is on a leaf of unit %d; want %d", n.Name, w.Unit, i/s.UnitNodes+1)
			}
		}
	}
	for _, a := range s.Appliances {
		want += a.Ports
	}
	if len(at) != want {
		t.Fatalf("%d cables at nodes and appliances; want %d", len(at), want)
	}
}

// TestRandom lays out fabrics of random sizes: each is refused for a reason or
// holds. The seed is fixed; a failure names the Spec.
func TestRandom(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 1))
	laid := 0
	for range 8000 {
		s := random(r)
		f, problems := Build(s)
		if len(problems) > 0 {
			continue
		}
		laid++
		if !t.Run("", func(t *testing.T) { hold(t, s, f) }) {
			t.Fatalf("of %s with %d nodes of %d HCAs, units %d, pods %d, reserved %d, appliances %v, leaf %+v, spine %+v, core %+v",
				s.Kind, len(s.Nodes), len(s.Nodes[0].HCAs), s.UnitNodes, s.PodUnits, s.Reserved, s.Appliances, s.Leaf, s.Spine, s.Core)
		}
	}
	if laid < 1000 {
		t.Errorf("only %d of 8000 could be laid out: the test sees too little", laid)
	}
}

func random(r *rand.Rand) Spec {
	ports := func() int { return []int{1, 2, 3, 8, 16, 36, 40, 64, 128}[r.IntN(9)] }
	s := Spec{Kind: RailOptimized, Nodes: nodes(1+r.IntN(300), rails(1+r.IntN(8))), Leaf: Tier{Ports: ports()}, Spine: &Tier{Ports: ports()}}
	if r.IntN(2) == 0 {
		s.Kind = FatTree
	}
	if r.IntN(2) == 0 {
		s.UnitNodes = 1 + r.IntN(40)
	}
	if r.IntN(3) == 0 {
		s.Core = &Tier{Ports: ports()}
		if r.IntN(3) == 0 {
			s.Spine.Uplinks = 1 + r.IntN(s.Spine.Ports)
		}
		if r.IntN(3) == 0 {
			s.Core.Count = 1 + r.IntN(60)
		}
		if r.IntN(2) == 0 {
			s.PodUnits = 1 + r.IntN(4)
		}
	}
	if r.IntN(4) == 0 {
		s.Leaf.Uplinks = 1 + r.IntN(s.Leaf.Ports)
	}
	if r.IntN(4) == 0 {
		s.Spine.Count = 1 + r.IntN(40)
	}
	if r.IntN(4) == 0 {
		s.Reserved = r.IntN(3)
		s.Appliances = []Appliance{{Name: "ufm", Ports: 1 + r.IntN(4)}}
	}
	return s
}

// TestProblems holds what is said of fabrics that cannot be.
func TestProblems(t *testing.T) {
	pod := func(change func(*Spec)) Spec {
		s := superPOD(1, false, false)
		change(&s)
		return s
	}
	two := slices.Concat(nodes(2, rails(8)), []Node{{Name: "x", HCAs: rails(4)}})
	for _, tt := range []struct {
		spec Spec
		want string
	}{
		{pod(func(s *Spec) { s.Spine.Count = 3 }), "spine.count: 8 leaves × 32 uplinks need 256 spine ports; 3 × 64 = 192"},
		{pod(func(s *Spec) { s.Spine.Count = 64 }), "spine.count: a leaf with 32 uplinks cannot reach all 64 spines"},
		{pod(func(s *Spec) { s.Leaf.Count = 7 }), "leaf.count: 32 nodes in 1 units need 8 leaves; 7 are declared"},
		{pod(func(s *Spec) { s.Spine = nil; s.UnitNodes = 0 }), "spine: 8 leaves are joined by a spine tier, and none is declared: add a spine block"},
		{pod(func(s *Spec) { s.Spine, s.Core = nil, &Tier{Ports: 64} }), "spine: a core tier stands on a spine tier, and none is declared: add a spine block"},
		{pod(func(s *Spec) { s.Kind, s.Leaf.Ports = FatTree, 1 }), "leaf: a leaf with 1 ports joins nothing: it needs 2"},
		{pod(func(s *Spec) { s.Spine.Uplinks = 4 }), "spine.uplinks: there is no tier above these switches: leave uplinks out"},
		{pod(func(s *Spec) { s.Spine.Uplinks, s.Core = 64, &Tier{Ports: 64} }), "spine.uplinks: 64 uplinks of 64 ports leave none for what is below"},
		{pod(func(s *Spec) { s.PodUnits = 4 }), "pod_units: pods are joined by a core tier, and none is declared: add a core block, or leave pod_units out"},
		{pod(func(s *Spec) { s.UnitNodes = 40 }), "unit_nodes: a leaf for 40 nodes with 40 uplinks needs 80 ports; it has 64"},
		{pod(func(s *Spec) { s.Reserved = 1 }), "reserved: unit 1 has 32 places; 32 nodes + 1 reserved = 33"},
		{pod(func(s *Spec) { s.Kind, s.Reserved = FatTree, 2 }), "reserved: unit 1 has 32 places; 32 nodes + 2 reserved = 34"},
		{pod(func(s *Spec) { s.Nodes = nil }), "nodes: there are no nodes to cable"},
		{pod(func(s *Spec) { s.Nodes = two }), `nodes: unit 1 has nodes of unequal rails: "n00001" has [1 2 3 4 5 6 7 8], "x" has [1 2 3 4]`},
		{pod(func(s *Spec) { s.Nodes = nodes(1, []HCA{{"a", 1}, {"b", 1}}) }), `nodes: node "n00001" has two HCAs on one rail: its rails are [1 1]`},
		{pod(func(s *Spec) { s.Nodes = slices.Concat(s.Nodes[:2], s.Nodes[1:2]) }), `nodes: node "n00002" is listed twice`},
		{pod(func(s *Spec) { s.Nodes = nodes(1, nil) }), `nodes: node "n00001" has no HCA with a rail`},
		{pod(func(s *Spec) { s.Leaf.Name = "leaf" }), `leaf.name: "leaf" is no pattern for names: write one %d, as "leaf-%02d"`},
		{pod(func(s *Spec) { s.Leaf.Name = "n%05d" }), `leaf.name: the pattern "n%05d" names n00001, which is a node already`},
		{pod(func(s *Spec) { s.Spine.Name = "leaf-%02d" }), `spine.name: the pattern "leaf-%02d" names leaf-01, which is a switch already`},
		{superPOD(9, false, false), "spine: 72 leaves each reach every spine, and a spine has 64 ports for them: a core tier joins more leaves, and so do switches with more ports"},
		{pod(func(s *Spec) { s.Core, s.PodUnits = &Tier{Ports: 64}, 5 }), "pod_units: 40 leaves of a pod each reach every spine, and a spine has 32 ports for them: with 8 leaves in a unit, 4 units fit a pod"},
		{Spec{Kind: RailOptimized, UnitNodes: 1, Nodes: nodes(2000, rails(8)), Leaf: Tier{Ports: 4096, Uplinks: 4000}, Spine: &Tier{Ports: 32768}}, "leaf: 16000 switches × 4000 uplinks are 64000000 cables, and 1048576 are the most of a tier"},
		{superPOD(313, false, true), "core: 2528 spines × 32 uplinks need 40 cores of 64 ports in a group, and a spine reaches no more than 32"},
		{func() Spec { s := superPOD(16, false, true); s.Spine.Count = 130; return s }(), "spine.count: 130 spines cannot be shared equally by 4 pods"},
		{func() Spec { s := superPOD(16, false, true); s.Core.Count = 32; return s }(), "core.count: 128 spines × 32 uplinks need 4096 core ports; 32 × 64 = 2048"},
		{func() Spec { s := superPOD(16, false, true); s.Core.Count = 65; return s }(), "core.count: 65 cores and 32 spines of a pod make 1 groups, and a spine with 32 uplinks cannot reach all 65 cores of its group"},
	} {
		_, problems := Build(tt.spec)
		got := ""
		if len(problems) > 0 {
			got = problems[0].String()
		}
		if got != tt.want || len(problems) > 1 {
			t.Errorf("Build gives %q; want %q", problems, tt.want)
		}
	}
}

// TestPorts holds the wiring of one fabric as an installer sees it.
func TestPorts(t *testing.T) {
	s := superPOD(2, true, false)
	f := must(t, s)
	var got []string
	for _, k := range f.Cables {
		if k.ADevice == "n00033" || k.ADevice == "ufm" || k.ADevice == "leaf-02" && k.BDevice <= "spine-02" {
			got = append(got, fmt.Sprintf("%s %s  %s %s", k.ADevice, k.APort, k.BDevice, k.BPort))
		}
	}
	want := []string{
		"n00033 ibn1  leaf-09 1", "n00033 ibn2  leaf-10 1", "n00033 ibn3  leaf-11 1", "n00033 ibn4  leaf-12 1",
		"n00033 ibn5  leaf-13 1", "n00033 ibn6  leaf-14 1", "n00033 ibn7  leaf-15 1", "n00033 ibn8  leaf-16 1",
		"ufm 1  leaf-09 32", "ufm 2  leaf-10 32", "ufm 3  leaf-11 32", "ufm 4  leaf-12 32",
		"leaf-02 33  spine-01 5", "leaf-02 34  spine-01 6", "leaf-02 35  spine-01 7", "leaf-02 36  spine-01 8",
		"leaf-02 37  spine-02 5", "leaf-02 38  spine-02 6", "leaf-02 39  spine-02 7", "leaf-02 40  spine-02 8",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("cables (-want +got):\n%s", diff)
	}
	again := must(t, s)
	if diff := cmp.Diff(f, again); diff != "" {
		t.Errorf("a second layout differs:\n%s", diff)
	}
}

// national is 10,000 nodes of eight rails on switches split to 128 ports: of 64
// ports, no three tiers reach that far.
func national() Spec {
	return Spec{Kind: RailOptimized, Nodes: nodes(10000, rails(8)), Leaf: Tier{Ports: 128}, Spine: &Tier{Ports: 128}, Core: &Tier{Ports: 128}}
}

// TestSpeed: ten thousand nodes are laid out while nobody notices. The bound is
// ten times what a slow machine takes.
func TestSpeed(t *testing.T) {
	s := national()
	start := time.Now()
	f := must(t, s)
	if took := time.Since(start); took > 2*time.Second || len(f.Cables) < 3*80000 {
		t.Errorf("%d cables in %v; want 240,000 or more within 2 s", len(f.Cables), took)
	}
}

func BenchmarkBuild(b *testing.B) {
	s := national()
	b.ReportAllocs()
	for b.Loop() {
		if _, problems := Build(s); len(problems) > 0 {
			b.Fatal(problems)
		}
	}
}
