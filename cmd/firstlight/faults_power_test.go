package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"firstlight/internal/simrack"
	"firstlight/provision"
)

// writeRackExample writes examples/h200-rack, with the controller on its
// out-of-band network.
func writeRackExample(t *testing.T, dir string) {
	t.Helper()
	if err := os.CopyFS(dir, os.DirFS(rackExample)); err != nil {
		t.Fatal(err)
	}
	os.RemoveAll(filepath.Join(dir, ".firstlight"))
	file := filepath.Join(dir, "cluster.hcl")
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	const oob = "cidr = \"10.20.0.0/22\"\n"
	if strings.Count(string(raw), oob) != 1 {
		t.Fatalf("%s does not have %q", file, oob)
	}
	writeFile(t, file, strings.Replace(string(raw), oob, oob+"  interface = \"oob\"\n  address = \"10.20.0.1\"\n", 1))
}

// testPowerOnWaves brings up the example of a whole rack, whose budget lets
// three of its eight nodes start at a time, kills the controller in the middle,
// and holds both runs against the rack's own record.
func testPowerOnWaves(t *testing.T) {
	t.Setenv("FIRSTLIGHT_VAR_bmc_password", rackPassword)
	r := newRigOf(t, writeRackExample)
	r.start(&simrack.Rack{POST: time.Second, Retry: 200 * time.Millisecond, Pause: 500 * time.Millisecond})
	first := r.begin("apply", "-auto-approve", "-json")
	on := 0
	killed := first.until(func(ev progressEvent) bool {
		if ev.Data.Event.Kind == provision.EventPowered && strings.Contains(string(ev.Data.Event.Data), `"op":"on"`) {
			on++
		}
		return on == 4 // the second wave has begun
	})
	if !killed {
		t.Fatalf("the first apply ended: %+v", first.end())
	}
	first.kill()
	o := r.cli("apply", "-auto-approve")
	if o.code != 1 {
		t.Errorf("apply exits %d; want 1, for the fabric and the burn-in that are declared", o.code)
	}
	wantText(t, "apply", o.stdout, "Switched on in ", "(rack a01: 30.6kW of 31kW)")
	starts := r.rack.Starts()
	nodes := map[string]bool{}
	for _, s := range starts {
		nodes[s.Node] = true
		var at []string
		for _, other := range starts {
			ended := other.Running
			if ended.IsZero() {
				ended = other.Off
			}
			if !other.On.After(s.On) && (ended.IsZero() || ended.After(s.On)) {
				at = append(at, other.Node)
			}
		}
		if len(at) > 3 {
			t.Errorf("%v were starting at once, which is %g kW; the rack has 31 kW for nodes that start", at, float64(len(at))*10.2)
		}
	}
	if len(starts) != 8 || len(nodes) != 8 {
		t.Errorf("the rack switched %d nodes on, %d times; want each of 8 once:\n%s", len(nodes), len(starts), fmt.Sprintln(starts))
	}
	for _, n := range r.status().Nodes {
		if n.State != string(provision.Failed) || !strings.Contains(n.Reason, "fabric") {
			t.Errorf("%s is %s (%s); want it to end at the fabric's checks", n.Name, n.State, n.Reason)
		}
	}
}
