package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"firstlight/provision/burnin"
)

func TestRun(t *testing.T) {
	cases := []struct {
		args    []string
		stdin   string
		code    int
		out     string
		problem string
	}{
		{args: []string{"--help"}, out: "usage: firstlight-gpu burn"},
		{args: nil, code: exitUsage, problem: "usage: firstlight-gpu burn"},
		{args: []string{"juggle"}, code: exitUsage, problem: "usage: firstlight-gpu burn"},
		{args: []string{"burn", "-help"}, out: "examples, for ten seconds"},
		{args: []string{"burn", "-speed", "9"}, code: exitUsage, problem: "flag provided but not defined"},
		{args: []string{"burn", "now"}, code: exitUsage, problem: "usage: firstlight-gpu burn"},
		{args: []string{"burn", "-patience", "0s"}, code: exitUsage, problem: "usage: firstlight-gpu burn"},
		{args: []string{"health", "-help"}, out: "usage: firstlight-gpu health"},
		{args: []string{"health", "-speed", "9"}, code: exitUsage, problem: "flag provided but not defined"},
		{args: []string{"health", "now"}, code: exitUsage, problem: "usage: firstlight-gpu health"},
		{args: []string{"health", "-interval", "0s"}, code: exitUsage, problem: "usage: firstlight-gpu health"},
		{args: []string{"burn"}, code: exitFail, out: `{"kind":"error"`, problem: "read order: EOF"},
		{args: []string{"burn"}, stdin: `{"version":1,"engine":"reference"}`, code: exitFail, out: `"error":"order for the reference engine`, problem: "reference engine"},
	}
	for _, c := range cases {
		var out, problem bytes.Buffer
		code := run(t.Context(), c.args, strings.NewReader(c.stdin), &out, &problem)
		if code != c.code || !strings.Contains(out.String(), c.out) || !strings.Contains(problem.String(), c.problem) {
			t.Errorf("%v: exit %d\n%s%s", c.args, code, &out, &problem)
		}
	}
}

// Whatever this machine has, there is a document that says what it could read.
func TestHealth(t *testing.T) {
	var out, progress bytes.Buffer
	if code := run(t.Context(), []string{"health", "-interval", "1ms"}, nil, &out, &progress); code != exitOK {
		t.Fatalf("health: exit %d\n%s", code, &progress)
	}
	var h burnin.Health
	if err := json.Unmarshal(out.Bytes(), &h); err != nil || h.Version != burnin.HealthVersion || h.Library == "" && h.Driver.Text == "" {
		t.Errorf("health: %v, %s; want a reading, or why there is none", err, &out)
	}
	if !strings.HasPrefix(progress.String(), "+ - dlopen\n- - dlopen\n") {
		t.Errorf("progress: %q; want it to begin with the library", &progress)
	}
}
