package netboot

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestCurlFetchesLoaderByTFTP(t *testing.T) {
	needTool(t, "curl")
	if !inNamespace(t) {
		return
	}
	r := newRig(t)
	r.configureClient()
	r.server.Loaders = fakeLoaders(t)
	r.start()
	want, err := os.ReadFile(r.server.Loaders[ArchX64].Path)
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range []string{"512", "1024", "1468", "8192"} {
		out := filepath.Join(t.TempDir(), "loader")
		if msg, err := r.run("curl", "-sS", "--tftp-blksize", block, "-o", out, "tftp://10.99.0.1/snponly.efi"); err != nil {
			t.Fatalf("curl, blksize %s: %v\n%s", block, err, msg)
		}
		got, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		if sha256.Sum256(got) != sha256.Sum256(want) {
			t.Errorf("blksize %s: %d bytes with another digest; want the %d of the loader", block, len(got), len(want))
		}
	}
	if e := r.want(KindTFTPRead); e.Bytes != int64(len(want)) || e.Detail != "snponly.efi" || e.Address != nodeAddr {
		t.Errorf("event = %+v; want %d bytes of snponly.efi to %s", e, len(want), nodeAddr)
	}
	for _, name := range []string{"//etc/passwd", "../../etc/passwd", "missing.efi"} {
		if msg, err := r.run("curl", "-sS", "--path-as-is", "tftp://10.99.0.1/"+name); err == nil {
			t.Errorf("curl fetched %s:\n%s", name, msg)
		}
	}
	r.want(KindTFTPRefused, func(e Event) bool { return e.Detail == "missing.efi" })
	if msg, err := r.run("curl", "-sS", "-T", "/etc/hostname", "tftp://10.99.0.1/snponly.efi"); err == nil {
		t.Errorf("curl could write:\n%s", msg)
	}
}

// fakeLoaders is a loader of awkward size, so that the test needs no package.
func fakeLoaders(t *testing.T) map[Arch]Loader {
	t.Helper()
	p := filepath.Join(t.TempDir(), "snponly.efi")
	if err := os.WriteFile(p, bytes.Repeat([]byte("0123456789abcdef"), 12801), 0o644); err != nil {
		t.Fatal(err)
	}
	return map[Arch]Loader{ArchX64: {Name: "snponly.efi", Path: p}}
}

// configureClient gives cli0 the node's address without DHCP.
func (r *rig) configureClient() {
	r.t.Helper()
	r.inClient(func() error { return addAddr("cli0", nodeAddr) })
}

func TestCurlFetchesBlobs(t *testing.T) {
	needTool(t, "curl")
	if !inNamespace(t) {
		return
	}
	r := newRig(t)
	r.configureClient()
	r.server.Loaders = fakeLoaders(t)
	r.start()
	data := bytes.Repeat([]byte("firstlight"), 100_000)
	digest := r.blobs.add(t, data)
	url := "http://10.99.0.1:8080/blob/sha256/" + strings.TrimPrefix(digest, "sha256:")
	out := filepath.Join(t.TempDir(), "out")
	status := func(args ...string) string {
		t.Helper()
		msg, err := r.run("curl", append([]string{"-sS", "-o", out, "-w", "%{http_code} %{size_download} %header{etag}"}, args...)...)
		if err != nil {
			t.Fatalf("curl %v: %v\n%s", args, err, msg)
		}
		return strings.TrimSpace(msg)
	}
	etag := `"` + digest + `"`
	for _, c := range []struct {
		name string
		args []string
		want string
	}{
		{"whole", []string{url}, "200 1000000 " + etag},
		{"range", []string{"-r", "10-19", url}, "206 10 " + etag},
		{"resume", []string{"-H", "Range: bytes=999990-", "-H", "If-Range: " + etag, url}, "206 10 " + etag},
		{"unchanged", []string{"-H", "If-None-Match: " + etag, url}, "304 0 " + etag},
		{"changed", []string{"-H", `If-None-Match: "sha256:00"`, url}, "200 1000000 " + etag},
		{"head", []string{"-I", url}, "200 0 " + etag},
		{"absent", []string{"http://10.99.0.1:8080/blob/sha256/" + strings.Repeat("0", 64)}, "404"},
		{"by name", []string{"http://10.99.0.1:8080/blob/sha256/vmlinuz"}, "404"},
		{"outside", []string{"--path-as-is", "http://10.99.0.1:8080/blob/sha256/../../etc/passwd"}, "307"},
		{"agent", []string{"http://10.99.0.1:8080/agent/v1/hello"}, "404"},
	} {
		got := status(c.args...)
		if got != c.want && !(len(c.want) == 3 && strings.HasPrefix(got, c.want)) {
			t.Errorf("%s: curl %v = %q; want %q", c.name, c.args, got, c.want)
		}
	}
	if e := r.want(KindBlob); e.Bytes != 1000000 || e.Digest != digest || e.Duration <= 0 {
		t.Errorf("event = %+v; want 1000000 bytes of %s", e, digest)
	}
}

func TestPortInUseNamesItsHolder(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	r := newRig(t)
	r.server.Loaders = fakeLoaders(t)
	self := fmt.Sprintf("%s (pid %d)", comm(t), os.Getpid())
	for _, c := range []struct {
		network, address, want string
	}{
		{"udp4", "0.0.0.0:67", "DHCP: UDP port 67 on srv is in use by " + self},
		{"udp4", "10.99.0.1:69", "TFTP: UDP port 69 on srv is in use by " + self},
		{"tcp4", "0.0.0.0:8080", "HTTP: TCP port 8080 on srv is in use by " + self},
		{"tcp6", "[::]:8080", "HTTP: TCP port 8080 on srv is in use by " + self},
	} {
		var closer interface{ Close() error }
		var err error
		if strings.HasPrefix(c.network, "udp") {
			closer, err = net.ListenPacket(c.network, c.address)
		} else {
			closer, err = net.Listen(strings.TrimSuffix(c.network, "6"), c.address)
		}
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		err = r.server.Serve(ctx)
		cancel()
		closer.Close()
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("Serve with %s %s taken = %v; want %q in it", c.network, c.address, err, c.want)
		}
	}
	r.start() // what failed before left nothing open
}

func comm(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}
