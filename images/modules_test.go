package images

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

// fakeModules is depmod's output for a small kernel.
func fakeModules() fstest.MapFS {
	file := func(lines ...string) *fstest.MapFile {
		return &fstest.MapFile{Data: []byte(strings.Join(lines, "\n") + "\n")}
	}
	return fstest.MapFS{
		"modules.dep": file(
			"kernel/net/nic-core.ko: kernel/lib/crc.ko kernel/lib/bits.ko",
			"kernel/net/my-nic.ko.xz: kernel/net/nic-core.ko kernel/lib/crc.ko kernel/lib/bits.ko",
			"kernel/lib/crc.ko: kernel/lib/bits.ko",
			"kernel/lib/bits.ko:",
			"kernel/crypto/sum_generic.ko:",
			"kernel/crypto/sum-fast.ko:",
			"kernel/other.ko:",
		),
		"modules.softdep": file("# comment", "softdep crc pre: sum post: other gone"),
		"modules.alias":   file("# comment", "alias pci:v00008086d* my_nic", "alias sum sum_generic", "alias sum sum_fast", "alias net-x other"),
		"modules.builtin": file("kernel/drivers/loop.ko"),
	}
}

func TestClosure(t *testing.T) {
	tree, err := readModuleTree(fakeModules())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		roots   string
		want    string
		missing string
	}{
		{roots: "bits", want: "bits"},
		{roots: "my_nic", want: "bits crc my_nic nic_core other sum_fast sum_generic"},
		{roots: "loop bits", want: "bits"},
		{roots: "absent bits", want: "bits", missing: "absent"},
		{roots: "sum_fast sum_fast", want: "sum_fast"},
	} {
		var roots []rootModule
		for _, r := range strings.Fields(c.roots) {
			roots = append(roots, rootModule{name: r})
		}
		names, missing, err := tree.closure(roots)
		var lacks []string
		for _, m := range missing {
			lacks = append(lacks, m.name)
		}
		if got := strings.Join(names, " "); got != c.want || strings.Join(lacks, " ") != c.missing || err != nil {
			t.Errorf("closure(%s) = %s, missing %v, %v; want %s, missing %s", c.roots, got, lacks, err, c.want, c.missing)
		}
	}
}

func TestModuleTreeSaysWhatIsWrong(t *testing.T) {
	for _, c := range []struct{ file, content, want string }{
		{"modules.dep", "kernel/a.ko kernel/b.ko\n", `modules.dep:1: no ':' in "kernel/a.ko kernel/b.ko"`},
		{"modules.dep", "# nothing\n", "modules.dep names no module"},
		{"modules.alias", "# ok\nalias x\n", `modules.alias:2: "alias x" is not an alias`},
		{"modules.softdep", "softdep a\n", `modules.softdep:1: "softdep a" is not a soft dependency`},
	} {
		dir := fakeModules()
		dir[c.file] = &fstest.MapFile{Data: []byte(c.content)}
		if _, err := readModuleTree(dir); err == nil || err.Error() != c.want {
			t.Errorf("readModuleTree with %s %q: error = %v; want %s", c.file, c.content, err, c.want)
		}
	}
	dir := fakeModules()
	delete(dir, "modules.builtin")
	if _, err := readModuleTree(dir); err == nil || !strings.Contains(err.Error(), "modules.builtin") {
		t.Errorf("readModuleTree without modules.builtin: error = %v", err)
	}
	dir = fakeModules()
	dir["modules.dep"] = &fstest.MapFile{Data: []byte("kernel/a.ko: kernel/gone.ko\n")}
	tree, err := readModuleTree(dir)
	if err != nil {
		t.Fatal(err)
	}
	const want = "module a depends on gone, which modules.dep does not have"
	if _, _, err := tree.closure([]rootModule{{name: "a"}}); err == nil || err.Error() != want {
		t.Errorf("closure of a torn modules.dep: error = %v; want %s", err, want)
	}
}

func TestFilterIndex(t *testing.T) {
	keep := map[string]bool{"my_nic": true, "crc": true}
	dir := fakeModules()
	for file, want := range map[string]string{
		"modules.dep": "kernel/net/my-nic.ko.xz: kernel/net/nic-core.ko kernel/lib/crc.ko kernel/lib/bits.ko\n" +
			"kernel/lib/crc.ko: kernel/lib/bits.ko\n",
		"modules.alias":   "alias pci:v00008086d* my_nic\n",
		"modules.softdep": "softdep crc pre: sum post: other gone\n",
	} {
		if diff := cmp.Diff(want, string(filterIndex(file, dir[file].Data, keep))); diff != "" {
			t.Errorf("filterIndex(%s) (-want +got):\n%s", file, diff)
		}
	}
}

func TestRootModulesGiveAReason(t *testing.T) {
	seen := map[string]bool{}
	for _, m := range rootModules {
		if m.why == "" || strings.Contains(m.name, "-") || seen[m.name] {
			t.Errorf("rootModules: %q has no reason, is named twice, or has '-' for '_'", m.name)
		}
		seen[m.name] = true
	}
}
