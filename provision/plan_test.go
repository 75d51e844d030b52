package provision

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"firstlight/inventory"
	"firstlight/provision/acceptance"
)

// TestOthersKnowTheChain holds what lower packages say of the lifecycle, which
// may not import it, against it.
func TestOthersKnowTheChain(t *testing.T) {
	var entered []string
	for _, st := range Chain[1:] {
		entered = append(entered, string(st.State))
	}
	if diff := cmp.Diff(entered, inventory.LifecycleStates()); diff != "" {
		t.Errorf("inventory.LifecycleStates (-Chain +it):\n%s", diff)
	}
	// A record proves every state but Ready, which it is the proof of.
	if diff := cmp.Diff(entered[:len(entered)-1], acceptance.Required()); diff != "" {
		t.Errorf("acceptance.Required (-Chain +it):\n%s", diff)
	}
	if last := Chain[len(Chain)-1]; last.State != Ready {
		t.Errorf("the chain ends with %s; want %s", last.State, Ready)
	}
}

// TestEstimates holds that every stage that a plan names costs something, and
// less in a lab than on metal.
func TestEstimates(t *testing.T) {
	for _, st := range Chain[1:] {
		if st.State == BurnedIn {
			continue // its declared stages say how long they take
		}
		if st.Estimate <= 0 || st.InLab <= 0 || st.InLab > st.Estimate || st.Estimate > st.Deadline {
			t.Errorf("%s: %s in a lab, %s on metal, deadline %s; want 0 < lab <= metal <= deadline", st.State, st.InLab, st.Estimate, st.Deadline)
		}
	}
}

// example reads an inventory of examples/ as it lies there, without variables.
func example(t *testing.T, name string) *inventory.Cluster {
	t.Helper()
	noEnv := func(string) (string, bool) { return "", false }
	c, src, diags := inventory.Load(filepath.Join("..", "examples", name), inventory.Options{Env: noEnv})
	if diags.HasErrors() {
		src.WriteText(os.Stderr, diags, false, 100)
		t.Fatalf("%s: %v", name, diags)
	}
	return c
}

// TestPlanExamples holds whole plans against golden files: before anything is
// known, and when everything is proven.
func TestPlanExamples(t *testing.T) {
	for _, name := range []string{"h200-rack", "two-node-lab"} {
		t.Run(name, func(t *testing.T) {
			want := Want{Cluster: example(t, name), Images: map[string]string{}, Key: []byte("a key")}
			p := MakePlan(want, NewKnown(), nil, epoch)
			raw, err := json.MarshalIndent(p, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			text := regexp.MustCompile(`"inventory": "sha256:[0-9a-f]{64}"`).ReplaceAllString(string(raw), `"inventory": "sha256:..."`)
			golden(t, filepath.Join("testdata", "plan-"+name+".golden"), text+"\n")

			again, _ := json.MarshalIndent(MakePlan(want, NewKnown(), nil, epoch.AddDate(1, 0, 0)), "", "  ")
			if diff := cmp.Diff(string(raw), string(again)); diff != "" {
				t.Errorf("the same plan, made a year later (-first +second):\n%s", diff)
			}
		})
	}
}

// proven is a node with every proof in, resting on what is declared.
func proven(want Want, n *inventory.Node) Node {
	known := NewNode(n.Name)
	known.State = Ready
	facets := want.Facets(n)
	for _, st := range Chain[1:] {
		known.Proofs[st.State] = Proof{Evidence: "sha256:" + string(st.State), At: epoch, Facets: only(facets, st.Facets)}
	}
	return known
}

// TestPlanOneChange changes one declared thing of a rack that is ready, and
// wants only that node's steps, with the reason and what they disrupt.
func TestPlanOneChange(t *testing.T) {
	tests := []struct {
		name   string
		change func(*inventory.Node)
		reason string
		want   Disruption
	}{
		{name: "nothing", change: func(*inventory.Node) {}},
		{name: "boot nic", change: func(n *inventory.Node) { n.BootNIC().MAC[5] = 0xee },
			reason: "nic.mac", want: Disruption{PowerCycles: 1, Reboots: 1}},
		{name: "serial", change: func(n *inventory.Node) { n.Serial = "FL-OTHER" },
			reason: "node.serial", want: Disruption{PowerCycles: 2, Reboots: 1, BurnInS: 86460}},
		{name: "disks", change: func(n *inventory.Node) { *n = withOneDisk(*n) },
			reason: "hardware.disk.scratch", want: Disruption{PowerCycles: 2, Reboots: 1, BurnInS: 86460}},
		{name: "image", change: func(n *inventory.Node) { n.Image = &inventory.Image{Name: "other", Method: "netboot"} },
			reason: "image.name", want: Disruption{PowerCycles: 1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			want := Want{Cluster: example(t, "h200-rack"), Images: map[string]string{}}
			known := NewKnown()
			for _, n := range want.Cluster.Nodes {
				known.Nodes[n.Name] = proven(want, n)
			}
			const changed = "hnode005"
			tt.change(want.Cluster.Node(changed))
			for _, s := range MakePlan(want, known, nil, epoch).Nodes {
				switch {
				case s.Name != changed || tt.reason == "":
					if s.Action != ActionNone || s.Disruption != (Disruption{}) {
						t.Errorf("%s: %s %v %+v; want nothing", s.Name, s.Action, s.Reasons, s.Disruption)
					}
				case s.Action != ActionChange || s.Disruption != tt.want || !strings.Contains(fmt.Sprint(s.Reasons), tt.reason):
					t.Errorf("%s: %s %v %+v; want a change because of %s that costs %+v", s.Name, s.Action, s.Reasons, s.Disruption, tt.reason, tt.want)
				}
			}
		})
	}
}

// withOneDisk gives a node a hardware class of its own with one disk fewer.
func withOneDisk(n inventory.Node) inventory.Node {
	h := *n.Hardware
	h.Disks = slices.Clone(h.Disks)
	h.Disks[0].Count--
	n.Hardware = &h
	return n
}
