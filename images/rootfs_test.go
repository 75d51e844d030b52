package images

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// debTree is a tree with what a package's tar holds.
func debTree(t *testing.T, pkg string, headers ...tar.Header) (tree, error) {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, h := range headers {
		h.Size = 0
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(h.Name))
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := io.WriteString(w, h.Name); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	tr := tree{}
	return tr, tr.addTar(tar.NewReader(&buf), deb{name: pkg})
}

func TestTreeMergesUsr(t *testing.T) {
	tr, err := debTree(t, "p",
		tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755},
		tar.Header{Name: "./bin/", Typeflag: tar.TypeDir, Mode: 0o755},
		tar.Header{Name: "./bin/tool", Typeflag: tar.TypeReg, Mode: 0o4755},
		tar.Header{Name: "./bin/same", Typeflag: tar.TypeLink, Linkname: "./bin/tool"},
		tar.Header{Name: "./bin/shadow", Typeflag: tar.TypeReg, Mode: 0o6755, Gid: 42},
		tar.Header{Name: "./usr/bin/link", Typeflag: tar.TypeSymlink, Linkname: "tool"},
		tar.Header{Name: "./lib64/ld.so", Typeflag: tar.TypeReg, Mode: 0o755},
	)
	if err != nil {
		t.Fatal(err)
	}
	if err := tr.addParents(); err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	if err := tr.writeTar(&buf); err != nil {
		t.Fatal(err)
	}
	var got []string
	for r := tar.NewReader(&buf); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%s %o %s%s %d", h.Name, h.Mode, data, h.Linkname, h.ModTime.Unix()))
	}
	want := []string{
		"usr/ 755  0", "usr/bin/ 755  0", "usr/bin/link 0 tool 0", "usr/bin/same 4755 ./bin/tool 0", "usr/bin/shadow 4755 ./bin/shadow 0",
		"usr/bin/tool 4755 ./bin/tool 0", "usr/lib64/ 755  0", "usr/lib64/ld.so 755 ./lib64/ld.so 0",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("tree (-want +got):\n%s", diff)
	}
}

func TestTreeRefusesConflicts(t *testing.T) {
	file := tar.Header{Name: "./etc/x", Typeflag: tar.TypeReg, Mode: 0o644}
	tr, err := debTree(t, "one", file)
	if err != nil {
		t.Fatal(err)
	}
	const want = "/etc/x is a directory in one of package one and two and not in the other"
	if err := tr.add(entry{name: "etc/x", kind: tar.TypeDir, from: "two"}); err == nil || err.Error() != want {
		t.Errorf("add a directory over a file: error = %v; want %s", err, want)
	}
	if err := tr.add(entry{name: "etc/x/y", kind: tar.TypeReg, from: "two"}); err != nil {
		t.Fatal(err)
	}
	const under = "two brings /etc/x/y, but /etc/x of package one is not a directory"
	if err := tr.addParents(); err == nil || err.Error() != under {
		t.Errorf("addParents: error = %v; want %s", err, under)
	}
	if _, err := debTree(t, "p", tar.Header{Name: "./a", Typeflag: tar.TypeLink, Linkname: "./b"}); err == nil || !strings.Contains(err.Error(), "is a hard link to ./b, which is not in the package") {
		t.Errorf("hard link to nothing: error = %v", err)
	}
}

func TestOverlay(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, mode os.FileMode) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(name), mode); err != nil {
			t.Fatal(err)
		}
	}
	write("etc/motd", 0o600)
	write("bin/hello", 0o700)
	if err := os.Symlink("motd", filepath.Join(dir, "etc/issue")); err != nil {
		t.Fatal(err)
	}
	overlay, err := readOverlay(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range overlay {
		got = append(got, fmt.Sprintf("%s %o %s%s", e.name, e.mode, e.data, e.link))
	}
	want := []string{"bin 755 ", "bin/hello 755 bin/hello", "etc 755 ", "etc/issue 777 motd", "etc/motd 644 etc/motd"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("readOverlay (-want +got):\n%s", diff)
	}
	tr, err := rootTree(context.Background(), &job{name: "compute", agent: []byte("agent"), overlay: overlay}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"usr/bin/hello": "bin/hello", "bin": "usr/bin", "sbin": "usr/sbin", "usr/sbin/init": "/usr/bin/firstlight-agent",
		"usr/bin/firstlight-agent": "agent", "etc/motd": "etc/motd",
	} {
		if e := tr[name]; string(e.data)+e.link != want {
			t.Errorf("/%s = %q%q; want %q", name, e.data, e.link, want)
		}
	}
	if !strings.Contains(string(tr["usr/lib/os-release"].data), "IMAGE_ID=compute\n") {
		t.Errorf("os-release = %q; want it to name the image", tr["usr/lib/os-release"].data)
	}

	bad := []entry{{name: "sbin/init", kind: tar.TypeReg, from: dir}}
	if _, err := rootTree(context.Background(), &job{overlay: bad}, nil); err == nil || !strings.Contains(err.Error(), "brings /sbin/init, which must be the agent") {
		t.Errorf("an overlay with /sbin/init: error = %v", err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, "socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := readOverlay(dir); err == nil || !strings.Contains(err.Error(), "socket is a S---------: only files, directories and symlinks") {
		t.Errorf("an overlay with a socket: error = %v", err)
	}
}
