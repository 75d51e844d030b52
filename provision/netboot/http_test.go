package netboot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"firstlight/provision/agent/api"

	"github.com/google/go-cmp/cmp"
)

const testBase = "http://10.99.0.1:8080"

// booter is a Booter that does what it is told.
type booter struct {
	boot *Boot
	err  error
	asks []BootRequest
}

func (b *booter) Boot(_ context.Context, r BootRequest) (*Boot, error) {
	b.asks = append(b.asks, r)
	return b.boot, b.err
}

// service is a Server whose HTTP handler is called directly.
func service(t *testing.T, b Booter) (*Server, *[]Event) {
	t.Helper()
	var events []Event
	s := &Server{Reservations: reserveNode, Booter: b, Blobs: dirBlobs(t.TempDir()), Observe: func(e Event) { events = append(events, e) }}
	return s, &events
}

func get(s *Server, from, url string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("GET", url, nil)
	r.RemoteAddr = from + ":4711"
	w := httptest.NewRecorder()
	s.handler(testBase, map[string][]byte{"snponly.efi": []byte("MZ")}).ServeHTTP(w, r)
	return w
}

func exampleBoot() *Boot {
	return &Boot{Node: "n1", BootID: "b-7", Token: "s3cret",
		Kernel:  Blob{Digest: "sha256:" + strings.Repeat("a", 64), Name: "vmlinuz"},
		Initrds: []Blob{{Digest: "sha256:" + strings.Repeat("b", 64), Name: "base.cpio"}, {Digest: "sha256:" + strings.Repeat("c", 64), Name: "base.cpio"}},
		Args:    []string{api.ArgKind + "=" + api.BootBringUp, "console=ttyS0"}}
}

const (
	scriptURL = "/boot/script?mac=52:54:00:0a:00:11"
	tokenURL  = "/token/b-7.cpio?mac=52:54:00:0a:00:11"
)

func TestScript(t *testing.T) {
	b := &booter{boot: exampleBoot()}
	s, events := service(t, b)
	s.remember(Event{MAC: nodeMAC, Node: "n1", Address: nodeAddr, Arch: ArchX64})
	w := get(s, "10.99.0.11", scriptURL)
	got := w.Body.String()
	want := []string{
		"kernel --name vmlinuz " + testBase + "/blob/sha256/" + strings.Repeat("a", 64) +
			" initrd=0-base.cpio initrd=1-base.cpio initrd=firstlight-token.cpio firstlight.controller=" + testBase +
			" firstlight.node=n1 firstlight.boot=b-7 firstlight.mac=52:54:00:0a:00:11 firstlight.kind=bring-up console=ttyS0 && goto done1 ||",
		"initrd --name 0-base.cpio " + testBase + "/blob/sha256/" + strings.Repeat("b", 64) + " && goto done2 ||",
		"initrd --name 1-base.cpio " + testBase + "/blob/sha256/" + strings.Repeat("c", 64) + " && goto done3 ||",
		"initrd --name firstlight-token.cpio " + testBase + "/token/b-7.cpio?mac=52:54:00:0a:00:11 && goto done4 ||",
		"boot ||",
	}
	lines := slices.DeleteFunc(strings.Split(got, "\n"), func(l string) bool {
		return !strings.HasPrefix(l, "kernel") && !strings.HasPrefix(l, "initrd") && !strings.HasPrefix(l, "boot")
	})
	if !cmp.Equal(lines, want) {
		t.Errorf("script differs (-want +got):\n%s\n%s", cmp.Diff(want, lines), got)
	}
	if strings.Contains(got, "s3cret") {
		t.Errorf("the script holds the token:\n%s", got)
	}
	if len(b.asks) != 1 || b.asks[0].Node != "n1" || b.asks[0].Arch != ArchX64 || b.asks[0].Address != nodeAddr {
		t.Errorf("Booter was asked %+v; want once, for n1, x64, %s", b.asks, nodeAddr)
	}
	if e := (*events)[0]; e.Kind != KindScript || e.BootID != "b-7" || e.Node != "n1" {
		t.Errorf("event = %+v; want script of boot b-7 for n1", e)
	}
}

