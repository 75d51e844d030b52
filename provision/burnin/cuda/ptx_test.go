package cuda

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// What is committed is what the sources give, byte for byte.
func TestPTXRebuilds(t *testing.T) {
	if _, err := exec.LookPath("clang-19"); err != nil {
		t.Skip("needs clang-19")
	}
	dir := t.TempDir()
	cmd := exec.Command("make", "-s", "-o", "ptx-deps", "ptx", "PTX="+dir)
	cmd.Dir = "../../.."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("make ptx: %v\n%s", err, out)
	}
	made, err := filepath.Glob(filepath.Join(dir, "*.ptx"))
	if err != nil || len(made) == 0 {
		t.Fatalf("make ptx made nothing: %v", err)
	}
	for _, path := range made {
		now, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		then, err := os.ReadFile(filepath.Join("kernels", filepath.Base(path)))
		if err != nil || !bytes.Equal(now, then) {
			t.Errorf("kernels/%s is not what its source gives (%v): run make ptx and commit it", filepath.Base(path), err)
		}
	}
	committed, _ := filepath.Glob("kernels/*.ptx")
	if len(committed) != len(made) {
		t.Errorf("%d files of PTX are committed, and %d are made", len(committed), len(made))
	}
}

var (
	target = regexp.MustCompile(`(?m)^\.target (sm_\w+)`)
	spills = regexp.MustCompile(`(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads`)
)

// The PTX assembles, without spills and without a kernel whose asynchronous
// products the assembler has to serialize.
func TestPTXAssembles(t *testing.T) {
	ptxas := os.Getenv("FIRSTLIGHT_TEST_PTXAS")
	if ptxas == "" {
		var err error
		if ptxas, err = exec.LookPath("ptxas"); err != nil {
			t.Skip("needs ptxas: make ptxas gets it, or FIRSTLIGHT_TEST_PTXAS names one")
		}
	}
	all, _ := filepath.Glob("kernels/*.ptx")
	for _, path := range all {
		code, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		own := string(target.FindSubmatch(code)[1])
		for _, arch := range slices.Compact([]string{own, "sm_90a"}) { // the H200's
			out, err := exec.Command(ptxas, "-v", "-arch="+arch, "-o", os.DevNull, path).CombinedOutput()
			if err != nil {
				t.Errorf("%s for %s: %v\n%s", path, arch, err, out)
				continue
			}
			kernels := spills.FindAllStringSubmatch(string(out), -1)
			if len(kernels) == 0 {
				t.Errorf("%s for %s: the assembler says nothing of spills:\n%s", path, arch, out)
			}
			for _, k := range kernels {
				if slices.ContainsFunc(k[1:], func(n string) bool { return n != "0" }) {
					t.Errorf("%s for %s: %s", path, arch, k[0])
				}
			}
			if strings.Contains(string(out), "serialized") {
				t.Errorf("%s for %s: %s", path, arch, out)
			}
		}
	}
}
