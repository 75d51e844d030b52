package provision

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"firstlight/inventory"
)

// edited loads a copy of the rack example in which texts were replaced.
// Every replacement must have had something to replace.
func edited(t *testing.T, replace map[string]string) *inventory.Cluster {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "rack")
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("..", "examples", "h200-rack"))); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.*"))
	if err != nil {
		t.Fatal(err)
	}
	done := map[string]bool{}
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		text := string(raw)
		for from, to := range replace {
			done[from] = done[from] || strings.Contains(text, from)
			text = strings.ReplaceAll(text, from, to)
		}
		if err := os.WriteFile(f, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for from := range replace {
		if !done[from] {
			t.Fatalf("the example has no %q to replace", from)
		}
	}
	return loaded(t, dir)
}

func loaded(t *testing.T, dir string) *inventory.Cluster {
	t.Helper()
	password := func(name string) (string, bool) { return "secret", name == "FIRSTLIGHT_VAR_bmc_password" }
	c, src, diags := inventory.Load(dir, inventory.Options{Env: password})
	if diags.HasErrors() {
		src.WriteText(os.Stderr, diags, false, 100)
		t.Fatal(diags)
	}
	return c
}

// TestPlanOnlyWhatItMust edits the inventory of a rack that is ready, as a
// person would, and holds which proofs fall, and why.
func TestPlanOnlyWhatItMust(t *testing.T) {
	const one, two = "sha256:1111111111111111111111111111", "sha256:2222222222222222222222222222"
	tests := []struct {
		name    string
		replace map[string]string
		images  map[string]string // by label; nil: compute as it was
		redo    []State           // of every node that changes
		nodes   int               // how many do
		reason  string
		cost    Disruption
	}{
		{name: "rack label", replace: map[string]string{`rack "a01"`: `rack "b17"`, "rack.a01": "rack.b17"}},
		{name: "hardware label", replace: map[string]string{`"h200x8"`: `"xd670"`, "hardware.h200x8": "hardware.xd670"}},
		{name: "credential label", replace: map[string]string{`credential "bmc"`: `credential "oob"`, "credential.bmc": "credential.oob"}},
		{name: "network label", replace: map[string]string{`network "provision"`: `network "boot"`, "network.provision": "network.boot"}},
		{name: "acceptance label", replace: map[string]string{`acceptance "h200"`: `acceptance "strict"`, "acceptance.h200": "acceptance.strict"}},
		{name: "disk label", replace: map[string]string{`disk "scratch"`: `disk "local"`}},
		{name: "image label, same content", replace: map[string]string{`image "compute"`: `image "node"`, "image.compute": "image.node"},
			images: map[string]string{"node": one}},
		{name: "units moved", replace: map[string]string{"hnode001,1,": "hnode001,40,"}},
		{name: "units and power of the class", replace: map[string]string{"power = \"10.2kW\"": "units = 5\n  power = \"10kW\""}},
		{name: "power-on budget", replace: map[string]string{"\"31kW\"": "\"50kW\""}},
		{name: "row and position", replace: map[string]string{"\n  height ": "\n  row = \"A\"\n  position = 4\n  height "}},
		{name: "written otherwise", replace: map[string]string{`"2TiB"`: `"2048GiB"`, `"24h"`: `"1d"`, `"60s"`: `"1m"`, `"NDR"`: `"400Gb/s"`,
			`"141GB"`: `"0.141TB"`, `"7.68TB"`: `"7680 GB"`, `"360Gb/s"`: `"45GB/s"`}},
		{name: "device named as the label", replace: map[string]string{"near_gpu = hca.value": "near_gpu = hca.value\n device = \"ibn${hca.value + 1}\""}},
		{name: "hca label, same device", replace: map[string]string{`["ibn${hca.value + 1}"]`: `["rail${hca.value + 1}"]`, ",ibn": ",rail",
			"near_gpu = hca.value": "near_gpu = hca.value\n device = \"ibn${hca.value + 1}\""}},

		{name: "image digest", images: map[string]string{"compute": two}, nodes: 8, redo: []State{Provisioned, Validated, Ready},
			reason: "image.digest: sha256:111111111111 -> sha256:222222222222 (cluster.hcl:43)", cost: Disruption{PowerCycles: 1}},
		{name: "burn-in length", replace: map[string]string{`"24h"`: `"48h"`}, nodes: 8, redo: []State{BurnedIn, Ready},
			reason: "burnin.soak: 24h -> 48h (cluster.hcl:48)", cost: Disruption{PowerCycles: 2, BurnInS: 48*3600 + 60}},
		{name: "fabric threshold", replace: map[string]string{`"360Gb/s"`: `"370Gb/s"`}, nodes: 8, redo: []State{Validated, Ready},
			reason: "fabric.min_bandwidth: 360Gb/s -> 370Gb/s (cluster.hcl:48)", cost: Disruption{PowerCycles: 1}},
		{name: "GPU count", replace: map[string]string{"count   = 8": "count   = 7", "near_gpu = hca.value": "near_gpu = min(hca.value, 6)"}, nodes: 8,
			redo:   []State{Enrolled, Matched, Provisioned, Validated, BurnedIn, Ready},
			reason: "hardware.gpu.count: 8 -> 7 (hardware.hcl:13)", cost: Disruption{PowerCycles: 2, Reboots: 1, BurnInS: 86460}},
		{name: "PCI address", replace: map[string]string{"near_gpu = hca.value": "near_gpu = hca.value\n pci = \"${hca.value + 10}:00.0\""}, nodes: 8,
			redo:   []State{Enrolled, Matched, Provisioned, Validated, BurnedIn, Ready},
			reason: "hardware.hca.ibn1: rail 1 NDR -> rail 1 NDR at 0000:10:00.0 (hardware.hcl:22)", cost: Disruption{PowerCycles: 2, Reboots: 1, BurnInS: 86460}},
		{name: "adapter GUID", replace: map[string]string{"  nic \"boot\" {": "  hca \"ibn1\" {\n guid = \"0xa088c20300ab00${format(\"%02d\", each.value.unit)}\"\n }\n  nic \"boot\" {"}, nodes: 8,
			redo: []State{Validated, Ready}, reason: "fabric.guid.ibn1 is now declared: 0xa088c20300ab0001 (nodes.hcl:23)", cost: Disruption{PowerCycles: 1}},
		{name: "one serial", replace: map[string]string{"FL-H200-0003": "FL-H200-9003"}, nodes: 1,
			redo:   []State{Reachable, Enrolled, Matched, Provisioned, Validated, BurnedIn, Ready},
			reason: "node.serial: FL-H200-0003 -> FL-H200-9003 (nodes.hcl:8)", cost: Disruption{PowerCycles: 2, Reboots: 1, BurnInS: 86460}},
	}
	was := Want{Cluster: edited(t, nil), Images: map[string]string{"compute": one}, Key: []byte("key")}
	known := NewKnown()
	for _, n := range was.Cluster.Nodes {
		known.Nodes[n.Name] = proven(was, n)
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.images == nil {
				tt.images = was.Images
			}
			p := MakePlan(Want{Cluster: edited(t, tt.replace), Images: tt.images, Key: was.Key}, known, nil, epoch)
			reasons := ""
			for _, s := range p.Nodes {
				if s.Action == ActionNone {
					continue
				}
				reasons += strings.Join(s.Reasons, "\n") + "\n"
				if s.Action != ActionChange || s.Disruption != tt.cost || !slices.Equal(s.Redo, tt.redo) {
					t.Errorf("%s: %s, proves %v anew, costs %+v; want a change, %v, %+v", s.Name, s.Action, s.Redo, s.Disruption, tt.redo, tt.cost)
				}
			}
			if p.Summary.Change != tt.nodes || p.Summary.NoChange != 8-tt.nodes || p.Summary.Remove != 0 {
				t.Errorf("summary %+v; want %d of 8 to change; reasons:\n%s", p.Summary, tt.nodes, reasons)
			}
			if !strings.Contains(reasons, tt.reason) {
				t.Errorf("reasons:\n%swant %q", reasons, tt.reason)
			}
		})
	}
}

