package images

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func specDir(t *testing.T, text string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, SpecFile), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "root"), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestReadSpec(t *testing.T) {
	for _, c := range []struct {
		text string
		want Spec
	}{
		{"", Spec{Kernel: DefaultKernel}},
		{"kernel = null\nfiles = null\n", Spec{Kernel: DefaultKernel}},
		{
			"kernel = \"linux-image-cloud-amd64\"\npackages = [\"busybox-static\", \"libc6=2.36-9+deb12u14\"]\nfiles = \"root\"\nargs = [\"quiet\"]\n",
			Spec{Kernel: "linux-image-cloud-amd64", Packages: []string{"busybox-static", "libc6=2.36-9+deb12u14"}, Files: "root", Args: []string{"quiet"}},
		},
	} {
		dir := specDir(t, c.text)
		if c.want.Files != "" {
			c.want.Files = filepath.Join(dir, c.want.Files)
		}
		got, diags := ReadSpec(dir)
		if diff := cmp.Diff(c.want, got); diff != "" || diags.HasErrors() {
			t.Errorf("ReadSpec(%q): %v (-want +got):\n%s", c.text, diags, diff)
		}
	}
}

func TestReadSpecDiagnostics(t *testing.T) {
	for _, c := range []struct {
		text string
		want []string // each: file:line,column and what the message says
	}{
		{"pakages = []\n", []string{`image.hcl:1,1-8: Unsupported argument; An argument named "pakages" is not expected here. Did you mean "packages"?`}},
		{"\n\nkernel = 5\n", []string{`image.hcl:3,10-11: Wrong type; A string is needed here, not number.`}},
		{"kernel = \"Linux Image\"\n", []string{`image.hcl:1,10-23: Not a package; "Linux Image"`}},
		{"packages = \"busybox\"\n", []string{`image.hcl:1,12-21: Wrong type; A list of strings`}},
		{"packages = [\"a b\", \"busybox-static\",\n  \"busybox-static\", 7]\n", []string{
			`image.hcl:1,13-18: Not a package; "a b"`,
			`image.hcl:2,3-19: Package named twice; Package "busybox-static"`,
			`image.hcl:2,21-22: Wrong type; A string is needed here, not number.`,
		}},
		{"kernel = 1\nfiles = \"../x\"\n", []string{
			`image.hcl:1,10-11: Wrong type`,
			`image.hcl:2,9-15: Files outside the source directory; "../x" must be a directory below`,
		}},
		{"files = \"none\"\n", []string{`image.hcl:1,9-15: No such directory; The files to lay over the packages: stat `}},
		{"files = \"image.hcl\"\n", []string{`image.hcl:1,9-20: No such directory;`}},
		{"args = [\"a b\", \"firstlight.node=x\"]\n", []string{
			`image.hcl:1,9-14: Not a kernel argument;`,
			`image.hcl:1,16-35: Reserved kernel argument;`,
		}},
		{"packages = [var.x]\n", []string{`image.hcl:1,13-16: Variables not allowed`}},
		{"kernel = \"x\n", []string{`image.hcl:1,12-`}},
		{"node {}\n", []string{`image.hcl:1,1-5: Unsupported block type`}},
	} {
		dir := specDir(t, c.text)
		_, diags := ReadSpec(dir)
		for i, want := range c.want {
			if i >= len(diags) || !strings.HasPrefix(diags[i].Error(), filepath.Join(dir, want)) {
				t.Errorf("ReadSpec(%q): diagnostics %q; want number %d to begin with %q", c.text, diags.Errs(), i, want)
			}
		}
	}
	_, diags := ReadSpec(t.TempDir())
	if !diags.HasErrors() || !strings.Contains(diags.Error(), "holds image.hcl: open ") {
		t.Errorf("ReadSpec of an empty directory: %v; want a diagnostic about image.hcl", diags)
	}
}
