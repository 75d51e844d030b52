package main

import (
	"encoding/csv"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"firstlight/internal/ibsimtest"
	"firstlight/inventory"
	"firstlight/provision"
)

// loadRack reads an inventory with a password.
func loadRack(t *testing.T, dir string) *inventory.Cluster {
	t.Helper()
	env := func(name string) (string, bool) { return "secret", name == "FIRSTLIGHT_VAR_bmc_password" }
	c, src, diags := inventory.Load(dir, inventory.Options{Env: env})
	if diags.HasErrors() {
		src.WriteText(os.Stderr, diags, false, 100)
		t.Fatalf("%s does not load", dir)
	}
	return c
}

const rackExample = "../../examples/h200-rack"

// fabricDump is the cabling of an inventory as a simulator's net file, which is
// what ibnetdiscover prints but for the names. Adapters call themselves mlx5_0
// and so on, in the order of the hardware's. more are cables besides.
func fabricDump(c *inventory.Cluster, rate string, more ...inventory.Cable) string {
	type port struct{ device, num string }
	peers := map[string][]string{}
	var switches, adapters []string
	kind := map[string]string{}
	name := func(p port) port {
		n := c.Node(p.device)
		if n == nil {
			kind[p.device] = "Switch"
			return p
		}
		i := slices.IndexFunc(n.Hardware.HCAs, func(h inventory.HCA) bool { return h.Name == p.num })
		return port{fmt.Sprintf("%s mlx5_%d", p.device, i), "1"}
	}
	add := func(a, b port) {
		if peers[a.device] == nil && kind[a.device] == "Switch" {
			switches = append(switches, a.device)
		} else if peers[a.device] == nil {
			adapters = append(adapters, a.device)
		}
		peers[a.device] = append(peers[a.device], fmt.Sprintf("[%s]\t%q[%s]\t# %[2]q lid 0 %[4]s\n", a.num, b.device, b.num, rate))
	}
	for _, cable := range append(slices.Clone(c.Fabrics["compute"].Cables), more...) {
		a, b := name(port{cable.ADevice, cable.APort}), name(port{cable.BDevice, cable.BPort})
		add(a, b)
		add(b, a)
	}
	var b strings.Builder
	b.WriteString("width=3\nspeed=7\nextspeed=7\n")
	guid := 0xa088c203 << 16
	for _, s := range switches {
		guid += 16
		fmt.Fprintf(&b, "\nvendid=0x2c9\ndevid=0xd2f2\nsysimgguid=0x%x\nswitchguid=0x%[1]x\nSwitch 65 %[2]q\t# %[2]q base port 0 lid 0 lmc 0\n%[3]s", guid, s, strings.Join(peers[s], ""))
	}
	for _, a := range adapters {
		guid += 16
		fmt.Fprintf(&b, "\nvendid=0x2c9\ndevid=0x1021\nsysimgguid=0x%x\ncaguid=0x%[1]x\nCa 1 %[2]q\t# %[2]q\n%[3]s", guid, a, strings.Join(peers[a], ""))
	}
	return b.String()
}

// write puts a file into a directory of the test's.
func writeTemp(t *testing.T, name, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// rackClasses is a file for -hardware with what the example declares of its nodes.
func rackClasses(t *testing.T) string {
	t.Helper()
	hardware, err := os.ReadFile(filepath.Join(rackExample, "hardware.hcl"))
	if err != nil {
		t.Fatal(err)
	}
	cluster, err := os.ReadFile(filepath.Join(rackExample, "cluster.hcl"))
	if err != nil {
		t.Fatal(err)
	}
	_, acceptance, ok := strings.Cut(string(cluster), "\nacceptance ")
	if !ok {
		t.Fatal("the example has no acceptance block")
	}
	return writeTemp(t, "classes.hcl", string(hardware)+"\nacceptance "+acceptance)
}

// importRack imports and returns the directory.
func importRack(t *testing.T, args ...string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "h200-rack")
	stdout, stderr, code := inProcess(t, append(append([]string{"import"}, args...), dir)...)
	if code != 0 {
		t.Fatalf("import %q exits %d\n%s%s", args, code, stdout, stderr)
	}
	if out, errs, code := inProcess(t, "validate", dir); code != 0 {
		t.Errorf("validate of what was imported exits %d\n%s%s", code, out, errs)
	}
	if out, errs, code := inProcess(t, "fmt", "-check", dir); code != 0 {
		t.Errorf("fmt -check of what was imported exits %d\n%s%s", code, out, errs)
	}
	return dir
}

// identity is what an asset list says of a node.
type identity struct{ Name, Rack, Serial, BMC, MAC, Address string }

