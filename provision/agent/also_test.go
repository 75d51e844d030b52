package agent

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"firstlight/provision/acceptance"
	"firstlight/provision/burnin"
)

// other writes a program in place of dcgmi, alone in PATH beside the shell.
func other(t *testing.T, script string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "dcgmi"), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return dir
}

func dcgmi(t *testing.T) []burnin.Also {
	t.Helper()
	programs, err := burnin.ParseAlso("dcgmi:1", 8)
	if err != nil {
		t.Fatal(err)
	}
	return programs
}

func TestRunAlso(t *testing.T) {
	const well = `{"DCGM Diagnostic": {"test_categories": [{"tests": [{"name": "software", "results": [{"entity_id": 0, "status": "Pass"}]}]}]}, "metadata": {"version": "4.2.3"}}`
	failed := []acceptance.Check{{Name: "burn-in.gemm", Verdict: acceptance.Fail}}
	cases := []struct {
		name, script string
		own          []acceptance.Check
		verdict      acceptance.Verdict
		reading      string // of the first
	}{
		{"well", `[ "$*" = "diag -r 1 -j" ] && [ "$CUDA_DEVICE_ORDER" = PCI_BUS_ID ] && echo '` + well + `'`, nil, acceptance.Pass, "dcgmi 4.2.3, 1 results"},
		{"failing", `echo '` + strings.Replace(well, "Pass", "Fail", 1) + `'; exit 226`, nil, acceptance.Fail, "dcgmi 4.2.3, 1 results"},
		{"no service", `echo "Error: unable to establish a connection" >&2; exit 255`, nil, acceptance.NotRun, "dcgmi: exit status 255: Error: unable to establish a connection"},
		{"after a failure of our own", "echo '" + well + "'", failed, acceptance.NotRun, "not begun: the burn-in itself failed"},
		{"babbling without end", "head -c 9000000 /dev/zero", nil, acceptance.NotRun, "what it printed is no result: it has no JSON object"},
	}
	for _, tt := range cases {
		other(t, tt.script)
		checks := RunAlso(t.Context(), dcgmi(t), tt.own, "")
		if v := (acceptance.Evidence{Checks: checks}).Verdict(); v != tt.verdict || checks[0].Reading != tt.reading {
			t.Errorf("%s: %s, %+v", tt.name, v, checks)
		}
	}
	t.Setenv("PATH", t.TempDir())
	if checks := RunAlso(t.Context(), dcgmi(t), nil, ""); len(checks) != 1 || checks[0].Verdict != acceptance.NotRun || checks[0].Reading != "dcgmi is not on this node" {
		t.Errorf("absent: %+v", checks)
	}
}

// One that hangs is ended at its limit with all that it started, and so is one
// when the burn-in is stopped.
func TestRunAlsoHangs(t *testing.T) {
	dir := other(t, "cd ${0%/*}; sleep 1000 & echo $! >child; echo waiting >&2; mv child begun; wait")
	begun := filepath.Join(dir, "begun")
	programs := dcgmi(t)
	programs[0].Limit = 100 * time.Millisecond
	if checks := RunAlso(t.Context(), programs, nil, ""); checks[0].Verdict != acceptance.NotRun || !strings.HasPrefix(checks[0].Reading, "dcgmi: it was not done after 100ms") {
		t.Errorf("at its limit: %+v", checks)
	}
	os.Remove(begun) // there only if it came that far
	programs[0].Limit = time.Hour
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { // ends once it has begun
		for ctx.Err() == nil {
			if _, err := os.Stat(begun); err == nil {
				cancel()
			}
			time.Sleep(time.Millisecond)
		}
	}()
	if checks := RunAlso(ctx, programs, nil, ""); checks[0].Verdict != acceptance.NotRun || checks[0].Reading != "dcgmi: it was stopped: waiting" {
		t.Errorf("stopped: %+v", checks)
	}
	pid, err := os.ReadFile(begun)
	if err != nil {
		t.Fatal(err)
	}
	for stat := filepath.Join("/proc", strings.TrimSpace(string(pid)), "stat"); ; time.Sleep(10 * time.Millisecond) {
		raw, err := os.ReadFile(stat)
		if err != nil || strings.Contains(string(raw), ") Z ") {
			break // gone, or dead and not yet reaped
		}
		if t.Context().Err() != nil {
			t.Fatal("its child lives on")
		}
	}
	if checks := RunAlso(ctx, programs, nil, ""); checks[0].Reading != "not begun: the burn-in was stopped" {
		t.Errorf("after that: %+v", checks)
	}
}
