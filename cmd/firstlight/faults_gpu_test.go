package main

import (
	"encoding/json"
	"slices"
	"testing"

	"firstlight/internal/simrack"
	"firstlight/provision"
	"firstlight/provision/acceptance"
	"firstlight/provision/burnin"
)

// testGPUHealth validates simulated nodes with GPUs: one that has lost an NVLink
// does not get there, and the message names the GPU and what was declared; the
// others' evidence has every check.
func testGPUHealth(t *testing.T) {
	r := newFaultRig(t, rackSpec{nodes: 2, deadlines: map[string]string{"provisioned": "2m"},
		hardware: "  gpu {\n    pci_id  = \"10de:2335\"\n    count   = 8\n    memory  = \"141GB\"\n    nvlinks = 18\n  }\n"},
		simrack.Fault{Node: "node-2", Kind: simrack.SickGPU, Quantity: burnin.NVLinks, Number: 17})
	o := r.apply(1)
	wantText(t, "apply", lineOf(o.stderr, "node-2: failed: "), "gpu.nvlink.count: found 17, declared 18 active (", ".hcl:", "GPU 7 0000:", "serial SIM7")
	r.wantStates(provision.Ready, provision.Failed)
	var report acceptance.Report
	r.must(json.Unmarshal([]byte(r.cli("report", "-json").stdout), &report))
	var checks []acceptance.Check
	for _, s := range report.Nodes[0].History {
		if s.State == string(provision.Validated) && s.Proof != nil {
			checks = s.Proof.Checks
		}
	}
	for _, k := range burnin.HealthChecks() {
		i := slices.IndexFunc(checks, func(c acceptance.Check) bool { return c.Name == k.Name })
		if i < 0 || checks[i].Verdict != acceptance.Pass {
			t.Errorf("%s is not in the evidence of node-1, or does not pass: %+v", k.Name, checks)
		}
	}
	i := slices.IndexFunc(checks, func(c acceptance.Check) bool { return c.Name == "gpu.driver" })
	if i < 0 || checks[i].Reading != "simulated: no GPU was asked" {
		t.Errorf("the evidence of node-1 does not say that its GPUs are simulated: %+v", checks)
	}
}