func TestScriptWithoutABoot(t *testing.T) {
	bad := func(change func(*Boot)) *booter {
		b := exampleBoot()
		change(b)
		return &booter{boot: b}
	}
	for _, c := range []struct {
		name, from, url string
		booter          *booter
		status          int
		want            string
		kind            Kind // "" : none
	}{
		{"nothing to boot", "10.99.0.11", scriptURL, &booter{}, 200, "next boot device\nexit\n", KindBootLocal},
		{"no decision", "10.99.0.11", scriptURL, &booter{err: errors.New("etcd is\ndown; $(x)")}, 200, "cannot say what to boot: etcd is down. .(x)\nsleep 5\nchain --replace " + testBase + scriptURL, KindScript},
		{"foreign MAC", "10.99.0.99", "/boot/script?mac=52:54:00:0a:00:99", &booter{boot: exampleBoot()}, 403, "no reservation", KindForeignMAC},
		{"another's address", "10.99.0.12", scriptURL, &booter{boot: exampleBoot()}, 403, "reserved address 10.99.0.11 only", ""},
		{"no MAC", "10.99.0.11", "/boot/script", &booter{}, 400, "mac= must be", ""},
		{"argument with a line break", "10.99.0.11", scriptURL, bad(func(b *Boot) { b.Args = []string{"a\nexit"} }), 200, "cannot say what to boot: kernel argument", KindScript},
		{"argument with the token", "10.99.0.11", scriptURL, bad(func(b *Boot) { b.Args = []string{"t=s3cret"} }), 200, "cannot say what to boot: the kernel arguments hold the token", KindScript},
		{"path as a name", "10.99.0.11", scriptURL, bad(func(b *Boot) { b.Kernel.Name = "../k" }), 200, "cannot say what to boot: kernel: name", KindScript},
		{"path as a digest", "10.99.0.11", scriptURL, bad(func(b *Boot) { b.Initrds[1].Digest = "sha256:../../etc" }), 200, "initrd 2 base.cpio: digest", KindScript},
		{"blank boot id", "10.99.0.11", scriptURL, bad(func(b *Boot) { b.BootID = "a b" }), 200, "boot id .a b.: only letters", KindScript},
	} {
		s, events := service(t, c.booter)
		w := get(s, c.from, c.url)
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.want) {
			t.Errorf("%s: %d %q; want %d and %q in it", c.name, w.Code, w.Body, c.status, c.want)
		}
		if strings.Contains(w.Body.String(), "kernel --name") || strings.Contains(w.Body.String(), "s3cret") {
			t.Errorf("%s: boots:\n%s", c.name, w.Body)
		}
		var kind Kind
		if len(*events) > 0 {
			kind = (*events)[0].Kind
		}
		if kind != c.kind {
			t.Errorf("%s: event %q; want %q", c.name, kind, c.kind)
		}
	}
}

func TestTokenIsForItsNodeAndBootOnly(t *testing.T) {
	b := &booter{boot: exampleBoot()}
	s, events := service(t, b)
	get(s, "10.99.0.11", scriptURL)
	for _, c := range []struct {
		name, from, url string
		status          int
	}{
		{"the node", "10.99.0.11", tokenURL, 200},
		{"the node again, after a lost reply", "10.99.0.11", tokenURL, 200},
		{"another address", "10.99.0.12", tokenURL, 403},
		{"a foreign MAC", "10.99.0.11", "/token/b-7.cpio?mac=52:54:00:0a:00:99", 403},
		{"another boot", "10.99.0.11", "/token/b-6.cpio?mac=52:54:00:0a:00:11", 404},
		{"no MAC", "10.99.0.11", "/token/b-7.cpio", 400},
	} {
		w := get(s, c.from, c.url)
		if w.Code != c.status {
			t.Errorf("%s: status %d; want %d", c.name, w.Code, c.status)
		}
		if has := strings.Contains(w.Body.String(), "s3cret"); has != (c.status == 200) {
			t.Errorf("%s: token served: %v", c.name, has)
		}
	}
	b.boot = exampleBoot()
	b.boot.BootID, b.boot.Token = "b-8", "n3xt"
	get(s, "10.99.0.11", scriptURL)
	if w := get(s, "10.99.0.11", tokenURL); w.Code != 404 {
		t.Errorf("token of the boot before: status %d; want 404", w.Code)
	}
	b.boot = nil
	get(s, "10.99.0.11", scriptURL)
	if w := get(s, "10.99.0.11", "/token/b-8.cpio?mac=52:54:00:0a:00:11"); w.Code != 404 {
		t.Errorf("token of a boot that is off: status %d; want 404", w.Code)
	}
	if !slices.ContainsFunc(*events, func(e Event) bool { return e.Kind == KindTokenRefused && e.BootID == "b-6" }) {
		t.Errorf("no event token-refused for b-6 in %+v", *events)
	}
}

// A controller that was restarted between script and token still serves it.
func TestTokenAfterRestart(t *testing.T) {
	s, _ := service(t, &booter{boot: exampleBoot()})
	if w := get(s, "10.99.0.11", tokenURL); w.Code != 200 || !strings.Contains(w.Body.String(), "s3cret") {
		t.Errorf("status %d, %d bytes; want 200 and the token", w.Code, w.Body.Len())
	}
	if w := get(s, "10.99.0.11", "/token/b-6.cpio?mac=52:54:00:0a:00:11"); w.Code != 404 {
		t.Errorf("another boot: status %d; want 404", w.Code)
	}
}

