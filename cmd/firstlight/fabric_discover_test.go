package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"firstlight/fabric"
	"firstlight/fabric/mad"
	"firstlight/internal/ibsimtest"
)

// discoverOutput is what fabric discover -json prints, as far as it is looked at.
type discoverOutput struct {
	Source   string
	Complete bool
	Summary  struct{ Switches, HCAs, Links int }
	Findings []fabric.Finding
	Links    []linkRow
}

func discover(t *testing.T, want int, args ...string) discoverOutput {
	t.Helper()
	out, errs, code := inProcess(t, append([]string{"fabric", "discover", "-json"}, args...)...)
	if code != want {
		t.Fatalf("fabric discover %q exits %d, wanted %d: %s", args, code, want, errs)
	}
	var d discoverOutput
	if err := json.Unmarshal([]byte(out), &d); err != nil {
		t.Fatalf("fabric discover %q: %v", args, err)
	}
	return d
}

// TestInteropDiscover runs the verb against ibsim, alone and through two rails,
// and on what ibnetdiscover prints of the same fabric.
func TestInteropDiscover(t *testing.T) {
	net, links := ibsimtest.FatTree(32, 2)
	sim := ibsimtest.Start(t, net, ibsimtest.Adapter(1, 0))
	dump := filepath.Join(t.TempDir(), "dump.txt")
	if err := os.WriteFile(dump, []byte(sim.Run("ibnetdiscover")), 0o644); err != nil {
		t.Fatal(err)
	}
	text := func(d discoverOutput) []string {
		var out []string
		for _, l := range d.Links {
			ends := []string{fmt.Sprintf("%s[%d]", l.A.Name, l.A.Port), fmt.Sprintf("%s[%d]", l.B.Name, l.B.Port)}
			slices.Sort(ends)
			out = append(out, strings.Join(ends, " ")+" "+l.Rate)
		}
		slices.Sort(out)
		return out
	}
	var want []string
	for _, l := range links {
		a, b, _ := strings.Cut(l, "] ")
		ends := []string{a + "]", b}
		slices.Sort(ends)
		want = append(want, strings.Join(ends, " ")+" HDR")
	}
	slices.Sort(want)
	for name, args := range map[string][]string{
		"one port":      {"-ibsim", sim.Socket, "-ibsim-node", ibsimtest.Adapter(1, 0)},
		"the default":   {"-ibsim", sim.Socket},
		"two rails":     {"-ibsim", sim.Socket, "-ibsim-node", ibsimtest.Adapter(1, 0), "-ibsim-node", ibsimtest.Adapter(1, 1)},
		"ibnetdiscover": {"-observed", dump},
	} {
		d := discover(t, 0, args...)
		if diff := cmp.Diff(want, text(d)); diff != "" || !d.Complete || len(d.Findings) > 0 || d.Summary.HCAs != 64 || d.Summary.Links != len(links) {
			t.Errorf("%s: complete %v, %+v, findings %v; links (-net file +discovered):\n%s", name, d.Complete, d.Summary, d.Findings, diff)
		}
	}

	sim.Do(`Error "leaf-001" 100 21`) // no PortInfo
	d := discover(t, 2, "-ibsim", sim.Socket, "-ibsim-node", ibsimtest.Adapter(1, 1))
	if len(d.Findings) == 0 || d.Findings[0].Class != "unanswered" || d.Findings[0].Node != "leaf-001" || !strings.Contains(d.Findings[0].Found, "stopped answering") {
		t.Errorf("with a switch that hangs: %+v; want it named", d.Findings)
	}
	if _, errs, code := inProcess(t, "fabric", "discover", "-ibsim", sim.Socket, "-ibsim-node", "nobody"); code != 1 || !strings.Contains(errs, `attach at node "nobody": refused`) {
		t.Errorf("attached at nobody: exit %d, %s", code, errs)
	}
	out, errs, code := inProcess(t, "fabric", "discover", "-deadline", "1ns", "-ibsim", sim.Socket)
	if code != 1 || !strings.Contains(errs, "the fabric was not read within 1ns") {
		t.Errorf("with no time: exit %d, %s%s", code, out, errs)
	}
	// What was found in a part does not hide that it is a part.
	out, errs, code = inProcess(t, "fabric", "verify", "-deadline", "1ns", "-ibsim", sim.Socket, "../../examples/superpod-h200")
	if code != 1 || !strings.Contains(errs, "the fabric was not read within 1ns") {
		t.Errorf("verified with no time: exit %d, %s%s", code, out, errs)
	}
}

