package simrack

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv4"

	"firstlight/inventory"
	"firstlight/provision/agent"
)

const testScript = `#!ipxe
echo firstlight: n1 boots kernel from http://10.0.0.1:8080
set n:int32 0
:try1
kernel --name kernel http://10.0.0.1:8080/blob/sha256/aa initrd=0-initramfs firstlight.node=n1 quiet && goto done1 ||
set why ${errno}
goto try1
:done1
initrd --name 0-initramfs http://10.0.0.1:8080/blob/sha256/bb && goto done2 ||
initrd --name firstlight-token.cpio http://10.0.0.1:8080/token/b1.cpio?mac=x && goto done3 ||
boot ||
:report
imgfetch --name report --timeout 5000 http://10.0.0.1:8080/boot/failed?mac=x&boot=b1&step=${step}&err=${why:uristring} && goto reported ||
exit 1
`

func TestParseScript(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       script
		wantErr    bool
	}{
		{name: "boot", text: testScript, want: script{
			kernel: "http://10.0.0.1:8080/blob/sha256/aa", args: "initrd=0-initramfs firstlight.node=n1 quiet",
			initrds: []string{"http://10.0.0.1:8080/blob/sha256/bb", "http://10.0.0.1:8080/token/b1.cpio?mac=x"},
			failed:  "http://10.0.0.1:8080/boot/failed?mac=x&boot=b1&step=${step}&err=${why:uristring}"}},
		{name: "nothing to boot", text: "#!ipxe\necho nothing\nexit\n"},
		{name: "ask again", text: "#!ipxe\nsleep 5\nchain --replace http://10.0.0.1/boot/script?mac=x || exit\n", want: script{again: true}},
		{name: "a page", text: "<html>", wantErr: true},
	} {
		got, err := parseScript(c.text)
		if diff := cmp.Diff(c.want, got, cmp.AllowUnexported(script{})); diff != "" || (err != nil) != c.wantErr {
			t.Errorf("%s: parseScript = %+v, %v (-want +got):\n%s", c.name, got, err, diff)
		}
	}
}

