package agent

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"firstlight/provision/acceptance"
	"firstlight/provision/agent/api"
	"firstlight/provision/burnin"
)

func TestParseXid(t *testing.T) {
	for line, want := range map[string]*burnin.Trouble{
		"NVRM: Xid (PCI:0000:4F:00): 79, pid='<unknown>', GPU has fallen off the bus.":        {PCI: "0000:4f:00", Code: 79},
		"NVRM: Xid (PCI:0000:4f:00): 48, pid=1234, DBE (Double Bit Error) ECC Error":          {PCI: "0000:4f:00", Code: 48},
		"NVRM: Xid (PCI:0000:4f:00): 94, pid=1234, Contained memory error":                    {PCI: "0000:4f:00", Code: 94},
		"NVRM: GPU 0000:4f:00.0: GPU has fallen off the bus.":                                 {},
		"NVRM: Xid (PCI:0000:4f:00): 45, pid=1234, Preemptive removal":                        nil,
		"NVRM: Xid (PCI:0000:4f:00): 13, pid=1234, Graphics Exception":                        nil,
		"nvidia: loading out-of-tree module taints kernel.":                                   nil,
		"NVRM: Xid (PCI:0000:4f:00): 99999999999999999999, a number that no driver ever gave": nil,
	} {
		if want != nil {
			want.Line = line
		}
		got, ok := parseXid(line)
		if ok != (want != nil) {
			t.Errorf("parseXid(%q) = %v", line, ok)
		} else if ok && got != *want {
			t.Errorf("parseXid(%q) = %+v; want %+v", line, got, *want)
		}
	}
}

