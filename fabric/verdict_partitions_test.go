package fabric

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"firstlight/inventory"
	"firstlight/provision/acceptance"
)

// keyed is the fabric of a rack with these partitions, healthy.
func keyed(t *testing.T, partitions ...inventory.Partition) *world {
	c := loadExample(t, "h200-rack")
	f := c.Fabrics["compute"]
	for i := range partitions {
		partitions[i].Range = f.Range
	}
	f.Partitions = partitions
	return build(c, f, rand.New(rand.NewPCG(3, 3)))
}

// setKeys fills the tables of all adapters of nodes.
func (w *world) setKeys(nodes string, keys ...uint16) {
	all, err := w.c.Select([]string{nodes})
	if err != nil {
		panic(err)
	}
	for _, n := range all {
		for _, ca := range w.adapters(n.Name) {
			ca.Ports[0].PKeys = append([]uint16{}, keys...)
		}
	}
}

// TestWrongPartition has what can be wrong with tables, and the words for it.
func TestWrongPartition(t *testing.T) {
	tenant := []inventory.Partition{
		{Name: "default", Key: 0x7fff}, {Name: "a", Key: 0x0001, Full: true, Nodes: []string{"hnode001", "hnode002"}},
		{Name: "b", Key: 0x0002, Full: true, Nodes: []string{"hnode003", "hnode004", "hnode005", "hnode006", "hnode007", "hnode008"}},
	}
	change := "in the subnet manager's configuration (opensm: partitions.conf; UFM: its partition), and have it sweep; or correct the declaration"
	for name, c := range map[string]struct {
		spoil func(w *world)
		want  []string // severity, message and action
	}{
		"healthy": {func(w *world) {}, nil},
		"fuller than declared in default": {func(w *world) { w.setKeys("hnode001", 0xffff, 0x8001) },
			[]string{"warning: hnode001 ibn[1-8] are a full member of partition \"default\" (0x7fff), declared limited (nodes.hcl:30); ibn1 has P_Key table 0xffff, 0x8001: correct the partitions of hnode001 " + change}},
		"exchanged tenant": {func(w *world) { w.setKeys("hnode003", 0x7fff, 0x8001) },
			[]string{"error: hnode003 ibn[1-8] are in partition \"a\" (0x0001), which is declared without it (nodes.hcl:30); ibn[1-8] are not in partition \"b\" (0x0002) (nodes.hcl:30); ibn1 has P_Key table 0x7fff, 0x8001: correct the partitions of hnode003 " + change}},
		"one adapter limited": {func(w *world) { w.ca["hnode004 ibn5"].Ports[0].PKeys = []uint16{0x7fff, 0x0002} },
			[]string{"error: hnode004 ibn5 is a limited member of partition \"b\" (0x0002), declared full (nodes.hcl:30); ibn5 has P_Key table 0x7fff, 0x0002: correct the partitions of hnode004 " + change}},
		"empty table": {func(w *world) { w.setKeys("hnode001") },
			[]string{"error: hnode001 ibn[1-8] are not in partition \"a\" (0x0001) (nodes.hcl:30); ibn[1-8] are not in partition \"default\" (0x7fff) (nodes.hcl:30); ibn1 has an empty P_Key table: correct the partitions of hnode001 " + change}},
		"nobody is in one": {func(w *world) { w.setKeys("hnode[003-008]", 0x7fff) },
			[]string{"error: 6 of 6 nodes are not in partition \"b\" (0x0002) (nodes.hcl:30); hnode003 ibn1 has P_Key table 0x7fff: correct the partition " + change}},
		"everybody is where nobody should be, and one is not where it should": {func(w *world) {
			w.setKeys("hnode[001-002]", 0x7fff, 0x8001, 0x8009)
			w.setKeys("hnode[003-008]", 0x7fff, 0x8002, 0x8009)
			w.setKeys("hnode005", 0x7fff, 0x8009)
		}, []string{
			"warning: 8 of 8 nodes are in partition 0x0009, which is not declared; hnode001 ibn1 has P_Key table 0x7fff, 0x8001, 0x8009: correct the partition " + change,
			"error: hnode005 ibn[1-8] are not in partition \"b\" (0x0002) (nodes.hcl:30); ibn1 has P_Key table 0x7fff, 0x8009: correct the partitions of hnode005 " + change}},
	} {
		t.Run(name, func(t *testing.T) {
			w := keyed(t, slices.Clone(tenant)...)
			c.spoil(w)
			v := Declare(w.c, w.f).Verify(w.o, w.known)
			var got []string
			for _, f := range v.Findings {
				if f.Class != WrongPartition || len(f.Ports) == 0 || f.Declared == "" || f.Found == "" || f.DeclaredAt == "" {
					t.Errorf("finding lacks something: %+v", f)
				}
				got = append(got, string(f.Severity)+": "+f.Message+": "+f.Action)
			}
			if diff := cmp.Diff(c.want, got); diff != "" || len(v.NotRead) > 0 {
				t.Errorf("findings (-want +got):\n%s\nnot read: %q", diff, v.NotRead)
			}
		})
	}
}

