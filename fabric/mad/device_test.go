package mad

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// tree writes files under a new root.
func tree(t *testing.T, files map[string]string) FS {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return FS(root)
}

// node is a machine with an adapter of one port, one of two, and a RoCE one.
func node(t *testing.T) FS {
	files := map[string]string{"sys/class/infiniband_mad/abi_version": "5\n", "sys/class/infiniband_mad/issm0/ibdev": "mlx5_0\n"}
	for umad, d := range map[string]Device{
		"umad0":  {Adapter: "mlx5_0", Port: 1, LinkLayer: "InfiniBand", State: "4: ACTIVE", Rate: "400 Gb/sec (4X NDR)"},
		"umad2":  {Adapter: "mlx5_1", Port: 1, LinkLayer: "InfiniBand", State: "1: DOWN", Rate: "2.5 Gb/sec (1X SDR)"},
		"umad10": {Adapter: "mlx5_1", Port: 2, LinkLayer: "InfiniBand", State: "2: INIT", Rate: "200 Gb/sec (4X HDR)"},
		"umad3":  {Adapter: "mlx5_bond_0", Port: 1, LinkLayer: "Ethernet", State: "4: ACTIVE", Rate: "100 Gb/sec (4X EDR)"},
	} {
		dir := "sys/class/infiniband_mad/" + umad + "/"
		ports := "sys/class/infiniband/" + d.Adapter + "/ports/" + string(rune('0'+d.Port)) + "/"
		files[dir+"ibdev"], files[dir+"port"] = d.Adapter+"\n", string(rune('0'+d.Port))+"\n"
		files[ports+"link_layer"], files[ports+"state"], files[ports+"rate"] = d.LinkLayer+"\n", d.State+"\n", d.Rate+"\n"
	}
	return tree(t, files)
}

func TestDevices(t *testing.T) {
	got, err := node(t).Devices()
	want := []Device{
		{UMAD: "umad0", Adapter: "mlx5_0", Port: 1, LinkLayer: "InfiniBand", State: "4: ACTIVE", Rate: "400 Gb/sec (4X NDR)"},
		{UMAD: "umad2", Adapter: "mlx5_1", Port: 1, LinkLayer: "InfiniBand", State: "1: DOWN", Rate: "2.5 Gb/sec (1X SDR)"},
		{UMAD: "umad3", Adapter: "mlx5_bond_0", Port: 1, LinkLayer: "Ethernet", State: "4: ACTIVE", Rate: "100 Gb/sec (4X EDR)"},
		{UMAD: "umad10", Adapter: "mlx5_1", Port: 2, LinkLayer: "InfiniBand", State: "2: INIT", Rate: "200 Gb/sec (4X HDR)"},
	}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("Devices: %v (-want +got):\n%s", err, diff)
	}
	if !got[0].Active() || got[3].Active() || !got[2].Ethernet() || got[0].Ethernet() {
		t.Errorf("active %v, Ethernet %v of %v", got[0].Active(), got[2].Ethernet(), got)
	}
}

func TestFind(t *testing.T) {
	f := node(t)
	for name, want := range map[string]string{"mlx5_0": "umad0", "mlx5_0/1": "umad0", "umad10": "umad10", "/dev/infiniband/umad2": "umad2", "mlx5_1/2": "umad10"} {
		if d, err := f.Find(name); err != nil || d.UMAD != want {
			t.Errorf("Find(%s) = %v, %v; want %s", name, d, err, want)
		}
	}
	for name, want := range map[string]string{
		"mlx5_1":   "mlx5_1: the adapter has several ports; name one of mlx5_1/1, mlx5_1/2",
		"mlx5_9":   "mlx5_9: no such local port; there are mlx5_0/1 (umad0), mlx5_1/1 (umad2), mlx5_bond_0/1 (umad3), mlx5_1/2 (umad10)",
		"mlx5_0/2": "mlx5_0/2: no such local port; there are mlx5_0/1 (umad0), mlx5_1/1 (umad2), mlx5_bond_0/1 (umad3), mlx5_1/2 (umad10)",
	} {
		if _, err := f.Find(name); err == nil || err.Error() != want {
			t.Errorf("Find(%s) = %v; want %s", name, err, want)
		}
	}
}