func identities(c *inventory.Cluster) map[identity]int {
	out := map[identity]int{}
	for _, n := range c.Nodes {
		rack := ""
		if n.Rack != nil {
			rack = n.Rack.Name
		}
		out[identity{n.Name, rack, n.Serial, n.BMC.Address.String(), n.BootNIC().MAC.String(), n.BootNIC().Address.String()}] = n.Unit
	}
	return out
}

// cableSet is a fabric's cables, from whichever end, without the adapter's name.
func cableSet(c *inventory.Cluster, label func(device, port string) string, more ...inventory.Cable) []string {
	var out []string
	for _, cable := range append(slices.Clone(c.Fabrics["compute"].Cables), more...) {
		ends := []string{cable.ADevice + " " + label(cable.ADevice, cable.APort), cable.BDevice + " " + label(cable.BDevice, cable.BPort)}
		slices.Sort(ends)
		out = append(out, strings.Join(ends, " - "))
	}
	slices.Sort(out)
	return out
}

func asWritten(_, port string) string { return port }

// rackAssets is the example's asset list, with racks, as a vendor may write it.
func rackAssets(t *testing.T) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(rackExample, "assets.csv"))
	if err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(strings.NewReader(string(raw))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	text := "\ufeffDelivery note 4711;;;;;;;\r\n\r\nHost Name;Cabinet;Position;S/N;iLO IP;PXE MAC;IP Address;Product\r\n"
	for _, r := range rows[1:] {
		mac := strings.ToUpper(strings.ReplaceAll(r[4], ":", "-"))
		text += fmt.Sprintf("%s;a01;U%s;%s;%s;%s;%s;XD670\r\n", r[0], r[1], r[2], r[3], mac, r[5])
	}
	return writeTemp(t, "delivery.csv", text)
}

// TestImportRoundTrip imports a vendor's list and a dump of the example's rack:
// nodes and cables are the example's, importing again gives the same, and a
// plan on a rack that is ready has nothing to do.
func TestImportRoundTrip(t *testing.T) {
	want := loadRack(t, rackExample)
	assets := rackAssets(t)
	dump := writeTemp(t, "fabric.txt", fabricDump(want, "4xNDR"))
	args := []string{"-assets", assets, "-fabric", dump, "-hardware", rackClasses(t)}
	dir := importRack(t, args...)
	got := loadRack(t, dir)
	if diff := cmp.Diff(identities(want), identities(got)); diff != "" {
		t.Errorf("nodes (-example +imported):\n%s", diff)
	}
	if diff := cmp.Diff(cableSet(want, asWritten), cableSet(got, asWritten)); diff != "" {
		t.Errorf("cables (-example +imported):\n%s", diff)
	}
	for _, s := range got.Switches {
		if want := "leaf-0" + fmt.Sprint(s.Rail); s.Name != want || s.Role != "leaf" || s.Model.Name != "qm9700" || s.Split || s.GUID == 0 {
			t.Errorf("switch %s: role %q, rail %d, model %s, split %v, GUID %s", s.Name, s.Role, s.Rail, s.Model.Name, s.Split, s.GUID)
		}
	}
	again := importRack(t, args...)
	if diff := cmp.Diff(tree(t, dir), tree(t, again)); diff != "" {
		t.Errorf("importing twice (-first +second):\n%s", diff)
	}

	// The GUIDs that the dump gives are all that the example does not have.
	reasons := planReasons(want, got)
	for _, reason := range reasons {
		if !strings.HasPrefix(reason, "fabric.guid.") {
			t.Errorf("a plan on the ready rack: %s; want the adapters' GUIDs only", reason)
		}
	}
	if len(reasons) != 64 {
		t.Errorf("%d differences; want the GUIDs of 64 adapters: %q", len(reasons), reasons)
	}
	// With the inventory that has them, nothing is.
	third := loadRack(t, importRack(t, "-assets", filepath.Join(dir, "assets.csv"), "-fabric", dump, "-hardware", rackClasses(t)))
	if reasons := planReasons(got, third); len(reasons) > 0 {
		t.Errorf("a plan on the imported rack, of its own list: %q; want no difference", reasons)
	}
	// With assets only, serials, BMCs, boot NICs and hardware are as they were.
	hardware := filepath.Join(rackExample, "hardware.hcl")
	for _, reason := range planReasons(want, loadRack(t, importRack(t, "-assets", assets, "-hardware", hardware))) {
		if !strings.HasPrefix(reason, "fabric.") && !strings.HasPrefix(reason, "burnin.") {
			t.Errorf("a plan on the ready rack, of assets only: %s; want acceptance only, which is nowhere in them", reason)
		}
	}
	// Without -hardware, what the sources cannot tell is what is missing.
	for _, reason := range planReasons(want, loadRack(t, importRack(t, "-assets", assets, "-fabric", dump))) {
		if ok := strings.HasPrefix(reason, "fabric.") || strings.HasPrefix(reason, "hardware.") || strings.HasPrefix(reason, "burnin."); !ok {
			t.Errorf("a plan without -hardware: %s; want hardware, burn-in and fabric only", reason)
		}
	}
}

