package inventory

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/hcl/v2"
)

// noEnv is an environment without variables.
func noEnv(string) (string, bool) { return "", false }

// text renders diagnostics as a person would see them.
func text(t *testing.T, src *Source, diags hcl.Diagnostics) string {
	t.Helper()
	var buf bytes.Buffer
	if err := src.WriteText(&buf, diags, false, 0); err != nil {
		t.Fatal(err)
	}
	return buf.String()
}

// write makes a configuration directory.
func write(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, body := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(body), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestExamples(t *testing.T) {
	tests := []struct {
		name                        string
		nodes, cables, hcas, warned int
	}{
		{name: "two-node-lab", nodes: 2},
		{name: "h200-rack", nodes: 8, cables: 64, hcas: 8, warned: 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, src, diags := Load(filepath.Join("..", "examples", tt.name), Options{Env: noEnv})
			if c == nil || diags.HasErrors() {
				t.Fatalf("Load(%s):\n%s", tt.name, text(t, src, diags))
			}
			if got := len(diags); got != tt.warned {
				t.Errorf("Load(%s) gave %d warnings; want %d:\n%s", tt.name, got, tt.warned, text(t, src, diags))
			}
			if got := len(c.Nodes); got != tt.nodes {
				t.Errorf("%s has %d nodes; want %d", tt.name, got, tt.nodes)
			}
			if got := len(c.Nodes[0].Hardware.HCAs); got != tt.hcas {
				t.Errorf("%s has %d HCAs a node; want %d", tt.name, got, tt.hcas)
			}
			if f := c.Fabrics["compute"]; tt.cables > 0 && (f == nil || len(f.Cables) != tt.cables) {
				t.Errorf("%s: fabric %+v; want %d cables", tt.name, f, tt.cables)
			}
		})
	}
}

// TestCanonical holds the examples and the starter to the canonical layout.
func TestCanonical(t *testing.T) {
	files, err := filepath.Glob("../examples/*/*.hcl")
	if err != nil || len(files) < 4 {
		t.Fatalf("found %d example files, %v", len(files), err)
	}
	more, _ := filepath.Glob("starter/*.hcl")
	for _, file := range append(files, more...) {
		src, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		got, diags := Format(src, file)
		if diags.HasErrors() || !bytes.Equal(got, src) {
			t.Errorf("Format(%s) changes it, %v; want it canonical", file, diags)
		}
	}
}