// TestLinkedPorts chooses among local ports, as sysfs has them.
func TestLinkedPorts(t *testing.T) {
	root := t.TempDir()
	add := func(umad, adapter, layer, state string) {
		for name, text := range map[string]string{
			"infiniband_mad/" + umad + "/ibdev": adapter, "infiniband_mad/" + umad + "/port": "1",
			"infiniband/" + adapter + "/ports/1/link_layer": layer, "infiniband/" + adapter + "/ports/1/state": state,
		} {
			path := filepath.Join(root, "sys/class", name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	add("umad0", "mlx5_bond_0", "Ethernet", "4: ACTIVE")
	add("umad1", "mlx5_1", "InfiniBand", "1: DOWN")
	_, err := linkedPorts(mad.FS(root))
	if want := "no InfiniBand port of this machine has a link; there are mlx5_bond_0/1 (Ethernet, 4: ACTIVE), mlx5_1/1 (InfiniBand, 1: DOWN): name one with -device"; err == nil || err.Error() != want {
		t.Errorf("without a link: %v; want %s", err, want)
	}
	add("umad2", "mlx5_2", "InfiniBand", "2: INIT")
	add("umad3", "mlx5_3", "InfiniBand", "4: ACTIVE")
	if got, err := linkedPorts(mad.FS(root)); err != nil || !slices.Equal(got, []string{"mlx5_2/1", "mlx5_3/1"}) {
		t.Errorf("linkedPorts = %v, %v; want those that are up, InfiniBand only", got, err)
	}
}

// TestPlaces says where it stands what did not answer.
func TestPlaces(t *testing.T) {
	c, _, diags := (&app{}).read("../../examples/superpod-h200")
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	leaf := &fabric.Node{Kind: fabric.Switch, Description: "leaf-01", GUID: 1}
	hca := &fabric.Node{Kind: fabric.CA, Description: "dgx-001 mlx5_0", GUID: 2}
	read := &readFabric{Observed: &fabric.Observed{}, from: "a test", unanswered: []fabric.Unanswered{
		{Node: leaf, Port: 3, What: "PortInfo", Why: "busy"}, {Node: hca, Port: 1, What: "PortCounters", Why: "busy"}, {What: "NodeInfo", Why: "busy"},
	}}
	got := readFindings(read)
	stand(got, placesOf(c))
	want := []fabric.Finding{
		{Class: "unanswered", Severity: "warning", Node: "leaf-01", Ports: []fabric.PortRef{{Name: "leaf-01", Port: "3", Rack: "l1", Unit: 1}}, Found: `"leaf-01" port 3: PortInfo: busy`},
		{Class: "unanswered", Severity: "warning", Node: "dgx-001 mlx5_0", Ports: []fabric.PortRef{{Name: "dgx-001 mlx5_0", Port: "1", Rack: "d01", Unit: 1}}, Found: `"dgx-001 mlx5_0" port 1: PortCounters: busy`},
		{Class: "unanswered", Severity: "warning", Ports: []fabric.PortRef{}, Found: "the local port: NodeInfo: busy"},
	}
	for i := range want {
		want[i].Message = want[i].Found
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
	var out strings.Builder
	(&app{stdout: &out}).printDiscovered(read, fabric.Verdict{Findings: got})
	if want := "rack l1 unit 1\n  unanswered  \"leaf-01\" port 3: PortInfo: busy\n"; !strings.Contains(out.String(), want) {
		t.Errorf("printed:\n%s\nwant %s in it", out.String(), want)
	}
}