// TestOpenRefused are the ways in which a machine is not ready for it: each
// message names the device and what to do.
func TestOpenRefused(t *testing.T) {
	plain := node(t)
	if err := os.MkdirAll(plain.path("dev/infiniband"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(plain.path("dev/infiniband/umad10"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		fs   FS
		name string
		want []string
	}{
		{FS(t.TempDir()), "mlx5_0", []string{"mlx5_0: no InfiniBand port", "modprobe mlx5_ib", "modprobe ib_umad"}},
		{tree(t, map[string]string{"sys/class/infiniband_mad/abi_version": "5"}), "umad0", []string{"umad0: no InfiniBand port"}},
		{plain, "mlx5_0", []string{"umad0 (port 1 of adapter mlx5_0)", "/dev/infiniband/umad0 is not there", "modprobe ib_umad"}},
		{plain, "mlx5_bond_0", []string{"umad3 (port 1 of adapter mlx5_bond_0)", "Ethernet (RoCE)", "no subnet management interface"}},
		{plain, "umad10", []string{"umad10 (port 2 of adapter mlx5_1)", "enable P_Key index", "is this a umad device?"}},
		{tree(t, map[string]string{"sys/class/infiniband_mad/umad0/ibdev": "a", "sys/class/infiniband_mad/umad0/port": "x"}), "a", []string{`port "x" is no number`}},
	}
	for _, c := range cases {
		u, err := c.fs.Open(c.name)
		if err == nil {
			t.Errorf("Open(%s) = %v; want an error", c.name, u)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("Open(%s): %v; want it to say %q", c.name, err, want)
			}
		}
	}
}

// TestUMADForm holds the kernel's structures, which no device here can check,
// to their layout in its header file.
func TestUMADForm(t *testing.T) {
	if got, want := hex.EncodeToString(registration(QPGeneral, ClassPerf)), strings.Repeat("00", 20)+"010401"+strings.Repeat("00", 5); got != want {
		t.Errorf("registration for performance management = %s; want %s", got, want)
	}
	if got, want := hex.EncodeToString(registration(QPSubnet, ClassSubnDirected)), strings.Repeat("00", 20)+"008101"+strings.Repeat("00", 5); got != want {
		t.Errorf("registration for subnet management = %s; want %s", got, want)
	}
	var b [umadHeader + Size]byte
	p := Packet{LID: 0x1234, QP: QPGeneral, Timeout: 1500 * time.Millisecond}
	PutPerfGet(&p.MAD, 7, AttrPortCounters, 9)
	putUMAD(&b, 5, &p)
	// id 5, status, timeout 1500, retries, length 256, qpn 1, qkey, lid; all else zero
	want := "0500000000000000dc0500000000000000010000" + "00000001" + "80010000" + "1234" + strings.Repeat("00", 34)
	if got := hex.EncodeToString(b[:umadHeader]); got != want {
		t.Errorf("header (-want +got):\n%s", cmp.Diff(want, got))
	}
	p = Packet{LID: PermissiveLID, QP: QPSubnet, Timeout: time.Microsecond}
	putUMAD(&b, 6, &p)
	want = "060000000000000001000000000000000001000000000000" + "00000000" + "ffff" + strings.Repeat("00", 34)
	if got := hex.EncodeToString(b[:umadHeader]); got != want {
		t.Errorf("header of a directed route (-want +got):\n%s", cmp.Diff(want, got))
	}

	b[umadStatus] = 110 // ETIMEDOUT
	var got Packet
	if err := parseUMAD(b[:], &got); err != nil || !got.TimedOut || got.LID != PermissiveLID || got.MAD != p.MAD {
		t.Errorf("parseUMAD = %+v, %v; want the request, timed out", got, err)
	}
	// A request that was not answered comes back as its header alone.
	if err := parseUMAD(b[:umadHeader+headerSize], &got); err != nil || !got.TimedOut || [headerSize]byte(got.MAD[:]) != [headerSize]byte(p.MAD[:]) {
		t.Errorf("parseUMAD of a header = %+v, %v; want the request, timed out", got, err)
	}
	b[umadStatus] = 0
	for _, n := range []int{0, umadHeader - 1, umadHeader, umadHeader + headerSize, umadHeader + Size - 1} {
		if err := parseUMAD(b[:n], &got); err == nil {
			t.Errorf("%d bytes are read as a packet", n)
		}
	}
}