// What was in the log before is not of this burn-in; what comes is reported.
func TestWatchXid(t *testing.T) {
	root := t.TempDir()
	log := filepath.Join(root, "dev/kmsg")
	if err := os.MkdirAll(filepath.Dir(log), 0o755); err != nil {
		t.Fatal(err)
	}
	const old, line = "3,0,5,-;NVRM: Xid (PCI:0000:18:00): 79, before\n", "3,1,9,-;NVRM: Xid (PCI:0000:4f:00): 48, DBE\n"
	if err := os.WriteFile(log, []byte(old), 0o600); err != nil {
		t.Fatal(err)
	}
	r, done := BurnRunner(FS(root), acceptance.EngineCUDA, 0, nil)
	defer done()
	if r.Watch == nil {
		t.Fatal("the log is not watched")
	}
	f, err := os.OpenFile(log, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(line); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var got []burnin.Trouble
	r.Watch(ctx, func(tr burnin.Trouble) {
		got = append(got, tr)
		cancel()
	})
	if diff := cmp.Diff([]burnin.Trouble{{PCI: "0000:4f:00", Code: 48, Line: "NVRM: Xid (PCI:0000:4f:00): 48, DBE"}}, got); diff != "" {
		t.Error(diff)
	}
	if r, _ := BurnRunner(FS(t.TempDir()), acceptance.EngineCUDA, 0, nil); r.Watch != nil {
		t.Error("a log that is not there is watched")
	}
}

// A job's result holds the checks, the engine and all that was measured.
func TestBurnInJob(t *testing.T) {
	a := &Agent{FS: FS(t.TempDir()), Workers: func(acceptance.Engine) (burnin.Starter, error) { return burnin.InProcess, nil }}
	a.prepare()
	order := &api.BurnIn{Engine: "reference", GPUs: 2, Seed: 5, Stages: []api.BurnInStage{{Name: "gemm", Seconds: 0.2, Source: "a.hcl:3"}, {Name: "hbm_sweep"}}}
	r := a.work(t.Context(), api.Job{ID: "1", Kind: api.JobBurnIn, BurnIn: order})
	if r.Error != "" || r.BurnIn == nil || r.BurnIn.Engine != "reference" {
		t.Fatalf("%+v", r)
	}
	if v := (CheckReport{Checks: r.Checks}).Verdict(); v != pass {
		t.Errorf("%s: %+v", v, r.Checks)
	}
	var b burnin.Burn
	if err := json.Unmarshal(r.BurnIn.Data, &b); err != nil || len(b.Stages) != 2 || b.Seed != 5 || b.Planted {
		t.Errorf("data: %v, %+v", err, b)
	}
	a.Fault = &burnin.Fault{Kind: burnin.FaultNaN, GPU: 1, SM: 2}
	r = a.work(t.Context(), api.Job{ID: "2", Kind: api.JobBurnIn, BurnIn: order})
	if v := (CheckReport{Checks: r.Checks}).Verdict(); v != fail {
		t.Errorf("with a fault: %s: %+v", v, r.Checks)
	}
	if r := a.work(t.Context(), api.Job{ID: "3", Kind: api.JobBurnIn}); r.Error == "" {
		t.Error("a job without an order is carried out")
	}
	a.Fault, order.Fault = nil, &api.BurnInFault{Kind: string(burnin.FaultStuck), GPU: 0, SM: 1}
	r = a.work(t.Context(), api.Job{ID: "5", Kind: api.JobBurnIn, BurnIn: order})
	if v := (CheckReport{Checks: r.Checks}).Verdict(); v != fail {
		t.Errorf("with a fault ordered: %s: %+v", v, r.Checks)
	}
	order.Engine = "simulated"
	a.Workers = nil
	if r := a.work(t.Context(), api.Job{ID: "4", Kind: api.JobBurnIn, BurnIn: order}); r.Error == "" {
		t.Error("an engine that there is none of burns in")
	}
}

func TestCheckGPUs(t *testing.T) {
	eight := make([]burnin.GPU, 8)
	for declared, want := range map[int]acceptance.Verdict{8: acceptance.Pass, 9: acceptance.Fail, 7: acceptance.Fail, 0: acceptance.NotApplicable} {
		if got := CheckGPUs(eight, declared).Verdict; got != want {
			t.Errorf("8 found, %d declared: %s; want %s", declared, got, want)
		}
	}
	if got := CheckGPUs(nil, 0).Verdict; got != acceptance.NotRun {
		t.Errorf("no GPU: %s", got)
	}
}

// A burn-in by CUDA reads the GPUs with firstlight-gpu while that has them under
// load: here a program in its place tells of a replay that came meanwhile. It is
// found in PATH, as in a node's image.
func TestBurnInReadsGPUs(t *testing.T) {
	dir := t.TempDir()
	health := func(replays int64) string {
		g := burnin.HealthGPU{PCI: "0000:18:00.0", First: map[burnin.Quantity]burnin.Value{burnin.PCIeReplays: {Number: replays}, burnin.PCIeWidth: {Number: 8}, burnin.PCIeWidthMax: {Number: 16}}}
		raw, err := json.Marshal(burnin.Health{Version: burnin.HealthVersion, GPUs: []burnin.HealthGPU{g}})
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	// The load ends once it was read under load: when the reading after begins.
	script := `#!/bin/sh
cd ` + dir + `
if [ "$1" = health ]; then
	if [ -e before ]; then
		if [ -e under ]; then : >after; fi
		: >under
		echo '` + health(5) + `'
	else
		: >before
		echo '` + health(3) + `'
	fi
	exit
fi
read order
echo '{"kind":"ready","ready":{"engine":"cuda","device":"NVIDIA H200","pci":"0000:18:00.0"}}'
echo '{"kind":"sample","sample":{"temp":50}}'
while [ ! -e after ]; do sleep 0.05; done
echo '{"kind":"done"}'
`
	if err := os.WriteFile(filepath.Join(dir, gpuProgram), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	start, err := BurnWorkers(acceptance.EngineCUDA)
	if err != nil {
		t.Fatal(err)
	}
	r, done := BurnRunner(FS(t.TempDir()), acceptance.EngineCUDA, 0, start)
	defer done()
	r.GPUs, r.HealthEvery = []burnin.GPU{{PCI: "0000:18:00.0"}}, time.Nanosecond
	stages := []burnin.Stage{{Name: burnin.StageGEMM, Seconds: 1}}
	found := map[string]acceptance.Check{}
	for _, c := range burnin.Checks(stages, r.Run(t.Context(), stages, nil)) {
		found[c.Name] = c
	}
	for name, want := range map[string]acceptance.Check{
		"burn-in.health.pcie.replays": {Verdict: acceptance.Fail, Reading: "2 more (5 in all)", Part: "GPU 0 0000:18:00.0"},
		"burn-in.health.pcie.width":   {Verdict: acceptance.Fail, Reading: "8", Part: "GPU 0 0000:18:00.0"},
		"burn-in.health":              {Verdict: acceptance.Pass, Reading: "read before, under load (", Part: "GPUs"},
	} {
		if c := found[name]; c.Verdict != want.Verdict || !strings.HasPrefix(c.Reading, want.Reading) || c.Part != want.Part {
			t.Errorf("%s: %+v; want %+v", name, c, want)
		}
	}
	if c := found["burn-in.health.ecc.uncorrected"]; c.Verdict != acceptance.NotRun {
		t.Errorf("what was not told: %+v", c)
	}
}
