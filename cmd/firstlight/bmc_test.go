package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"firstlight/internal/refbmc"
)

// newBMCSite is a site of three nodes: i1 whose BMC speaks IPMI and has sensors,
// r1 whose BMC speaks Redfish, and i2 whose BMC does not listen.
func newBMCSite(t *testing.T) *redfishSite {
	t.Helper()
	r := newRedfishSite(t)
	b := &refbmc.BMC{Listen: "127.0.0.1:0", Username: "admin", Password: redfishPassword, Serial: "S-i1", Machine: lamp{t, true},
		Watts: func() float64 { return 5120 },
		Sensors: []refbmc.Sensor{
			{Number: 0x30, Name: "Inlet Temp", Type: 1, Entity: 0x37, Unit: 1, Step: 1, Signed: true, Value: func() (float64, bool) { return 24, true }},
			{Number: 0x31, Name: "GPU1 Temp", Type: 1, Entity: 0x0b, Unit: 1, Step: 1, Signed: true, Upper: 90, Value: func() (float64, bool) { return 93, true }},
		}}
	text := strings.Replace(driftInventoryText, `"secret"`, `"`+redfishPassword+`"`, 1)
	text += redfishNode("i1", "ipmi", r.serve(2, b)) + redfishNode("r1", "redfish", r.serveRedfish("r1", true)) + redfishNode("i2", "ipmi", 9)
	r.write("site.hcl", text)
	b.LogEvent(1, 0x30, 0x01, [3]byte{0x59, 46, 45})
	b.LogEvent(1, 0x30, 0x81, [3]byte{0x59, 44, 45})
	return r
}

// answers are the nodes of a verb's JSON, by name.
func (r *redfishSite) answers(code int, args ...string) map[string]map[string]any {
	r.t.Helper()
	out, errs, got := inProcess(r.t, append(args, r.dir)...)
	if got != code || errs != "" {
		r.t.Fatalf("%q exits %d and says %q; want %d and nothing", args, got, errs, code)
	}
	r.noSecret(out)
	var all struct{ Nodes []map[string]any }
	if err := json.Unmarshal([]byte(out), &all); err != nil {
		r.t.Fatalf("%v in\n%s", err, out)
	}
	byName := map[string]map[string]any{}
	for _, n := range all.Nodes {
		byName[n["name"].(string)] = n
	}
	return byName
}

func TestBMCSEL(t *testing.T) {
	r := newBMCSite(t)
	nodes := r.answers(1, "bmc", "sel", "-json")
	if e := nodes["i2"]["error"].(string); !strings.Contains(e, "node i2: bmc 127.0.0.1:9") {
		t.Errorf("error of i2 is %q; want it named", e)
	}
	entries := nodes["i1"]["entries"].([]any)
	if len(entries) != 2 || len(nodes["r1"]["entries"].([]any)) != 2 || len(nodes["i2"]["entries"].([]any)) != 0 {
		t.Fatalf("nodes %v; want two entries of i1 and r1, none of i2", nodes)
	}
	first := entries[0].(map[string]any)
	if first["time"] == nil {
		t.Errorf("entry %v has no time", first)
	}
	delete(first, "time")
	want := map[string]any{"id": "1", "since_up_s": 0.0, "sensor": "Inlet Temp", "type": "Temperature", "event": "Upper Critical - going high",
		"asserted": true, "severity": "Critical", "detail": "reading 46, limit 45 Cel"}
	if d := cmp.Diff(want, first); d != "" {
		t.Errorf("entry (-want +got):\n%s", d)
	}

	out, errs, code := inProcess(t, "bmc", "sel", "-severity", "critical", "-target", "i1,r1", r.dir)
	if code != 0 || errs != "" || !strings.Contains(out, "Inlet Temp") || !strings.Contains(out, "Power supply 3 lost its input") ||
		strings.Contains(out, "ended") || !strings.Contains(out, "2 events; 0 nodes have none") {
		t.Errorf("critical events: exit %d, %q:\n%s", code, errs, out)
	}
	out, _, code = inProcess(t, "bmc", "sel", "-last", "1", "i1", r.dir)
	if code != 0 || !strings.Contains(out, "going high, ended (reading 44, limit 45 Cel)") || !strings.Contains(out, "1 event;") {
		t.Errorf("the last event: exit %d:\n%s", code, out)
	}
	if out, _, code = inProcess(t, "bmc", "sel", "-since", "1h", "r1", r.dir); code != 0 || !strings.Contains(out, "0 events; 1 node has none") {
		t.Errorf("events of the last hour: exit %d:\n%s", code, out)
	}
	if _, errs, code = inProcess(t, "bmc", "sel", "-severity", "awful", r.dir); code != 1 || !strings.Contains(errs, "one of ok, warning, critical") {
		t.Errorf("unknown severity: exit %d, %q", code, errs)
	}
}

