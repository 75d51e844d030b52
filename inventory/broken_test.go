package inventory

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "rewrite golden files")

// TestBroken loads the inventories of testdata/broken, each with one mistake,
// and of testdata/broken/several, together with testdata/base.hcl. The archive's
// file "want" is all that a person is told.
func TestBroken(t *testing.T) {
	for dir, least := range map[string]int{"testdata/broken": 60, "testdata/broken/several": 10} {
		archives, err := filepath.Glob(dir + "/*.txtar")
		if err != nil || len(archives) < least {
			t.Fatalf("found %d inventories in %s, %v; want %d or more", len(archives), dir, err, least)
		}
		t.Run(filepath.Base(dir), func(t *testing.T) { testBroken(t, archives, dir != "testdata/broken") })
	}
}

func testBroken(t *testing.T, archives []string, several bool) {
	base, err := os.ReadFile("testdata/base.hcl")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range archives {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			ar, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			files := map[string]string{"base.hcl": string(base), "image/image.hcl": ""}
			want, at := "", -1
			for i, f := range ar.Files {
				if f.Name == "want" {
					want, at = string(f.Data), i
					continue
				}
				files[f.Name] = string(f.Data)
			}
			dir := write(t, files)
			c, src, diags := Load(dir, Options{Env: noEnv})
			if c != nil && diags.HasErrors() {
				t.Error("Load gave a cluster and errors")
			}
			got := strings.ReplaceAll(text(t, src, diags), dir+string(filepath.Separator), "")
			if n := len(diags); n == 0 || (n > 1) != several {
				t.Errorf("Load reports %d mistakes:\n%s", n, got)
			}
			if *update {
				if at < 0 {
					ar.Files = append(ar.Files, txtar.File{Name: "want"})
					at = len(ar.Files) - 1
				}
				ar.Files[at].Data = []byte(got)
				if err := os.WriteFile(path, txtar.Format(ar), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("diagnostics of %s (-want +got):\n%s", path, diff)
			}
		})
	}
}