func cpioEntry(name, content string) []byte {
	b := fmt.Appendf(nil, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x", 1, 0o100400, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name)+1, 0)
	b = append(append(b, name...), 0)
	b = append(b, make([]byte, (4-len(b)%4)%4)...)
	b = append(b, content...)
	return append(b, make([]byte, (4-len(b)%4)%4)...)
}

func TestTokenIn(t *testing.T) {
	whole := bytes.Join([][]byte{cpioEntry("etc", ""), cpioEntry("etc/firstlight/token", "s3cret!"), cpioEntry("TRAILER!!!", "")}, nil)
	for _, c := range []struct {
		name    string
		archive []byte
		want    string
		wantErr bool
	}{
		{"whole", whole, "s3cret!", false},
		{"without a token", cpioEntry("TRAILER!!!", ""), "", true},
		{"cut short", whole[:len(whole)/2], "", true},
		{"not cpio", bytes.Repeat([]byte("x"), 200), "", true},
	} {
		if got, err := tokenIn(c.archive); got != c.want || (err != nil) != c.wantErr {
			t.Errorf("%s: tokenIn = %q, %v; want %q", c.name, got, err, c.want)
		}
	}
}

func TestKernelRelease(t *testing.T) {
	for _, c := range []struct{ kernel, want string }{
		{"6.1.0-25-amd64\nrest", "6.1.0-25-amd64"},
		{"MZ\x00\x01\n", "0-simulated"},
		{"", "0-simulated"},
	} {
		if got := KernelRelease([]byte(c.kernel)); got != c.want {
			t.Errorf("KernelRelease(%q) = %q; want %q", c.kernel, got, c.want)
		}
	}
}

func TestFrame(t *testing.T) {
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	f := frame(mac, []byte("payload"))
	if got := net.HardwareAddr(f[6:12]).String(); got != mac.String() {
		t.Errorf("source = %s; want %s", got, mac)
	}
	if sum := checksum(f[etherLen : etherLen+ipLen]); sum != 0 {
		t.Errorf("IPv4 header does not sum to zero: %#x", sum)
	}
	if got := binary.BigEndian.Uint16(f[etherLen+ipLen+2:]); got != dhcpv4.ServerPort {
		t.Errorf("port = %d; want %d", got, dhcpv4.ServerPort)
	}
	if !bytes.HasSuffix(f, []byte("payload")) || len(f) != etherLen+ipLen+udpLen+7 {
		t.Errorf("frame of %d bytes ends %q", len(f), f[len(f)-7:])
	}
}

// testCluster is an inventory of three nodes, in a directory of the test's.
func testCluster(t *testing.T) *inventory.Cluster {
	t.Helper()
	dir := t.TempDir()
	text := `cluster "sim" {}
credential "bmc" {
  username = "admin"
  password = "secret"
}
network "oob" {
  cidr      = "10.20.0.0/24"
  interface = "oob"
  address   = "10.20.0.1"
}
network "provision" {
  cidr      = "10.10.0.0/24"
  interface = "provision"
  address   = "10.10.0.1"
  dhcp      = "full"
}
hardware "h" {
  vendor  = "Acme"
  product = "8U"
  cpu {
    sockets = 2
    cores   = 6
  }
  memory {
    total = "512GiB"
    dimms = 4
  }
  gpu {
    pci_id = "10de:2335"
    count  = 8
  }
  hca "ibn1" {}
  disk "scratch" {
    count     = 2
    size      = "7.68TB"
    transport = "nvme"
  }
  disk "system" {
    size      = "960GB"
    transport = "sata"
  }
}
`
	for i := 1; i <= 3; i++ {
		text += fmt.Sprintf("node \"n%d\" {\n  serial   = \"S%d\"\n  hardware = hardware.h\n  bmc {\n    address    = \"10.20.0.1%d\"\n    credential = credential.bmc\n  }\n"+
			"  nic \"boot\" {\n    mac     = \"52:54:00:00:00:0%d\"\n    network = network.provision\n    address = \"10.10.0.1%d\"\n  }\n}\n", i, i, i, i, i)
	}
	if err := os.WriteFile(filepath.Join(dir, "c.hcl"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	c, _, diags := inventory.Load(dir, inventory.Options{})
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	return c
}

// TestTree has the real agent look at the files of a machine.
func TestTree(t *testing.T) {
	c := testCluster(t)
	r := &Rack{Cluster: c, Faults: []Fault{{Node: "n2", Kind: DiskMissing}, {Node: "n2", Kind: DIMMMissing},
		{Node: "n3", Kind: WrongSerial}, {Node: "n3", Kind: WrongMAC}}}
	dir := t.TempDir()
	type found struct {
		Serial, MAC, Vendor, Mode  string
		Sockets, Cores, GPUs, RDMA int
		DIMMs                      int
		GiB                        uint64
		Disks                      string
	}
	healthy := found{Serial: "S1", MAC: "52:54:00:00:00:01", Vendor: "Acme", Mode: "uefi", Sockets: 2, Cores: 6, GPUs: 8, RDMA: 1, DIMMs: 4, GiB: 512,
		Disks: "nvme0n1 nvme 7680, nvme1n1 nvme 7680, sdc sata 960"}
	second, third := healthy, healthy
	second.Serial, second.MAC, second.DIMMs, second.GiB, second.Disks = "S2", "52:54:00:00:00:02", 3, 384, "nvme0n1 nvme 7680, nvme1n1 nvme 7680"
	third.Serial, third.MAC = "S3-OTHER", "52:54:00:00:00:83"
	for i, want := range []found{healthy, second, third} {
		m, err := newMachine(r, c.Nodes[i], i, &wires{}, dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.writeBoot("6.1.0"); err != nil {
			t.Fatal(err)
		}
		in := agent.Inspect(context.Background(), m.fs)
		got := found{Serial: in.System.Serial, MAC: in.NICs[0].MAC, Vendor: in.System.Vendor, Mode: in.BootMode, Sockets: in.CPU.Sockets, Cores: in.CPU.Cores,
			GPUs: len(in.GPUs), RDMA: len(in.RDMA), DIMMs: len(in.Memory.DIMMs), GiB: in.Memory.Installed() >> 30}
		var disks []string
		for _, d := range in.Disks {
			disks = append(disks, fmt.Sprintf("%s %s %d", d.Name, d.Transport, d.Size/1e9))
		}
		got.Disks = strings.Join(disks, ", ")
		if diff := cmp.Diff(want, got); diff != "" || len(in.Errors) > 0 {
			t.Errorf("%s: agent.Inspect (-want +got):\n%s\nerrors: %v", c.Nodes[i].Name, diff, in.Errors)
		}
		for _, check := range agent.Check(context.Background(), m.fs, agent.Boot{MAC: m.mac.String(), Kind: "bring-up"}) {
			if check.Verdict == "fail" {
				t.Errorf("%s: agent.Check: %+v; want no failure", c.Nodes[i].Name, check)
			}
		}
	}
}

func TestServeRefusesUnknownNode(t *testing.T) {
	r := &Rack{Cluster: testCluster(t), Faults: []Fault{{Node: "n9", Kind: DeadBMC}}}
	if err := r.Serve(t.Context()); err == nil || !strings.Contains(err.Error(), `"n9", which is not declared`) {
		t.Errorf("Serve = %v; want an error that names n9", err)
	}
}