// TestPartitionsNotJudged: what was not read, or whose it is nobody says, is told
// and is no finding; the node does not pass.
func TestPartitionsNotJudged(t *testing.T) {
	everybody := inventory.Partition{Name: "a", Key: 1, Full: true}
	some := inventory.Partition{Name: "b", Key: 2, Full: true, Nodes: []string{"hnode001"}}
	for name, c := range map[string]struct {
		declared []inventory.Partition
		spoil    func(w *world)
		want     string // the note
		passes   acceptance.Verdict
	}{
		"nothing declared": {nil, func(w *world) {}, "wrong-partition: no partition is declared", acceptance.Pass},
		"a dump": {[]inventory.Partition{everybody}, func(w *world) {
			for _, ca := range w.ca {
				ca.Ports[0].PKeys = nil
			}
		}, "wrong-partition: what was read has no P_Key tables", acceptance.NotRun},
		"one is silent": {[]inventory.Partition{everybody}, func(w *world) { w.ca["hnode001 ibn3"].Ports[0].PKeys = nil },
			"wrong-partition: the P_Key tables of 1 adapters were not read", acceptance.NotRun},
		"nobody says a name": {[]inventory.Partition{everybody, some}, func(w *world) { w.sayNothing(false) },
			"wrong-partition: 64 adapters do not say whose they are, so that partitions of some nodes only were not judged at them", acceptance.NotRun},
		"nobody says a name, and all are alike": {[]inventory.Partition{everybody}, func(w *world) { w.sayNothing(false) }, "", acceptance.Pass},
	} {
		t.Run(name, func(t *testing.T) {
			w := keyed(t, c.declared...)
			c.spoil(w)
			a := w.accepting(time.Hour, w.known, "")
			if got := strings.Join(a.NotRead, "; "); got != c.want || len(a.Findings) > 0 {
				t.Errorf("not read: %q, findings %v; want %q and none", got, a.Findings, c.want)
			}
			if got, v := verdictOfNode(a, "hnode001"); got != c.passes || (got == acceptance.NotRun) != (len(v.Do) > 0) {
				t.Errorf("the node is %s, to do %q; want %s", got, v.Do, c.passes)
			}
		})
	}
}

// TestAcceptPartition: a node that is not where it should be fails with what to do,
// one that is where it need not be passes, and so do the others.
func TestAcceptPartition(t *testing.T) {
	w := keyed(t, inventory.Partition{Name: "a", Key: 1, Full: true})
	w.setKeys("hnode002", 0x7fff)
	w.setKeys("hnode003", 0x7fff, 0x8001, 0x8002)
	a := w.accepting(time.Hour, w.known, "")
	for _, n := range w.c.Nodes {
		want := acceptance.Pass
		if n.Name == "hnode002" {
			want = acceptance.Fail
		}
		got, v := verdictOfNode(a, n.Name)
		if got != want || want == acceptance.Fail && (len(v.Do) != 1 || !strings.HasPrefix(v.Do[0], "correct the partitions of hnode002 ")) {
			t.Errorf("%s: %s, to do %q; want %s", n.Name, got, v.Do, want)
		}
	}
}

// TestPartitionsWithoutCables: where no cable is declared, adapters that say whose
// they are are held against the partitions all the same.
func TestPartitionsWithoutCables(t *testing.T) {
	w := keyed(t, inventory.Partition{Name: "a", Key: 1, Full: true})
	w.setKeys("hnode006", 0x7fff)
	bare := *w.f
	bare.Cables = nil
	v := Declare(w.c, &bare).Verify(w.o, w.known)
	if len(v.Findings) != 1 || v.Findings[0].Class != WrongPartition || v.Findings[0].Node != "hnode006" {
		t.Errorf("findings: %+v; want hnode006 in a wrong partition", v.Findings)
	}
}