// TestPlanOtherFiles moves the blocks of the example into other files.
func TestPlanOtherFiles(t *testing.T) {
	was := Want{Cluster: edited(t, nil), Images: map[string]string{}, Key: []byte("key")}
	known := NewKnown()
	for _, n := range was.Cluster.Nodes {
		known.Nodes[n.Name] = proven(was, n)
	}
	dir := filepath.Join(t.TempDir(), "rack")
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("..", "examples", "h200-rack"))); err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{"cluster.hcl": "z.hcl", "hardware.hcl": "a.hcl", "nodes.hcl": "m.hcl"} {
		if err := os.Rename(filepath.Join(dir, from), filepath.Join(dir, to)); err != nil {
			t.Fatal(err)
		}
	}
	if p := MakePlan(Want{Cluster: loaded(t, dir), Images: was.Images, Key: was.Key}, known, nil, epoch); p.Changes() || p.Summary.NoChange != 8 {
		t.Errorf("summary %+v; want no change of 8 nodes", p.Summary)
	}
}

// TestPlanRemoval: a node taken out of the inventory is not touched, and the
// plan says so.
func TestPlanRemoval(t *testing.T) {
	c := edited(t, nil)
	was := Want{Cluster: c, Images: map[string]string{}}
	known := NewKnown()
	for _, n := range c.Nodes {
		known.Nodes[n.Name] = proven(was, n)
	}
	c.Nodes = c.Nodes[:7]
	p := MakePlan(was, known, nil, epoch)
	s := p.Nodes[len(p.Nodes)-1]
	if s.Name != "hnode008" || s.Action != ActionRemove || s.Disruption != (Disruption{}) || s.DurationS != 0 ||
		!strings.Contains(strings.Join(s.Reasons, ""), "the machine is not touched") {
		t.Errorf("step %+v; want hnode008 removed, at no cost, and the machine not touched", s)
	}
	if p.Summary.Remove != 1 || p.Summary.PowerCycles != 0 {
		t.Errorf("summary %+v; want one removal and no power cycle", p.Summary)
	}
	if diff := cmp.Diff([]Part{{Remove: 1}}, p.ByRack); diff != "" {
		t.Errorf("by rack (-want +got):\n%s", diff)
	}
	if p := MakePlan(was, known, c.Nodes[:3], epoch); p.Changes() {
		t.Errorf("a plan of three targets %+v; want no removal in it", p.Summary)
	}
}