// planReasons are the declared values because of which nodes that are ready as
// one inventory declares them would change under another.
func planReasons(was, is *inventory.Cluster) []string {
	images := map[string]string{"compute": "sha256:" + strings.Repeat("1", 64)}
	have := provision.NewKnown()
	before := provision.Want{Cluster: was, Images: images, Key: []byte("key")}
	for _, n := range was.Nodes {
		node := provision.Node{Name: n.Name, State: provision.Ready, Proofs: map[provision.State]provision.Proof{}}
		facets := before.Facets(n)
		for _, st := range provision.Chain[1:] {
			rests := map[string]string{}
			for k, v := range facets {
				if slices.ContainsFunc(st.Facets, func(p string) bool { return strings.HasPrefix(k, p) }) {
					rests[k] = v
				}
			}
			node.Proofs[st.State] = provision.Proof{Evidence: "sha256:" + string(st.State), Facets: rests}
		}
		have.Nodes[n.Name] = node
	}
	plan := provision.MakePlan(provision.Want{Cluster: is, Images: images, Key: []byte("key")}, have, nil, time.Unix(1e9, 0))
	var out []string
	for _, s := range plan.Nodes {
		if s.Action != provision.ActionNone {
			for _, r := range s.Reasons {
				if strings.Contains(r, " -> ") || strings.Contains(r, " is now declared") || strings.Contains(r, " is no longer declared") {
					out = append(out, r)
				}
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		out[name] = string(raw)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestImportIBSim imports what ibnetdiscover prints, in both forms, of the
// example's fabric in a foreign simulator, its leaves joined by a spine so that
// one sweep reaches them all: the cables are the example's, and the spine's.
func TestImportIBSim(t *testing.T) {
	want := loadRack(t, rackExample)
	var up []inventory.Cable
	for l := range 8 {
		up = append(up, inventory.Cable{ADevice: fmt.Sprintf("leaf-%02d", l+1), APort: "33", BDevice: "spine-01", BPort: fmt.Sprint(l + 1)})
	}
	sim := ibsimtest.Start(t, fabricDump(want, "4xHDR", up...), "hnode001 mlx5_0")
	index := func(device, port string) string {
		if n := want.Node(device); n != nil {
			if i := slices.IndexFunc(n.Hardware.HCAs, func(h inventory.HCA) bool { return h.Name == port }); i >= 0 {
				return fmt.Sprintf("mlx5_%d", i)
			}
		}
		return port
	}
	for form, args := range map[string][]string{"topology": nil, "report": {"-p"}} {
		t.Run(form, func(t *testing.T) {
			dump := writeTemp(t, "fabric.txt", sim.Run("ibnetdiscover", args...))
			alone := loadRack(t, importRack(t, "-fabric", dump))
			if diff := cmp.Diff(cableSet(want, index, up...), cableSet(alone, asWritten)); diff != "" {
				t.Errorf("cables (-example +imported):\n%s", diff)
			}
			if len(alone.Switches) != 9 || alone.Switches[8].Role != "spine" || len(alone.Nodes) != 0 || len(alone.Fabrics["compute"].Others) != 8 {
				t.Errorf("%d switches, %d nodes, others %q; want 8 leaves and a spine, 0 and the 8 hosts", len(alone.Switches), len(alone.Nodes), alone.Fabrics["compute"].Others)
			}
			both := loadRack(t, importRack(t, "-fabric", dump, "-assets", rackAssets(t)))
			if diff := cmp.Diff(cableSet(want, index, up...), cableSet(both, asWritten)); diff != "" || len(both.Fabrics["compute"].Others) > 0 {
				t.Errorf("with assets: others %q, cables (-example +imported):\n%s", both.Fabrics["compute"].Others, diff)
			}
			for _, n := range both.Nodes {
				if len(n.HCAs) != 8 || n.Hardware.Name != "xd670" || len(n.Hardware.HCAs) != 8 || n.Hardware.HCAs[7].Rail != 8 || n.Hardware.HCAs[7].Rate.Text != "HDR" {
					t.Errorf("%s: %d GUIDs, hardware %+v; want 8 adapters on 8 rails at HDR", n.Name, len(n.HCAs), n.Hardware)
				}
			}
		})
	}
}
