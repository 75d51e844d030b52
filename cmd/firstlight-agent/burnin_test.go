package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"firstlight/provision/acceptance"
)

// The workers of a burn-in are this program again: in tests, this binary.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "burn" {
		os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

func burn(t *testing.T, ctx context.Context, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(ctx, append([]string{"burnin"}, args...), nil, &out, &errs)
	return code, out.String(), errs.String()
}

func TestBurnIn(t *testing.T) {
	junit := filepath.Join(t.TempDir(), "junit.xml")
	code, stdout, stderr := burn(t, t.Context(), "-engine", "reference", "-gemm", "200ms", "-gpus", "2", "-json", "-junit", junit)
	if code != exitOK {
		t.Fatalf("burnin = %d, %s%s", code, stdout, stderr)
	}
	var report burninReport
	if err := json.Unmarshal([]byte(stdout), &report); err != nil {
		t.Fatal(err)
	}
	if report.Engine != acceptance.EngineReference || report.Notice == "" || report.Cover.FLOPs == 0 || report.Cover.Bytes == 0 || len(report.GPUs) != 2 {
		t.Errorf("burnin -json = %+v", report)
	}
	raw, err := os.ReadFile(junit)
	if err != nil {
		t.Fatal(err)
	}
	var suites struct {
		Tests    int `xml:"tests,attr"`
		Failures int `xml:"failures,attr"`
	}
	if err := xml.Unmarshal(raw, &suites); err != nil || suites.Tests != len(report.Checks) || suites.Failures != 0 {
		t.Errorf("JUnit: %v, %+v; want %d cases", err, suites, len(report.Checks))
	}
}

// A faulty GPU ends the command with 1, whatever the output, and is named.
func TestBurnInFails(t *testing.T) {
	fault := `{"kind":"bit-flip","gpu":1,"sm":3,"bit":20,"after":2}`
	for _, form := range []string{"-json", "-quiet"} {
		code, stdout, _ := burn(t, t.Context(), "-engine", "reference", "-gemm", "200ms", "-gpus", "2", "-plant", fault, form)
		if code != exitFail || !strings.Contains(stdout, "GPU 1, SM 3") || !strings.Contains(stdout, "XOR 00100000") {
			t.Errorf("burnin %s with a fault = %d, %s", form, code, stdout)
		}
	}
	if code, stdout, _ := burn(t, t.Context(), "-engine", "reference", "-gemm", "0", "-gpus", "1", "-plant", `{"kind":"crash"}`, "-soak", "1s"); code != exitFail || !strings.Contains(stdout, "ended without a word") {
		t.Errorf("burnin with a crash = %d, %s", code, stdout)
	}
}

// On a machine without a GPU, or without the program that drives it, nothing
// was run.
func TestBurnInNotRun(t *testing.T) {
	code, stdout, stderr := burn(t, t.Context(), "-gemm", "1s")
	if code != exitNotRun || !strings.Contains(stdout, "not-run") || !strings.Contains(stderr, "firstlight-gpu is not on this node") {
		t.Errorf("burnin = %d, %s%s", code, stdout, stderr)
	}
}

// What another program tells is told beside what was not run, and takes the place
// of none of it.
func TestBurnInAlso(t *testing.T) {
	dir := t.TempDir()
	script := "#!/bin/sh\necho '{\"nvbandwidth\": {\"version\": \"v0.8\", \"testcases\": [{\"name\": \"host_to_device_memcpy_ce\", \"status\": \"Passed\", \"bandwidth_matrix\": [[\"55.3\"]]}]}}'\n"
	if err := os.WriteFile(filepath.Join(dir, "nvbandwidth"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	code, stdout, _ := burn(t, t.Context(), "-gemm", "1s", "-json", "-also", "nvbandwidth,dcgmi:1")
	var report burninReport
	if err := json.Unmarshal([]byte(stdout), &report); err != nil {
		t.Fatal(err)
	}
	found := map[string]acceptance.Check{}
	for _, c := range report.Checks {
		found[c.Name] = c
	}
	if c := found["burn-in.also.nvbandwidth.h2d"]; code != exitNotRun || c.Reading != "55.3 GB/s by nvbandwidth v0.8" || found["burn-in.also.dcgmi"].Reading != "dcgmi is not on this node" || found["burn-in.gemm"].Verdict != acceptance.NotRun {
		t.Errorf("burnin -also = %d, %+v", code, report.Checks)
	}
}

// Ctrl-C stops it with a report; the same command goes on where it was.
func TestBurnInStops(t *testing.T) {
	state := filepath.Join(t.TempDir(), "burn.json")
	args := []string{"-engine", "reference", "-gemm", "0", "-hbm-sweep=false", "-soak", "1s", "-state", state}
	ctx, cancel := context.WithCancel(t.Context())
	go func() { // ends once a phase is kept
		for {
			if _, err := os.Stat(state); err == nil {
				cancel()
				return
			}
			time.Sleep(time.Millisecond)
		}
	}()
	code, stdout, stderr := burn(t, ctx, args...)
	if code != exitNotRun || !strings.Contains(stdout, "stopped before its end") || !strings.Contains(stderr, "goes on where it was") {
		t.Errorf("stopped: %d, %s%s", code, stdout, stderr)
	}
	if code, _, stderr := burn(t, t.Context(), append(args, "-gemm", "1s")...); code != exitFail || !strings.Contains(stderr, "holds another burn-in") {
		t.Errorf("resumed as another: %d, %s", code, stderr)
	}
	if code, stdout, stderr := burn(t, t.Context(), args...); code != exitOK {
		t.Errorf("resumed: %d, %s%s", code, stdout, stderr)
	}
}

func TestBurnInUsage(t *testing.T) {
	for want, args := range map[string][]string{
		"no engine is called":     {"-engine", "gpu"},
		"unknown argument":        {"now"},
		"nothing is left to do":   {"-gemm", "0", "-hbm-sweep=false"},
		"are positive":            {"-soak", "-1h"},
		"reference engine only":   {"-plant", "{}"},
		"flag provided but not":   {"-warp"},
		"no program is called":    {"-also", "gpu-burn"},
		"cuda engine only":        {"-engine", "reference", "-also", "nccl"},
		"unexpected end of JSON":  {"-engine", "reference", "-plant", "{"},
		"see firstlight-agent bu": {"-gpus", "many"},
	} {
		if code, stdout, stderr := burn(t, t.Context(), args...); code != exitUsage || stdout != "" || !strings.Contains(stderr, want) {
			t.Errorf("burnin %q = %d, %q, %q; want %q", args, code, stdout, stderr, want)
		}
	}
	if code, stdout, _ := burn(t, t.Context(), "-help"); code != exitOK || !strings.Contains(stdout, "examples:") {
		t.Errorf("burnin -help = %d, %q", code, stdout)
	}
}