func TestBootFailed(t *testing.T) {
	for _, method := range []string{"GET", "POST"} {
		s, events := service(t, &booter{})
		const query = "mac=52:54:00:0a:00:11&boot=b-7&step=kernel&err=0x2d0c618e"
		r := httptest.NewRequest(method, PathFailed+"?"+query, nil)
		if method == "POST" {
			r = httptest.NewRequest(method, PathFailed, strings.NewReader(query))
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		r.RemoteAddr = "10.99.0.11:1"
		w := httptest.NewRecorder()
		s.handler(testBase, nil).ServeHTTP(w, r)
		if w.Code != 200 || len(*events) != 1 {
			t.Fatalf("%s: status %d, events %+v; want 200 and one event", method, w.Code, *events)
		}
		if e := (*events)[0]; e.Kind != KindBootFailed || e.Node != "n1" || e.BootID != "b-7" || e.Detail != "kernel: iPXE error 2d0c618e, https://ipxe.org/2d0c618e" {
			t.Errorf("%s: event = %+v", method, e)
		}
	}
	s, events := service(t, &booter{})
	if w := get(s, "10.99.0.12", PathFailed+"?mac=52:54:00:0a:00:11&step=kernel"); w.Code != 403 || len(*events) != 0 {
		t.Errorf("from another address: status %d, events %+v; want 403 and none", w.Code, *events)
	}
}

// sendfile stands for the network: it sees what the kernel would be given.
type sendfile struct {
	*httptest.ResponseRecorder
	files int
}

func (s *sendfile) ReadFrom(r io.Reader) (int64, error) {
	if l, ok := r.(*io.LimitedReader); ok {
		if _, ok := l.R.(*os.File); ok {
			s.files++
		}
	}
	return io.Copy(s.ResponseRecorder, r)
}

// The kernel sends the file by itself only if it is handed the *os.File.
func TestBlobReachesSendfile(t *testing.T) {
	s, events := service(t, &booter{})
	digest := s.Blobs.(dirBlobs).add(t, bytes.Repeat([]byte("x"), 1<<20))
	r := httptest.NewRequest("GET", api.BlobPath+strings.TrimPrefix(digest, "sha256:"), nil)
	r.RemoteAddr = "10.99.0.11:1"
	w := &sendfile{ResponseRecorder: httptest.NewRecorder()}
	s.handler(testBase, nil).ServeHTTP(w, r)
	if w.files != 1 || w.Body.Len() != 1<<20 {
		t.Errorf("%d files handed to ReadFrom, %d bytes; want 1 and %d", w.files, w.Body.Len(), 1<<20)
	}
	if e := (*events)[0]; e.Kind != KindBlob || e.Bytes != 1<<20 || e.Digest != digest {
		t.Errorf("event = %+v; want %d bytes of %s", e, 1<<20, digest)
	}
}

func TestBlobRoles(t *testing.T) {
	b := &booter{boot: exampleBoot()}
	s, events := service(t, b)
	blobs := s.Blobs.(dirBlobs)
	b.boot.Kernel.Digest, b.boot.Initrds[0].Digest = blobs.add(t, []byte("kernel")), blobs.add(t, []byte("initrd"))
	root := blobs.add(t, []byte("root"))
	get(s, "10.99.0.11", scriptURL)
	var got []string
	for _, d := range []string{b.boot.Kernel.Digest, b.boot.Initrds[0].Digest, root} {
		get(s, "10.99.0.11", api.BlobPath+strings.TrimPrefix(d, "sha256:"))
		e := (*events)[len(*events)-1]
		got = append(got, fmt.Sprint(e.Kind, " ", e.Node, " ", e.BootID))
	}
	if want := []string{"kernel n1 b-7", "initrd n1 b-7", "blob n1 b-7"}; !cmp.Equal(got, want) {
		t.Errorf("events = %v; want %v", got, want)
	}
}

func TestLoaderByHTTP(t *testing.T) {
	s, events := service(t, &booter{})
	if w := get(s, "10.99.0.11", "/loader/snponly.efi"); w.Body.String() != "MZ" || (*events)[0].Kind != KindLoader {
		t.Errorf("body %q, events %+v; want the loader", w.Body, *events)
	}
	if w := get(s, "10.99.0.11", "/loader/other.efi"); w.Code != http.StatusNotFound {
		t.Errorf("other loader: status %d; want 404", w.Code)
	}
}

// The archive must be one that a foreign cpio unpacks.
func TestTokenArchive(t *testing.T) {
	needTool(t, "cpio")
	dir := t.TempDir()
	cmd := exec.Command("cpio", "-idm", "--quiet")
	cmd.Dir, cmd.Stdin = dir, bytes.NewReader(tokenArchive(api.TokenPath, "s3cret"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("cpio: %v\n%s", err, out)
	}
	p := filepath.Join(dir, api.TokenPath)
	got, err := os.ReadFile(p)
	if err != nil || string(got) != "s3cret" {
		t.Errorf("%s = %q, %v; want the token", api.TokenPath, got, err)
	}
	if info, err := os.Stat(p); err != nil || info.Mode() != 0o400 {
		t.Errorf("mode = %v, %v; want -r--------", info.Mode(), err)
	}
}
