package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"firstlight/images"
)

// TestValidateImageDigest: a pinned digest is held against the one that the
// image's source gave when it was built.
func TestValidateImageDigest(t *testing.T) {
	dir := t.TempDir()
	store := images.Store{Dir: filepath.Join(dir, ".firstlight", "images")}
	kernel, err := store.Put(strings.NewReader("a kernel"))
	if err != nil {
		t.Fatal(err)
	}
	m := images.Manifest{Name: "compute", Kind: "image", KernelRelease: "6.1.0", Kernel: kernel, Initramfs: kernel, Inputs: kernel.Digest}
	if err := store.PutManifest(m); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "image"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ digest, want string }{
		{m.Digest(), ""},
		{"sha256:" + strings.Repeat("0", 64), m.Digest()},
	} {
		text := fmt.Sprintf("image \"compute\" {\n  source = \"./image\"\n  digest = %q\n}\n", c.digest)
		if err := os.WriteFile(filepath.Join(dir, "images.hcl"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		out, errs, code := inProcess(t, "validate", dir)
		if code != 0 || !strings.Contains(out, "is valid") {
			t.Errorf("validate with digest %s: exit status %d, %s%s", c.digest, code, out, errs)
		}
		if said := strings.Contains(strings.Join(strings.Fields(errs), " "), "images.hcl line 3"); said != (c.want != "") || !strings.Contains(errs, c.want) {
			t.Errorf("validate with digest %s says %q; want %q named", c.digest, errs, c.want)
		}
	}
}
