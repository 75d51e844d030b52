package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"firstlight/inventory"
	"firstlight/provision"
)

// exampleNodes is how many nodes each example declares.
var exampleNodes = map[string]int{
	"two-node-lab": 2, "h200-rack": 8, "abci3": 766, "kisti6": 2084 + 20, "korea-h200": 255, "superpod-h200": 127, "sakuraone": 100,
}

// TestExamples: every example is in canonical form, valid without a complaint
// but of the password that it does not hold, plans all its nodes, and says what
// it is in 40 lines.
func TestExamples(t *testing.T) {
	dirs, err := filepath.Glob("../../examples/*/*.hcl")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, file := range dirs {
		dir := filepath.Dir(file)
		if seen[dir] {
			continue
		}
		seen[dir] = true
		t.Run(filepath.Base(dir), func(t *testing.T) { testExample(t, dir) })
	}
	if len(seen) != len(exampleNodes) {
		t.Errorf("found %d examples; want %d", len(seen), len(exampleNodes))
	}
}

func testExample(t *testing.T, dir string) {
	if out, errs, code := inProcess(t, "fmt", "-check", dir); code != 0 {
		t.Errorf("fmt -check: exit status %d: %s%s", code, out, errs)
	}
	out, errs, code := inProcess(t, "validate", "-json", dir)
	var found struct{ Diagnostics []inventory.Diagnostic }
	if err := json.Unmarshal([]byte(out), &found); err != nil || code != 0 {
		t.Fatalf("validate: exit status %d, %v: %s%s", code, err, out, errs)
	}
	for _, d := range found.Diagnostics {
		if d.Summary != "No value for password" {
			t.Errorf("validate: %s:%d: %s: %s", d.File, d.Line, d.Summary, d.Detail)
		}
	}
	// A copy, for whoever runs this may have brought the example up.
	clean := t.TempDir()
	if err := os.CopyFS(clean, withoutState{os.DirFS(dir)}); err != nil {
		t.Fatal(err)
	}
	out, errs, code = inProcess(t, "plan", "-json", clean)
	var plan provision.Plan
	if err := json.Unmarshal([]byte(out), &plan); err != nil || code != 0 {
		t.Fatalf("plan: exit status %d, %v: %s%s", code, err, out, errs)
	}
	if want := exampleNodes[filepath.Base(dir)]; plan.Summary.BringUp != want || len(plan.Nodes) != want {
		t.Errorf("plan brings up %d of %d nodes; want %d", plan.Summary.BringUp, len(plan.Nodes), want)
	}
	readme, err := os.ReadFile(filepath.Join(dir, "README.md"))
	if n := strings.Count(string(readme), "\n"); err != nil || n > 40 {
		t.Errorf("README.md: %d lines, %v; want at most 40", n, err)
	}
}
