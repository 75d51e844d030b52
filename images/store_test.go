package images

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"firstlight/provision/agent/api"
)

// files lists every file below dir.
func files(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(dir, p)
			out = append(out, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func put(t *testing.T, s Store, content string) Blob {
	t.Helper()
	b, err := s.Put(strings.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// putImage stores a small image.
func putImage(t *testing.T, s Store, name, kernel string) Manifest {
	t.Helper()
	m := Manifest{Name: name, Kind: api.BootBringUp, Kernel: put(t, s, kernel), Initramfs: put(t, s, "initramfs"), Inputs: digestPrefix + strings.Repeat("0", 64)}
	if err := s.PutManifest(m); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestPutNamesContentByItsDigest(t *testing.T) {
	s := Store{Dir: t.TempDir()}
	got := put(t, s, "hello")
	want := Blob{Digest: "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824", Size: 5}
	if got != want {
		t.Fatalf("Put(hello) = %+v; want %+v", got, want)
	}
	f, err := s.Open(got.Digest)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	// One who reads is not disturbed when the blob is put again or pruned.
	put(t, s, "hello")
	if _, err := s.Prune(nil, 0); err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(f)
	if string(data) != "hello" || err != nil {
		t.Errorf("read after Prune = %q, %v; want hello", data, err)
	}
	if _, err := s.Open(got.Digest); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open after Prune: error = %v; want fs.ErrNotExist", err)
	}
}

func TestOpenRefusesWhatIsNoDigest(t *testing.T) {
	s := Store{Dir: t.TempDir()}
	for _, d := range []string{"", "sha256:", "sha256:../../etc/passwd", strings.Repeat("a", 64), "sha256:" + strings.Repeat("A", 64), "md5:" + strings.Repeat("a", 64)} {
		if _, err := s.Open(d); err == nil || !strings.Contains(err.Error(), "is not of the form sha256:") {
			t.Errorf("Open(%q): error = %v; want one about its form", d, err)
		}
	}
}

func TestFailedPutLeavesNothing(t *testing.T) {
	s := Store{Dir: t.TempDir()}
	broken := errors.New("the cable was pulled")
	_, err := s.Put(io.MultiReader(strings.NewReader("half"), iotest.ErrReader(broken)))
	if !errors.Is(err, broken) {
		t.Errorf("Put: error = %v; want %v", err, broken)
	}
	if got := files(t, s.Dir); len(got) != 0 {
		t.Errorf("after a failed Put the catalogue holds %q; want nothing", got)
	}
}

func TestFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount a small file system")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=256k"); err != nil {
		t.Skip("needs mount: ", err)
	}
	defer func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	}()
	s := Store{Dir: dir}
	m := putImage(t, s, "compute", "kernel")
	before := files(t, dir)
	_, err := s.Put(bytes.NewReader(make([]byte, 1<<20)))
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), dir) {
		t.Errorf("Put on a full disk: error = %v; want ENOSPC naming %s", err, dir)
	}
	if diff := cmp.Diff(before, files(t, dir)); diff != "" {
		t.Errorf("a failed Put changed the catalogue (-before +after):\n%s", diff)
	}
	if err := s.Verify(context.Background(), m.Name); err != nil {
		t.Errorf("Verify after a full disk: %v", err)
	}
}

func TestManifestDigestIsStable(t *testing.T) {
	m := Manifest{
		Name: "compute", Kind: api.BootImage, KernelRelease: "6.1.0-56-amd64",
		Kernel:    Blob{Digest: digestPrefix + strings.Repeat("a", 64), Size: 8},
		Initramfs: Blob{Digest: digestPrefix + strings.Repeat("b", 64), Size: 9},
		Root:      &Blob{Digest: digestPrefix + strings.Repeat("c", 64), Size: 10},
		Args:      []string{"console=ttyS0"},
		Sources:   map[string]string{"b": "2", "a": "1"},
		Inputs:    digestPrefix + strings.Repeat("d", 64),
	}
	// Digests are recorded in journals and reports: this one may not change.
	const want = "sha256:c2f5162043a0886d4c5354adcd6dee31dd568539cb54f70d81db49a6fa268ada"
	if got := m.Digest(); got != want {
		t.Errorf("Digest() = %s; want %s\nof %s", got, want, m.canonical())
	}
}

func TestManifestsAreFoundByNameAndDigest(t *testing.T) {
	s := Store{Dir: t.TempDir()}
	old := putImage(t, s, "compute", "old kernel")
	now := putImage(t, s, "compute", "new kernel")
	other := putImage(t, s, "a-first", "new kernel")
	got, err := s.Manifest("compute")
	if diff := cmp.Diff(now, got); diff != "" || err != nil {
		t.Errorf("Manifest(compute): %v (-want +got):\n%s", err, diff)
	}
	got, err = s.ByDigest(old.Digest())
	if diff := cmp.Diff(old, got); diff != "" || err != nil {
		t.Errorf("ByDigest(old): %v (-want +got):\n%s", err, diff)
	}
	list, err := s.List()
	if diff := cmp.Diff([]Manifest{other, now}, list); diff != "" || err != nil {
		t.Errorf("List: %v (-want +got):\n%s", err, diff)
	}
	if _, err := s.Manifest("nothing"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Manifest(nothing): error = %v; want fs.ErrNotExist", err)
	}
	if _, err := s.Manifest("../compute"); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Manifest(../compute): error = %v; want one about the name", err)
	}
	absent := Manifest{Name: "x", Kind: api.BootImage, Kernel: Blob{Digest: digestPrefix + strings.Repeat("e", 64)}, Initramfs: now.Initramfs}
	if err := s.PutManifest(absent); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("PutManifest without its kernel: error = %v; want fs.ErrNotExist", err)
	}
}

