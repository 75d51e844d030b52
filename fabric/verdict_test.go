package fabric

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"firstlight/inventory"
)

// nothing is the column of faults that no finding tells of, and the row of
// findings that no fault caused.
const nothing = Class("-")

// confusion counts faults by their class and that of what was found.
type confusion struct {
	mu    sync.Mutex
	count map[[2]Class]int
}

func (c *confusion) add(fault, found Class) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.count == nil {
		c.count = map[[2]Class]int{}
	}
	c.count[[2]Class{fault, found}]++
}

// String is the table: a row for each class of fault, with what it was found as.
func (c *confusion) String() string {
	var b strings.Builder
	total := 0
	var rows []Class
	for k, n := range c.count {
		total += n
		if !slices.Contains(rows, k[0]) {
			rows = append(rows, k[0])
		}
	}
	slices.Sort(rows)
	fmt.Fprintf(&b, "%-22s %s\n", "fault", "found as")
	for _, row := range rows {
		var cells []string
		for k, n := range c.count {
			if k[0] == row {
				cells = append(cells, fmt.Sprintf("%s %d", k[1], n))
			}
		}
		slices.Sort(cells)
		fmt.Fprintf(&b, "%-22s %s\n", row, strings.Join(cells, ", "))
	}
	fmt.Fprintf(&b, "%d faults and findings", total)
	return b.String()
}

// names are the ports of a finding as items write them.
func names(f Finding) (out []string) {
	for _, p := range f.Ports {
		out = append(out, p.Name+" "+p.Port)
	}
	return out
}

func holds(all, some []string) bool {
	return !slices.ContainsFunc(some, func(s string) bool { return !slices.Contains(all, s) })
}

// compare pairs what must be found with what was, one to one.
func compare(t *testing.T, table *confusion, what string, want []item, got []Finding) {
	t.Helper()
	left := slices.Clone(got)
	var missed []item
	for _, w := range want {
		i := slices.IndexFunc(left, func(f Finding) bool { return f.Class == w.class && holds(names(f), w.ports) })
		if i < 0 {
			missed = append(missed, w)
			continue
		}
		table.add(w.class, w.class)
		left = slices.Delete(left, i, i+1)
	}
	for _, w := range missed {
		as := nothing
		for i, f := range left {
			if slices.ContainsFunc(w.ports, func(p string) bool { return slices.Contains(names(f), p) }) {
				as, left = f.Class, slices.Delete(left, i, i+1)
				t.Errorf("%s: want %s at %q; found %s: %s", what, w.class, w.ports, f.Class, f.Message)
				break
			}
		}
		if as == nothing {
			t.Errorf("%s: want %s at %q; it was not found", what, w.class, w.ports)
		}
		table.add(w.class, as)
	}
	for _, f := range left {
		table.add(nothing, f.Class)
		t.Errorf("%s: invented: %s: %s", what, f.Class, f.Message)
	}
}

// site is an inventory for one goroutine: what is declared of GUIDs changes.
type site struct {
	c     *inventory.Cluster
	full  *inventory.Fabric
	nodes *inventory.Fabric // with the cables to nodes only
}

func newSite(t testing.TB, example string) *site {
	c := loadExample(t, example)
	full := c.Fabrics["compute"]
	full.Partitions = partitions(c, full)
	part := *full
	part.Topology = nil
	part.Cables = slices.DeleteFunc(slices.Clone(full.Cables), func(k inventory.Cable) bool { return k.Tier != "node-leaf" })
	return &site{c, full, &part}
}

// inParallel runs numbered cases on two sites.
func inParallel(t *testing.T, example string, n int, run func(s *site, i int)) {
	t.Helper()
	var wg sync.WaitGroup
	for k := range 2 {
		s := newSite(t, example)
		wg.Go(func() {
			for i := k; i < n; i += 2 {
				run(s, i)
			}
		})
	}
	wg.Wait()
}

// TestFaultSets: of 200 sets of 1 to 20 faults on 766 nodes, every fault is one
// finding of its class at its place, and there is no other.
func TestFaultSets(t *testing.T) {
	var table confusion
	sets := 200
	if testing.Short() {
		sets = 10
	}
	inParallel(t, "abci3", sets, func(s *site, i int) {
		rng := rand.New(rand.NewPCG(2026, uint64(i)))
		w := build(s.c, s.full, rng)
		how := saying[i%len(saying)]
		trunks := i%4 != 3
		if !trunks {
			w.f = s.nodes
		}
		w.say(how)
		var want []item
		for n := 1 + rng.IntN(20); len(want) < n; {
			j := injectors[(i+rng.IntN(len(injectors)))%len(injectors)]
			if j.trunks && !trunks || j.how != "" && !strings.Contains(j.how, how) {
				continue
			}
			want = append(want, j.inflict(w)...)
		}
		w.prune()
		w.shuffle()
		v := Declare(s.c, w.f).Verify(w.o, w.known)
		compare(t, &table, fmt.Sprintf("set %d (%s, trunks %t)", i, how, trunks), want, v.Findings)
		for _, f := range v.Findings {
			if f.Action == "" || f.Message == "" || f.Severity == "" || f.Declared == "" || f.Found == "" || len(f.Ports) == 0 || f.Node == "" {
				t.Errorf("set %d: a finding lacks something: %+v", i, f)
			}
		}
	})
	t.Logf("\n%s", &table)
	for _, class := range classes {
		if testing.Short() {
			break // some are too few to have come up
		}
		if table.count[[2]Class{class, class}] < 5 {
			t.Errorf("%s was injected and found %d times; want some of every class", class, table.count[[2]Class{class, class}])
		}
	}
}