// TestPlanCounts holds what a plan adds up: per rack, per class, and burn-in
// once, because nodes burn in beside each other.
func TestPlanCounts(t *testing.T) {
	c := edited(t, nil)
	other := *c.Nodes[0].Rack
	other.Name = "a02"
	class := *c.Nodes[0].Hardware
	class.Name = "spare"
	for _, n := range c.Nodes[6:] {
		n.Rack, n.Hardware = &other, &class
	}
	c.Settings.Concurrency = 2
	want := Want{Cluster: c, Images: map[string]string{}}
	known := NewKnown()
	for _, n := range c.Nodes[:5] {
		known.Nodes[n.Name] = proven(want, n)
	}
	held := NewNode(c.Nodes[7].Name)
	held.State = Quarantined
	known.Nodes[held.Name] = held
	p := MakePlan(want, known, nil, epoch)
	const burnIn = 86460.0
	if diff := cmp.Diff([]Part{{Name: "a01", BringUp: 1, NoChange: 5, PowerCycles: 2, Reboots: 1, BurnInS: burnIn},
		{Name: "a02", BringUp: 1, Held: 1, PowerCycles: 2, Reboots: 1, BurnInS: burnIn}}, p.ByRack); diff != "" {
		t.Errorf("by rack (-want +got):\n%s", diff)
	}
	if len(p.ByHardware) != 2 || p.ByHardware[1].Name != "spare" || p.ByHardware[1].Held != 1 {
		t.Errorf("by hardware %+v; want h200x8 and spare", p.ByHardware)
	}
	one := p.Nodes[5].DurationS
	if p.Summary.BurnInS != burnIn || p.Summary.DurationS != one || one < burnIn {
		t.Errorf("two nodes at once take %.0f s of which %.0f burn-in; one takes %.0f", p.Summary.DurationS, p.Summary.BurnInS, one)
	}
	c.Settings.Concurrency = 1
	if got := MakePlan(want, known, nil, epoch).Summary.DurationS; got != 2*(one-burnIn)+burnIn {
		t.Errorf("one after the other takes %.0f s; want the bring-up twice and the burn-in once", got)
	}
}

// TestCanonical holds which facets are the same value.
func TestCanonical(t *testing.T) {
	tests := []struct {
		key, a, b string
		same      bool
	}{
		{"hardware.memory.total", "2TiB", "2048GiB", true},
		{"hardware.memory.total", "2TiB", "2TB", false},
		{"hardware.gpu.memory", "141GB", "141 GB", true},
		{"hardware.disk.root", "2 x 4GiB nvme", "2 x 4 GiB nvme", true},
		{"hardware.disk.root", "2 x 4GiB", "2 x 4096MiB", true},
		{"hardware.disk.root", "2 x 4GiB nvme", "2 x 4GiB sata", false},
		{"hardware.disk.root", "2 x 4GiB nvme", "1 x 4GiB nvme", false},
		{"hardware.hca.ibn1", "rail 1 NDR", "rail 1 400Gb/s", true},
		{"hardware.hca.ibn1", "rail 1 NDR", "rail 2 NDR", false},
		{"hardware.hca.ibn1", "rail 1 NDR", "rail 1 NDR200", false},
		{"hardware.hca.ibn1", "rail 1 NDR at 0000:18:00.0", "rail 1 400Gb/s at 0000:18:00.0", true},
		{"hardware.hca.ibn1", "rail 1 NDR at 0000:18:00.0", "rail 1 NDR at 0000:19:00.0", false},
		{"burnin.soak", "24h", "1d", true},
		{"burnin.soak", "24h", "25h", false},
		{"fabric.min_bandwidth", "360Gb/s", "45GB/s", true},
		{"hardware.product", "24h", "1d", false}, // no quantity
	}
	for _, tt := range tests {
		if got := canonical(tt.key, tt.a) == canonical(tt.key, tt.b); got != tt.same {
			t.Errorf("%s: %q and %q the same: %v; want %v", tt.key, tt.a, tt.b, got, tt.same)
		}
	}
}
