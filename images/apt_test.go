package images

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// offline makes apt's downloads fail as on a machine without a network.
var offline = []string{"-o", "Acquire::http::Proxy=http://127.0.0.1:9", "-o", "Acquire::https::Proxy=http://127.0.0.1:9", "-o", "Acquire::Retries=0"}

// testArchiveOf is an archive over this machine's package lists.
func testArchiveOf(t *testing.T, cache string, log *slog.Logger) *archive {
	t.Helper()
	needTools(t, "apt-get", "apt-cache", "apt-config", "dpkg-deb")
	a := &archive{cache: cache, log: log, progress: func(string) {}}
	if err := a.prepare(context.Background()); err != nil {
		t.Skip("needs Debian package lists: ", err)
	}
	return a
}

func TestParseShow(t *testing.T) {
	out := "Package: linux-image-amd64\nVersion: 6.1.192-2\nArchitecture: amd64\nDepends: linux-image-6.1.0-56-amd64 (= 6.1.192-2), kmod\n" +
		"Description: kernel\n Version: not this one\nSHA256: 45\n\nPackage: b\nVersion: 1:2\nArchitecture: all\nSHA256: 46\n\n"
	got := parseShow([]byte(out))
	want := []deb{
		{name: "linux-image-amd64", version: "6.1.192-2", arch: "amd64", sha256: "45", depends: []string{"linux-image-6.1.0-56-amd64 (= 6.1.192-2)", "kmod"}},
		{name: "b", version: "1:2", arch: "all", sha256: "46"},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(deb{})); diff != "" {
		t.Errorf("parseShow (-want +got):\n%s", diff)
	}
	if got := got[1].file(); got != "b_1%3a2_all.deb" {
		t.Errorf("file() = %s; want b_1%%3a2_all.deb", got)
	}
}

func TestUnknownPackage(t *testing.T) {
	a := testArchiveOf(t, t.TempDir(), slog.New(slog.DiscardHandler))
	ctx := context.Background()
	const name = "linux-image-nosuch"
	for what, err := range map[string]error{
		"kernel":  func() error { _, err := a.kernel(ctx, name); return err }(),
		"closure": func() error { _, err := a.closure(ctx, []string{"busybox-static", name}); return err }(),
	} {
		if err == nil || !strings.Contains(err.Error(), "package "+name+" is not in the Debian package lists") {
			t.Errorf("%s(%s): error = %v; want one that names it", what, name, err)
		}
	}
}

func TestClosureBringsDependencies(t *testing.T) {
	a := testArchiveOf(t, t.TempDir(), slog.New(slog.DiscardHandler))
	debs, err := a.closure(context.Background(), []string{"zlib1g"})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range debs {
		got = append(got, d.name)
	}
	// libc6 is installed on this machine, and must be there all the same.
	if s := " " + strings.Join(got, " ") + " "; !strings.Contains(s, " libc6 ") || !strings.Contains(s, " zlib1g ") {
		t.Errorf("closure(zlib1g) = %q; want libc6 among them", got)
	}
}

func TestFetchReplacesACorruptPackage(t *testing.T) {
	var log bytes.Buffer
	a := testArchiveOf(t, t.TempDir(), slog.New(slog.NewTextHandler(&log, nil)))
	ctx := context.Background()
	debs, err := a.show(ctx, "busybox-static")
	if err != nil {
		t.Fatal(err)
	}
	path, err := a.fetch(ctx, debs[0])
	if err != nil {
		t.Skip("needs a Debian mirror: ", err)
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, want[:len(want)/2], 0o644); err != nil {
		t.Fatal(err)
	}
	online := a.options
	a.options = append(online[:len(online):len(online)], offline...)
	_, err = a.fetch(ctx, debs[0])
	if err == nil {
		t.Fatal("fetch of a corrupt package without a network: no error")
	}
	for _, part := range []string{"download package busybox-static " + debs[0].version, "apt-get -q download", "127.0.0.1"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("fetch without a network: error = %v; want %q in it", err, part)
		}
	}
	if !strings.Contains(log.String(), "cached package is corrupt") || !strings.Contains(log.String(), path) {
		t.Errorf("log = %s; want it to name %s as corrupt", log.String(), path)
	}
	a.options = online
	if _, err = a.fetch(ctx, debs[0]); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("the package fetched again has %d bytes, %v; want the first content, %d bytes", len(got), err, len(want))
	}
	if got := files(t, filepath.Dir(path)); len(got) != 1 {
		t.Errorf("the package cache holds %q; want the one package", got)
	}

	// A mirror that serves other content than the signed lists promise.
	wrong := debs[0]
	wrong.sha256 = strings.Repeat("0", 64)
	_, err = a.fetch(ctx, wrong)
	var corrupt *CorruptError
	if !errors.As(err, &corrupt) || corrupt.Want != digestPrefix+wrong.sha256 {
		t.Errorf("fetch of a package with another digest: error = %v; want a CorruptError", err)
	}
}

// TestNoListsAndNoNetwork is a fresh container without a network.
func TestNoListsAndNoNetwork(t *testing.T) {
	needTools(t, "apt-get", "apt-config")
	dir := t.TempDir()
	conf := filepath.Join(dir, "apt.conf")
	text := "Dir::State::lists \"" + dir + "/none\";\n"
	for i := 1; i < len(offline); i += 2 {
		key, value, _ := strings.Cut(offline[i], "=")
		text += key + " \"" + value + "\";\n"
	}
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("APT_CONFIG", conf)
	b := &Builder{Store: Store{Dir: filepath.Join(dir, "store")}, Cache: filepath.Join(dir, "cache"), Agent: testAgent(t, dir)}
	_, err := b.BringUp(context.Background())
	if err == nil {
		t.Fatal("BringUp without lists and network: no error")
	}
	for _, part := range []string{"no usable Debian package lists and they could not be fetched (is it online?)", "apt-get -q update", "127.0.0.1"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("BringUp without lists and network: error = %v; want %q in it", err, part)
		}
	}
	if _, err := os.Stat(b.Store.Dir); err == nil {
		t.Errorf("a failed build left a catalogue: %q", files(t, b.Store.Dir))
	}
}