func TestVerifyNamesTheCorruptBlob(t *testing.T) {
	s := Store{Dir: t.TempDir()}
	m := putImage(t, s, "compute", "kernel")
	ctx := context.Background()
	if err := s.Verify(ctx, "compute"); err != nil {
		t.Fatalf("Verify of an intact image: %v", err)
	}
	path, err := s.Path(m.Kernel.Digest)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("kernex"), 0o644); err != nil {
		t.Fatal(err)
	}
	found, err := digestOf(strings.NewReader("kernex"))
	if err != nil {
		t.Fatal(err)
	}
	err = s.Verify(ctx, "compute")
	var corrupt *CorruptError
	if !errors.As(err, &corrupt) {
		t.Fatalf("Verify of a corrupt kernel: error = %v; want a CorruptError", err)
	}
	if diff := cmp.Diff(&CorruptError{File: path, Want: m.Kernel.Digest, Got: found.Digest}, corrupt); diff != "" {
		t.Errorf("CorruptError (-want +got):\n%s", diff)
	}
	put(t, s, "kernel")
	if err := s.Verify(ctx, "compute"); err != nil {
		t.Errorf("Verify after the blob was put again: %v", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := s.Verify(ctx, "compute"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Verify without the kernel: error = %v; want fs.ErrNotExist", err)
	}
	bad := filepath.Join(s.Dir, "manifests", "compute.json")
	if err := os.WriteFile(bad, []byte(`{"name":"compute"`), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := s.Verify(ctx, "compute"); err == nil || !strings.Contains(err.Error(), bad) {
		t.Errorf("Verify of a torn manifest: error = %v; want one that names %s", err, bad)
	}
}

func TestPrune(t *testing.T) {
	s := Store{Dir: t.TempDir()}
	kept := putImage(t, s, "compute", "kept kernel")
	gone := putImage(t, s, "compute", "gone kernel")
	now := putImage(t, s, "compute", "kernel")
	put(t, s, "garbage")
	p, err := s.Prune([]string{kept.Digest()}, time.Hour)
	if p.Files != 0 || err != nil {
		t.Errorf("Prune of young files = %+v, %v; want none removed", p, err)
	}
	p, err = s.Prune([]string{kept.Digest()}, 0)
	// The manifest and the kernel that are gone, and the garbage.
	want := Pruned{Files: 3, Bytes: int64(len(gone.canonical()) + len("gone kernel") + len("garbage"))}
	if p != want || err != nil {
		t.Errorf("Prune = %+v, %v; want %+v", p, err, want)
	}
	if _, err := s.ByDigest(gone.Digest()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("ByDigest of a pruned manifest: error = %v; want fs.ErrNotExist", err)
	}
	for _, m := range []Manifest{kept, now} {
		if err := s.verify(context.Background(), m); err != nil {
			t.Errorf("after Prune: %v", err)
		}
	}
}

// TestKilledWriter kills a process in the middle of Put: the catalogue stays
// whole, and Prune removes what was left.
func TestKilledWriter(t *testing.T) {
	const env = "FIRSTLIGHT_TEST_PUT_FOREVER"
	if dir := os.Getenv(env); dir != "" {
		_, err := Store{Dir: dir}.Put(io.MultiReader(strings.NewReader("some"), iotest.OneByteReader(neverEnding{})))
		t.Fatal("Put of an endless stream ended: ", err)
	}
	s := Store{Dir: t.TempDir()}
	m := putImage(t, s, "compute", "kernel")
	before := files(t, s.Dir)
	child := exec.Command(os.Args[0], "-test.run=^TestKilledWriter$")
	child.Env = append(os.Environ(), env+"="+s.Dir)
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); len(files(t, s.Dir)) == len(before); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Error("the child wrote nothing")
			break
		}
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait() // "signal: killed" is what is wanted
	left := files(t, s.Dir)
	if len(left) != len(before)+1 {
		t.Errorf("after the kill the catalogue holds %q; want one file more than %q", left, before)
	}
	if list, err := s.List(); len(list) != 1 || err != nil {
		t.Errorf("List after the kill = %v, %v; want the one image", list, err)
	}
	if err := s.Verify(context.Background(), m.Name); err != nil {
		t.Errorf("Verify after the kill: %v", err)
	}
	if _, err := s.Prune(nil, 0); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, files(t, s.Dir)); diff != "" {
		t.Errorf("after Prune (-want +got):\n%s", diff)
	}
}

// neverEnding yields zeros, slowly enough not to fill a disk.
type neverEnding struct{}

func (neverEnding) Read(p []byte) (int, error) {
	time.Sleep(time.Millisecond)
	clear(p)
	return len(p), nil
}

// TestManifestSwapIsAtomic reads a name while it is rewritten.
func TestManifestSwapIsAtomic(t *testing.T) {
	s := Store{Dir: t.TempDir()}
	a, b := putImage(t, s, "compute", "kernel a"), putImage(t, s, "compute", "kernel b")
	done := make(chan error)
	go func() {
		for range 50 {
			for _, m := range []Manifest{a, b} {
				if err := s.PutManifest(m); err != nil {
					done <- err
					return
				}
			}
		}
		done <- nil
	}()
	for {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			return
		default:
		}
		m, err := s.Manifest("compute")
		if err != nil || m.Digest() != a.Digest() && m.Digest() != b.Digest() {
			t.Fatalf("Manifest during a swap = %v, %v; want one of the two", m, err)
		}
	}
}
