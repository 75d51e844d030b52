package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestBMCReset restarts the BMCs that are named, by either protocol, and leaves
// the nodes and the other BMCs alone.
func TestBMCReset(t *testing.T) {
	r := newBMCSite(t)
	site := filepath.Join(r.dir, "site.hcl")
	text, err := os.ReadFile(site)
	if err != nil {
		t.Fatal(err)
	}
	r.write("site.hcl", strings.Replace(string(text), "controller {", "controller {\n  bmc_restart = \"300ms\"", 1))
	if _, errs, code := inProcess(t, "bmc", "reset", r.dir); code != 1 || !strings.Contains(errs, "bmc reset needs nodes") {
		t.Errorf("bmc reset of no node exits %d: %s", code, errs)
	}
	out, errs, code := inProcess(t, "bmc", "reset", "i1", r.dir)
	if code != 0 || out != "restarted: i1\n" || errs != "" || r.seen("r1 bmc-reset") != 0 {
		t.Errorf("bmc reset i1 exits %d:\n%s%s", code, out, errs)
	}
	nodes := r.answers(1, "bmc", "reset", "-json", "-target", "r1,i2")
	if n := nodes["r1"]; n["restarted"] != true || n["error"] != "" {
		t.Errorf("r1: %v; want it restarted", n)
	}
	if n := nodes["i2"]; n["restarted"] != false || !strings.Contains(n["error"].(string), "node i2: bmc 127.0.0.1:9") {
		t.Errorf("i2: %v; want its error", n)
	}
	if n := r.seen("r1 bmc-reset"); n != 1 || !r.bmc["r1"].Machine.Powered() || r.seen("r1 power-off")+r.seen("r1 power-cycle") != 0 {
		t.Errorf("r1's BMC was restarted %d times, its machine is on: %v", n, r.bmc["r1"].Machine.Powered())
	}
	r.noneOpen()
}