func TestBMCSensors(t *testing.T) {
	r := newBMCSite(t)
	nodes := r.answers(1, "bmc", "sensors", "-json")
	for name, want := range map[string][2]any{"i1": {24.0, 5120.0}, "r1": {23.0, 612.0}, "i2": {nil, nil}} {
		if got := [2]any{nodes[name]["inlet_celsius"], nodes[name]["watts"]}; got != want {
			t.Errorf("inlet and watts of %s are %v; want %v", name, got, want)
		}
	}
	out, errs, code := inProcess(t, "bmc", "sensors", r.dir)
	for _, want := range []string{"GPU1 Temp 93 °C (critical)", "24 °C", "5120 W", "5732 W drawn by 2 nodes; inlet 23 °C to 24 °C"} {
		if code != 1 || !strings.Contains(out, want) || !strings.Contains(errs, "node i2: bmc") {
			t.Errorf("no %q, or not exit 1 (%d) for i2 (%q):\n%s", want, code, errs, out)
		}
	}
	out, errs, code = inProcess(t, "bmc", "sensors", "i1", r.dir)
	if code != 0 || errs != "" || !strings.Contains(out, "Power Unit") || !strings.Contains(out, "Inlet Temp  24 °C") {
		t.Errorf("sensors of i1: exit %d, %q:\n%s", code, errs, out)
	}
}

func TestBMCFirmware(t *testing.T) {
	r := newBMCSite(t)
	nodes := r.answers(0, "bmc", "firmware", "-json", "i1", "r1")
	want := []any{map[string]any{"part": "BMC", "name": "Baseboard controller", "version": "1.00"}}
	if d := cmp.Diff(want, nodes["i1"]["firmware"]); d != "" {
		t.Errorf("firmware of i1 (-want +got):\n%s", d)
	}
	if m := nodes["i1"]["machine"].(map[string]any); m["serial"] != "S-i1" || m["board_serial"] != "S-i1-B" || m["board_part"] != "B-1" {
		t.Errorf("machine of i1: %v", m)
	}
	if m := nodes["r1"]["machine"].(map[string]any); m["serial"] != "S-r1" {
		t.Errorf("machine of r1: %v", m)
	}
	out, errs, code := inProcess(t, "bmc", "firmware", r.dir)
	if code != 1 || !strings.Contains(errs, "node i2: bmc") || !strings.Contains(out, "1.00     i1  (differs)") || !strings.Contains(out, "BIOS") {
		t.Errorf("firmware: exit %d, %q:\n%s", code, errs, out)
	}
	r.noneOpen()
}

// TestNodesAndDir: the last argument is the inventory where it is a directory.
func TestNodesAndDir(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args    []string
		dir     string
		targets []string
	}{
		{nil, ".", nil}, {[]string{dir}, dir, nil}, {[]string{"n1"}, ".", []string{"n1"}}, {[]string{"n1", "n[2-3]", dir}, dir, []string{"n1", "n[2-3]"}},
	} {
		a := &app{}
		if got := a.nodesAndDir(tt.args); got != tt.dir || cmp.Diff(tt.targets, a.targets) != "" {
			t.Errorf("nodesAndDir(%q) = %q with targets %q; want %q with %q", tt.args, got, a.targets, tt.dir, tt.targets)
		}
	}
}

// TestBoardsMeasure: what a node draws, by either protocol; one whose BMC does not
// listen is an error and not a node that draws nothing.
func TestBoardsMeasure(t *testing.T) {
	r := newBMCSite(t)
	s := loadSite(t, r.dir)
	boards, err := s.newBoards(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer boards.Close()
	for name, want := range map[string]float64{"i1": 5120, "r1": 612} {
		if got, err := boards.Watts(t.Context(), s.Cluster.Node(name)); got != want || err != nil {
			t.Errorf("%s draws %g W, %v; want %g", name, got, err, want)
		}
	}
	if got, err := boards.Watts(t.Context(), s.Cluster.Node("i2")); err == nil {
		t.Errorf("i2 draws %g W without an answer", got)
	}
}