// classes are all there are.
var classes = []Class{MissingCable, MissingNode, MissingHCA, Miswired, SwappedPair, SwappedRails, Rotated, SwappedSwitch, SwappedRack, ExtraCable,
	UnexpectedNode, WrongSpeed, WrongWidth, RailViolation, UnbalancedUplinks, DuplicateGUID, DuplicateDescription, WrongPartition}

// TestHealthy: however nodes and switches describe themselves, whatever their
// GUIDs and their order, and with nodes off that are declared to be, a fabric
// that is cabled as declared has no finding.
func TestHealthy(t *testing.T) {
	for _, c := range []struct {
		example string
		n       int
	}{{"abci3", 100}, {"superpod-h200", 900}} {
		if testing.Short() {
			c.n /= 20
		}
		inParallel(t, c.example, c.n, func(s *site, i int) {
			rng := rand.New(rand.NewPCG(7, uint64(i)))
			w := build(s.c, s.full, rng)
			trunks := i%5 != 4 // else only the cables to nodes are declared
			how := append(slices.Clone(saying), "nobody", "names that are not declared")[i%(len(saying)+2)]
			w.say(how)
			if how == "nobody" || how == "names that are not declared" {
				w.sayNothing(how != "nobody")
			}
			for range rng.IntN(30) {
				n := w.pickNode()
				w.known.Dark[n] = true
				if rng.IntN(10) > 0 || !trunks { // now and then one is on all the same
					for _, ca := range w.adapters(n) {
						w.remove(ca)
					}
				}
			}
			w.aggregate()
			w.prune()
			w.shuffle()
			f := s.full
			if !trunks {
				f = s.nodes
			}
			if v := Declare(s.c, f).Verify(w.o, w.known); len(v.Findings) > 0 {
				t.Errorf("%s %d (%s): %d findings, the first %s: %s", c.example, i, how, len(v.Findings), v.Findings[0].Class, v.Findings[0].Message)
			}
		})
	}
}

// sayNothing takes all identity away; with other names for all hosts if asked.
func (w *world) sayNothing(otherNames bool) {
	w.known.Learned = map[uint64]Adapter{}
	for _, n := range w.o.Nodes {
		n.Description = "localhost mlx5_0"
		if n.Kind == Switch {
			n.Description = "Quantum Mellanox Technologies"
		} else if otherNames {
			n.Description = fmt.Sprintf("install-%06x mlx5_0", n.GUID&0xffffff)
		}
	}
}

// aggregate gives some switches the adapter inside that reduces.
func (w *world) aggregate() {
	for _, s := range w.sw {
		if w.rng.IntN(3) == 0 {
			w.join(w.adapter("Mellanox Technologies Aggregation Node").Ports[0], s.port(65), lanes{4, "NDR"})
		}
	}
}

// BenchmarkVerdict holds 766 nodes with eight adapters, 18,416 cables.
func BenchmarkVerdict(b *testing.B) {
	s := newSite(b, "abci3")
	w := build(s.c, s.full, rand.New(rand.NewPCG(1, 1)))
	for b.Loop() {
		if v := Declare(s.c, s.full).Verify(w.o, w.known); len(v.Findings) > 0 {
			b.Fatal(v.Findings[0])
		}
	}
}

// TestVerdictIsStable: the same faults give the same words, in whatever order
// the fabric was read.
func TestVerdictIsStable(t *testing.T) {
	s := newSite(t, "superpod-h200")
	w := build(s.c, s.full, rand.New(rand.NewPCG(5, 5)))
	for _, j := range injectors {
		j.inflict(w)
	}
	w.prune()
	first := Declare(s.c, s.full).Verify(w.o, w.known)
	if len(first.Findings) < 10 {
		t.Fatalf("%d findings; want those of many faults", len(first.Findings))
	}
	structural := Structural(w.o)
	for range 10 {
		w.shuffle()
		if diff := cmp.Diff(first, Declare(s.c, s.full).Verify(w.o, w.known)); diff != "" {
			t.Fatalf("declared (-first +again):\n%s", diff)
		}
		if diff := cmp.Diff(structural, Structural(w.o)); diff != "" {
			t.Fatalf("structural (-first +again):\n%s", diff)
		}
	}
}
