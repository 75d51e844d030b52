package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"firstlight/provision/agent"
)

func TestRunUsage(t *testing.T) {
	tests := []struct {
		args   []string
		code   int
		stdout string // part of it
		stderr string // part of it
	}{
		{nil, exitUsage, "", "usage: firstlight-agent inspect"},
		{[]string{"--help"}, exitOK, "examples:", ""},
		{[]string{"check", "--help"}, exitOK, "examples:", ""},
		{[]string{"version"}, exitOK, "firstlight-agent ", ""},
		{[]string{"inspct"}, exitUsage, "", `unknown verb "inspct"; see firstlight-agent --help`},
		{[]string{"check", "-yaml"}, exitUsage, "", `firstlight-agent check: flag provided but not defined: -yaml`},
		{[]string{"check", "now"}, exitUsage, "", `firstlight-agent check: unknown argument "now"`},
		{[]string{"check", "-gpus", "-1"}, exitUsage, "", "-gpus is a number of GPUs"},
		{[]string{"inspect", "-yaml"}, exitUsage, "", `firstlight-agent inspect: unknown argument "-yaml"`},
	}
	for _, tt := range tests {
		var stdout, stderr bytes.Buffer
		code := run(context.Background(), tt.args, nil, &stdout, &stderr)
		if code != tt.code || !strings.Contains(stdout.String(), tt.stdout) || !strings.Contains(stderr.String(), tt.stderr) {
			t.Errorf("run(%q) = %d, %q, %q; want %d, %q, %q", tt.args, code, stdout.String(), stderr.String(), tt.code, tt.stdout, tt.stderr)
		}
		if (tt.stdout == "" && stdout.Len() > 0) || (tt.stderr == "" && stderr.Len() > 0) {
			t.Errorf("run(%q) writes to the wrong stream: stdout %q, stderr %q", tt.args, stdout.String(), stderr.String())
		}
	}
}

// The machine that runs the test is inspected for real.
func TestRunInspect(t *testing.T) {
	var stdout, stderr bytes.Buffer
	if code := run(context.Background(), []string{"inspect", "-json"}, nil, &stdout, &stderr); code != exitOK {
		t.Fatalf("inspect -json = %d, %s", code, stderr.String())
	}
	var found struct {
		CPU    struct{ Threads int }
		Memory struct{ Total uint64 }
	}
	if err := json.Unmarshal(stdout.Bytes(), &found); err != nil {
		t.Fatal(err)
	}
	if found.CPU.Threads == 0 || found.Memory.Total == 0 {
		t.Errorf("inspect -json = %+v; want CPUs and memory", found)
	}
	stdout.Reset()
	if code := run(context.Background(), []string{"inspect"}, nil, &stdout, &stderr); code != exitOK || !strings.Contains(stdout.String(), "memory  ") {
		t.Errorf("inspect = %d, %q", code, stdout.String())
	}
}

func TestCheck(t *testing.T) {
	fs := t.TempDir()
	put := func(name, text string) {
		t.Helper()
		path := filepath.Join(fs, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var stdout, stderr bytes.Buffer
	if code := check(context.Background(), agent.FS(fs), []string{"-json"}, &stdout, &stderr); code != exitNotRun {
		t.Errorf("check of an empty machine = %d; want %d", code, exitNotRun)
	}
	put("run/firstlight/boot.json", `{"args":{"kind":"image","root":"sha256:aa","mac":"52:54:00:aa:00:01"},"root_digest":"sha256:bb"}`)
	stdout.Reset()
	if code := check(context.Background(), agent.FS(fs), []string{"-json"}, &stdout, &stderr); code != exitFail {
		t.Errorf("check with a wrong root digest = %d; want %d", code, exitFail)
	}
	var out agent.CheckReport
	if err := json.Unmarshal(stdout.Bytes(), &out); err != nil {
		t.Fatal(err)
	}
	last := out.Checks[len(out.Checks)-1]
	want := last
	want.Name, want.Verdict, want.Reading, want.Threshold = "image.root", "fail", "sha256:bb", "sha256:aa"
	if out.Engine != "node" || last != want {
		t.Errorf("check = engine %q, last %+v; want node, %+v", out.Engine, last, want)
	}
	stdout.Reset()
	if code := check(context.Background(), agent.FS(fs), nil, &stdout, &stderr); code != exitFail || !strings.Contains(stdout.String(), "image.root") {
		t.Errorf("check as text = %d, %q", code, stdout.String())
	}
	junit := filepath.Join(t.TempDir(), "junit.xml")
	if code := check(context.Background(), agent.FS(fs), []string{"-junit", junit}, &stdout, &stderr); code != exitFail {
		t.Errorf("check -junit = %d; want %d", code, exitFail)
	}
	if raw, err := os.ReadFile(junit); err != nil || !strings.Contains(string(raw), "image.root") || !strings.Contains(string(raw), "<failure") || !strings.Contains(string(raw), "<skipped") {
		t.Errorf("check -junit wrote %s, %v; want image.root to fail, and checks that were not run skipped", raw, err)
	}
	if code := check(context.Background(), agent.FS(fs), []string{"-junit", filepath.Join(fs, "none", "x")}, &stdout, &stderr); code != exitFail {
		t.Errorf("check -junit into no directory = %d; want %d", code, exitFail)
	}
	// A GPU that is declared, and nothing to ask about it.
	stdout.Reset()
	check(context.Background(), agent.FS(fs), []string{"-gpus", "8"}, &stdout, &stderr)
	if !strings.Contains(stdout.String(), "gpu.driver") || strings.Contains(stdout.String(), "pass  gpu.") {
		t.Errorf("check -gpus 8 without GPUs: %s", stdout.String())
	}
	put("run/firstlight/boot.json", "{")
	if code := check(context.Background(), agent.FS(fs), nil, &stdout, &stderr); code != exitFail || !strings.Contains(stderr.String(), "boot.json: unexpected end of JSON input") {
		t.Errorf("check with a torn boot.json = %d, %q", code, stderr.String())
	}
}
