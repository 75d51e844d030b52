package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"firstlight/internal/simrack"
	"firstlight/provision"
	"firstlight/provision/acceptance"
	"firstlight/provision/burnin"
	"firstlight/provision/journal"
)

// testBurnIn burns in simulated nodes with the reference engine, a cold power
// cycle between the stages: a faulty GPU sends its node to quarantine, with the
// GPU, the SM and the reading named, and the report says on its face what
// computed.
func testBurnIn(t *testing.T) {
	r := newFaultRig(t, rackSpec{nodes: 3, deadlines: map[string]string{"burned-in": "10m", "provisioned": "2m"},
		hardware: "  gpu {\n    pci_id = \"10de:2335\"\n    count  = 2\n  }\n",
		burn:     "\n    gemm      = \"1s\"\n    hbm_sweep = true\n  ", accept: "  rack {\n    soak = \"2s\"\n  }\n"},
		simrack.Fault{Node: "node-2", Kind: simrack.BadGPU, GPU: &burnin.Fault{Kind: burnin.FaultBitFlip, GPU: 1, SM: 5, Bit: 3, After: 4}},
		simrack.Fault{Node: "node-3", Kind: simrack.BadGPU, GPU: &burnin.Fault{Kind: burnin.FaultMemory, GPU: 0, Bit: 40}})
	o := r.cli("plan")
	wantText(t, "plan", o.stdout, "a cold power cycle lies between its quick burn-in and its soak", "costs 2 power cycles each, 1 reboot each, burn-in 3s")
	o = r.apply(1)
	wantText(t, "apply", lineOf(o.stderr, "node-2: quarantined: "), "burn-in.gemm.exact: found 1 wrong; the first in iteration 4", "XOR 00000008",
		"look at GPU 1 (0000:", ", SM 5", "burn-in.soak not run")
	wantText(t, "apply", lineOf(o.stderr, "node-3: quarantined: "), "burn-in.hbm_sweep.exact: found", "XOR 0000010000000000", "look at GPU 0 (0000:", ", memory")
	r.wantStates(provision.Ready, provision.Quarantined, provision.Quarantined)
	if c := r.rack.Counters("node-1"); c.PowerOns != 2 || c.PowerOffs != 1 || c.PowerCycles != 0 || c.AgentReboots != 1 {
		t.Errorf("node-1: %+v; want 2 power-ons, 1 power-off, 1 reboot", c)
	}
	r.wantBurnInReport()
	page, err := os.ReadFile(filepath.Join(r.dir, ".firstlight", "report", "index.html"))
	r.must(err)
	wantText(t, "report", string(page), "REFERENCE ENGINE", "Burn-in, sampled each second", "Throughput", ", SM 5")
	// It stays where it is until a person says otherwise.
	r.apply(1)
	r.wantStates(provision.Ready, provision.Quarantined, provision.Quarantined)
	r.wantPower(2, 1, 0, 1)
	r.burnsInAgain()
	if o := r.cli("release", "node-2"); o.code != 0 {
		t.Errorf("release exits %d: %s", o.code, o.stderr)
	}
}

// burnsInAgain has node-1, which is ready, burned in by request: not as one of a
// rack, for it may be in use, but by its name.
func (r *faultRig) burnsInAgain() {
	r.Helper()
	for _, args := range [][]string{{}, {"-target", "rack=a01"}} {
		o := r.cli(append([]string{"burnin", "-auto-approve"}, args...)...)
		if o.code != 2 {
			r.Errorf("burnin %v exits %d; want 2", args, o.code)
		}
		wantText(r.T, "burnin", o.stderr, "node-1 is ready and may be in use: name it with -target 'node-1'")
	}
	before := r.rack.Counters("node-1")
	o := r.cli("burnin", "-auto-approve", "-json", "-target", "node-1")
	if o.code != 0 {
		r.Fatalf("burnin exits %d: %s", o.code, o.stderr)
	}
	after := r.rack.Counters("node-1")
	if after.PowerOffs != before.PowerOffs+1 || after.PowerOns != before.PowerOns+1 || after.AgentReboots != before.AgentReboots || after.PowerCycles != 0 {
		r.Errorf("burnin: %+v becomes %+v; want one cold power cycle", before, after)
	}
	lines := strings.Split(strings.TrimSpace(o.stdout), "\n")
	var last struct {
		Type string                 `json:"type"`
		Data acceptance.FleetBurnIn `json:"data"`
	}
	r.must(json.Unmarshal([]byte(lines[len(lines)-1]), &last))
	if f := last.Data; last.Type != "burn-in" || f.Nodes != 3 || f.Faults != 2 || f.FLOPs == 0 || f.Bytes == 0 || len(f.NotRun) == 0 {
		r.Errorf("the last line of burnin -json: %s", lines[len(lines)-1])
	}
	r.wantStates(provision.Ready, provision.Quarantined, provision.Quarantined)
}

// wantBurnInReport holds what a reader of the report sees of the burn-in, and
// that what was measured is kept.
func (r *faultRig) wantBurnInReport() {
	r.Helper()
	var report acceptance.Report
	r.must(json.Unmarshal([]byte(r.cli("report", "-json").stdout), &report))
	var proof *acceptance.Evidence
	for _, s := range report.Nodes[0].History {
		if s.State == string(provision.BurnedIn) {
			proof = s.Proof
		}
	}
	if proof == nil || proof.Engine != acceptance.EngineReference || !proof.Lab || len(proof.Data) != 2 {
		r.Fatalf("node-1's burn-in: %+v", proof)
	}
	for _, digest := range proof.Data {
		raw, err := journal.Evidence{Dir: filepath.Join(r.dir, ".firstlight", "evidence")}.Get(digest)
		r.must(err)
		var b burnin.Burn
		r.must(json.Unmarshal(raw, &b))
		if c, hours := b.Coverage(); c.FLOPs == 0 || hours <= 0 || len(b.GPUs) != 2 {
			r.Errorf("data %s: %+v", digest, b)
		}
	}
}
