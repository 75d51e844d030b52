package netboot

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestServeRefuses(t *testing.T) {
	complete := func(change func(*Server)) *Server {
		s := &Server{Interface: "lo", Reservations: reserveNode, Booter: &booter{}, Blobs: dirBlobs(t.TempDir()), Loaders: map[Arch]Loader{}}
		change(s)
		return s
	}
	for _, c := range []struct {
		name   string
		server *Server
		want   string
	}{
		{"nothing set", &Server{}, "Reservations, Booter and Blobs must be set"},
		{"no such interface", complete(func(s *Server) { s.Interface = "prov7" }), `interface "prov7": no such network interface; this machine has `},
		{"address not there", complete(func(s *Server) { s.Address = netip.MustParseAddr("10.1.2.3") }), "interface lo does not have address 10.1.2.3 (it has 127.0.0.1/8)"},
		{"network not there", complete(func(s *Server) { s.Prefix = network }), "interface lo has no address in 10.99.0.0/24 (it has 127.0.0.1/8)"},
		{"loader missing", complete(func(s *Server) {
			s.Loaders = map[Arch]Loader{ArchX64: {Name: "snponly.efi", Path: "/nonexistent/snponly.efi"}}
		}),
			"boot loader for x64: open /nonexistent/snponly.efi: no such file or directory: install Debian's package ipxe"},
		{"loader with a path for a name", complete(func(s *Server) {
			s.Loaders = map[Arch]Loader{ArchX64: {Name: "efi/snponly.efi", Path: "/dev/null"}}
		}),
			`name "efi/snponly.efi" must be a plain file name`},
		{"loader empty", complete(func(s *Server) {
			s.Loaders = map[Arch]Loader{ArchX64: {Name: "snponly.efi", Path: "/dev/null"}}
		}),
			"/dev/null is empty"},
	} {
		err := c.server.Serve(t.Context())
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: Serve = %v; want %q in it", c.name, err, c.want)
		}
	}
}

func TestParseProcAddr(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"0100007F:0045", "127.0.0.1:69"},
		{"00000000:0043", "0.0.0.0:67"},
		{"00000000000000000000000000000000:1F90", "[::]:8080"},
		{"000080FE00000000FF005450110A00FE:0050", "[fe80::5054:ff:fe00:a11]:80"},
	} {
		if got, ok := parseProcAddr(c.in); !ok || got.String() != c.want {
			t.Errorf("parseProcAddr(%q) = %v, %v; want %s", c.in, got, ok, c.want)
		}
	}
	for _, in := range []string{"", ":", "0100007F", "zz:00", "01:0045"} {
		if got, ok := parseProcAddr(in); ok {
			t.Errorf("parseProcAddr(%q) = %v; want none", in, got)
		}
	}
}

// A socket whose owner may not be seen must not be blamed on anybody.
func TestPortHolderWithoutOwner(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "self", "net"), 0o755); err != nil {
		t.Fatal(err)
	}
	table := "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n" +
		"  82: 00000000:0043 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4242 2 0 0\n"
	if err := os.WriteFile(filepath.Join(dir, "self", "net", "udp"), []byte(table), 0o644); err != nil {
		t.Fatal(err)
	}
	at := netip.MustParseAddrPort("10.0.0.1:67")
	if got := procFS(dir).listeners("udp", at); len(got) != 1 || got[0] != "4242" {
		t.Errorf("listeners = %v; want inode 4242", got)
	}
	if got := portHolder(procFS(dir), "udp", at); got != "" {
		t.Errorf("portHolder = %q; want nobody", got)
	}
}
