package fabric

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"firstlight/fabric/mad"
	"firstlight/inventory"
)

// told are classes and messages of findings, sorted.
func told(v Verdict) []string {
	out := []string{}
	for _, f := range v.Findings {
		out = append(out, string(f.Class)+": "+f.Message)
	}
	slices.Sort(out)
	return out
}

// TestStructural: what is odd in a fabric shows without any declaration of it.
func TestStructural(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(w *world)
		want   []string
	}{
		{"nothing", func(*world) {}, []string{}},
		{"a spine is gone: all leaves are alike", func(w *world) { w.remove(w.sw["spine-03"]) }, []string{}},
		{"a node is gone", func(w *world) {
			for _, ca := range w.adapters("dgx-007") {
				w.remove(ca)
			}
		}, []string{}},
		{"rails of a node", func(w *world) { exchange(w.port("dgx-009", "rail3"), w.port("dgx-009", "rail6")) },
			[]string{"swapped-rails: dgx-009: mlx5_4 is cabled to leaf-06 port 9 and mlx5_9 to leaf-03 port 9: each is on the other's rail"}},
		{"rails of two nodes", func(w *world) { exchange(w.port("dgx-009", "rail3"), w.port("dgx-010", "rail6")) }, []string{
			"rail-violation: dgx-009 mlx5_4: cabled to leaf-06 port 10, a leaf of mlx5_9; mlx5_4 of the other hosts is on another",
			"rail-violation: dgx-010 mlx5_9: cabled to leaf-03 port 9, a leaf of mlx5_4; mlx5_9 of the other hosts is on another"}},
		{"a dark cable", func(w *world) { unplug(w.port("dgx-020", "rail2")) },
			[]string{"missing-cable: dgx-020 mlx5_3: no link, as 126 of 127 hosts have"}},
		{"a dark uplink", func(w *world) { unplug(w.port("leaf-05", "40")) },
			[]string{"unbalanced-uplinks: leaf-05: 31 uplinks, less than its share to spine-04; its peers have 32, spread evenly"}},
		{"a doubled uplink", func(w *world) {
			unplug(w.port("leaf-06", "36"))
			unplug(w.port("leaf-06", "40"))
			w.plug(w.port("leaf-05", "40"), w.port("spine-02", "99"))
		}, nil},
		{"a slow link", func(w *world) { w.port("dgx-001", "rail1").Speed, w.port("leaf-01", "1").Speed = "HDR", "HDR" },
			[]string{"wrong-speed: dgx-001 mlx5_0: the link to leaf-01 port 1 runs at HDR (4x HDR); 1015 of 1016 such links run at NDR (4x NDR)"}},
		{"lost lanes at one end", func(w *world) { w.port("leaf-02", "33").Width = 2 },
			[]string{"wrong-width: leaf-02 port 33: the link to spine-01 port 3 runs at NDR200 (2x NDR); 1023 of 1024 such links run at NDR (4x NDR)"}},
		{"a name twice", func(w *world) {
			for i, ca := range w.adapters("dgx-031") {
				ca.Description = w.adapters("dgx-032")[i].Description
			}
		}, []string{"duplicate-description: 16 devices call themselves dgx-032"}},
		{"a GUID twice", func(w *world) { w.ca["dgx-031 rail1"].Ports[0].GUID = 1; w.ca["dgx-090 rail1"].Ports[0].GUID = 1 },
			[]string{"duplicate-guid: GUID 0x0000000000000001 answers at leaf-01 port 31 and at leaf-17 port 26: neither can be reached for sure"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cluster := loadExample(t, "superpod-h200")
			w := build(cluster, cluster.Fabrics["compute"], rand.New(rand.NewPCG(3, 3)))
			c.damage(w)
			w.prune()
			w.shuffle()
			got := told(Structural(w.o))
			if c.want == nil { // many at once: which leaves, and no other
				if len(got) < 2 || slices.ContainsFunc(got, func(s string) bool {
					return !strings.HasPrefix(s, "unbalanced-uplinks: leaf-05") && !strings.HasPrefix(s, "unbalanced-uplinks: leaf-06")
				}) {
					t.Errorf("found %q; want leaf-05 and leaf-06", got)
				}
				return
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestVerdictTold holds what is said of faults against which the table of fault
// sets only holds class and place.
func TestVerdictTold(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(w *world)
		want   []string
		action string // of the first
	}{
		{"miswired", func(w *world) { w.plug(w.port("dgx-100", "rail5"), w.port("leaf-29", "32")) },
			[]string{"miswired: dgx-100 rail5: cabled to leaf-29 port 32 (16/2), declared leaf-29 port 4 (2/2) (fabric.hcl:7)"},
			"move the cable at leaf-29 port 32 (16/2) to port 4 (2/2)"},
		{"a cable into another's place", func(w *world) {
			unplug(w.port("dgx-002", "rail1"))
			w.plug(w.port("dgx-001", "rail1"), w.port("leaf-01", "2"))
		}, []string{
			"missing-cable: dgx-002 rail1: no light on its cable to leaf-01 port 2 (1/2) (fabric.hcl:7)",
			"miswired: dgx-001 rail1: cabled to leaf-01 port 2 (1/2), declared leaf-01 port 1 (1/1) (fabric.hcl:7)"}, ""},
		{"a tier at another rate", func(w *world) {
			for _, l := range w.o.Links() {
				if l.A.Node.Kind == Switch && l.B.Node.Kind == Switch {
					l.A.Speed, l.B.Speed = "HDR", "HDR"
				}
			}
			w.port("leaf-01", "40").Speed = "EDR"
		}, []string{
			"wrong-speed: 1023 of 1024 leaf-spine links declared at NDR run at HDR (4x HDR) (fabric.hcl:7)",
			"wrong-speed: leaf-01 port 40 (20/2): the link to spine-04 port 2 (1/2) runs at EDR (4x EDR), not HDR (4x HDR) (fabric.hcl:7)"}, ""},
		{"a disabled port", func(w *world) {
			unplug(w.port("dgx-003", "rail8"))
			w.port("leaf-08", "3").Info = &mad.PortInfo{PhysState: mad.PhysDisabled}
		}, []string{"missing-cable: dgx-003 rail8: its cable to leaf-08 port 3 (2/1) is dark: that port is disabled (fabric.hcl:7)"},
			"enable leaf-08 port 3 (2/1) (ibportstate), then look at the cable"},
		{"light and no answer", func(w *world) {
			unplug(w.port("dgx-003", "rail8"))
			w.port("leaf-08", "3").Info = &mad.PortInfo{PhysState: mad.PhysLinkUp}
		}, []string{"missing-hca: dgx-003 rail8: there is light on its cable to leaf-08 port 3 (2/1), and it does not answer (fabric.hcl:7)"}, ""},
		{"an adapter that was replaced", func(w *world) {
			w.say("GUIDs declared")
			w.ca["dgx-005 rail2"].GUID, w.ca["dgx-005 rail2"].Ports[0].GUID = 0xa1, 0xa2
			w.c.Node("dgx-005").HCAs[1].GUID = 0xb1
		}, []string{"missing-hca: dgx-005 rail2: another adapter is in its place: one of GUID 0x00000000000000a2, not 0x00000000000000b1 (fabric.hcl:7)"}, ""},
		{"another machine", func(w *world) {
			w.say("GUIDs declared")
			for i := range w.c.Node("dgx-005").HCAs {
				w.c.Node("dgx-005").HCAs[i].GUID = inventory.GUID(0xb0 + i)
			}
		}, []string{"unexpected-node: dgx-005: another machine: none of its 8 adapters has a GUID of dgx-005 (fabric.hcl:7)"}, ""},
		{"all spines but what is behind them", func(w *world) {
			for name, n := range w.sw {
				if name != "leaf-01" {
					w.remove(n)
				}
			}
		}, nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			cluster := loadExample(t, "superpod-h200")
			w := build(cluster, cluster.Fabrics["compute"], rand.New(rand.NewPCG(3, 3)))
			c.damage(w)
			w.prune()
			v := Declare(cluster, w.f).Verify(w.o, w.known)
			got := told(v)
			if c.want == nil { // one leaf is all that is seen: each spine, and what is behind it with one
				if len(got) != 16 || !strings.Contains(strings.Join(got, "\n"), "nor of leaf-[02-32] behind it") {
					t.Errorf("%d findings: %q; want one for each spine, the leaves with the first", len(got), got)
				}
				return
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if c.action != "" && v.Findings[0].Action != c.action {
				t.Errorf("action %q; want %q", v.Findings[0].Action, c.action)
			}
		})
	}
}
