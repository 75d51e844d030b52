package main

import (
	"encoding/csv"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// planOf is the cable plan of an inventory, as CSV's rows without its header.
func planOf(t *testing.T, dir string) (raw string, rows [][]string) {
	t.Helper()
	raw, errs, code := inProcess(t, "fabric", "cables", "-o", "csv", dir)
	if code != 0 || errs != "" {
		t.Fatalf("fabric cables %s exits %d: %s", dir, code, errs)
	}
	rows, err := csv.NewReader(strings.NewReader(raw)).ReadAll()
	if err != nil || len(rows) == 0 {
		t.Fatalf("fabric cables %s: %d rows, %v", dir, len(rows), err)
	}
	if diff := cmp.Diff(csvColumns, rows[0]); diff != "" {
		t.Fatalf("header (-want +got):\n%s", diff)
	}
	return raw, rows[1:]
}

// ends are a row's devices and ports, as one text for each end.
func ends(row []string) (a, b string) {
	at := func(column string) string { return row[slices.Index(csvColumns, column)] }
	return at("a_device") + " " + at("a_port"), at("b_device") + " " + at("b_port")
}

// TestCablesAreUnique: the plan of 766 nodes has a row for each of its 18,416
// cables, and no end twice; every end has a place and every cable a length.
func TestCablesAreUnique(t *testing.T) {
	_, rows := planOf(t, "../../examples/abci3")
	if len(rows) != 6128+6144+6144 {
		t.Errorf("%d rows; want 18,416", len(rows))
	}
	seen := map[string]bool{}
	for _, row := range rows {
		a, b := ends(row)
		if seen[a] || seen[b] {
			t.Errorf("an end of %s - %s is there twice", a, b)
		}
		seen[a], seen[b] = true, true
		for i, cell := range row {
			if cell == "" {
				t.Errorf("%s - %s has no %s", a, b, csvColumns[i])
			}
		}
	}
}

// TestCablesAgain: a plan that is declared as cables, in the place of the
// topology that made it, gives the same cables.
func TestCablesAgain(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "site")
	if err := os.CopyFS(dir, withoutState{os.DirFS("../../examples/superpod-h200")}); err != nil {
		t.Fatal(err)
	}
	raw, before := planOf(t, dir)
	file := filepath.Join(dir, "fabric.hcl")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	again := regexp.MustCompile(`(?ms)^  topology .*?^  \}`).ReplaceAll(text, []byte(`  cables = csvdecode(file("cables.csv"))`))
	if string(again) == string(text) {
		t.Fatalf("%s has no topology", file)
	}
	for name, content := range map[string]string{"fabric.hcl": string(again), "cables.csv": raw} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	_, after := planOf(t, dir)
	list := func(rows [][]string) []string {
		var out []string
		for _, row := range rows {
			a, b := ends(row)
			out = append(out, a+" - "+b)
		}
		slices.Sort(out)
		return out
	}
	if diff := cmp.Diff(list(before), list(after)); diff != "" || len(after) != 2044 {
		t.Errorf("%d cables, want 2,044 (-topology +cables):\n%s", len(after), diff)
	}
}
