package agent

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"firstlight/provision/agent/api"
)

func TestInspect(t *testing.T) {
	got := Inspect(context.Background(), node().fs(t))
	module := func(slot string) api.DIMM {
		return api.DIMM{Locator: slot, Manufacturer: "Micron", Part: "MTC40", Serial: "D1", Size: 64 << 30, SpeedMTs: 5600}
	}
	gpu := api.PCIDevice{Address: "0000:18:00.0", ID: "10de:2335", Class: "030200", Speed: "32.0 GT/s PCIe", Width: 16, NUMA: 1}
	want := api.Inspection{
		System:   api.System{Vendor: "HPE", Product: "Cray XD670", Serial: "SN1", UUID: "00112233-4455-6677-8899-aabbccddeeff", BIOSVersion: "2.1"},
		CPU:      api.CPU{Model: "Intel(R) Xeon(R) Platinum 8558", Sockets: 2, Cores: 4, Threads: 4},
		Memory:   api.Memory{Total: 131072000 << 10, DIMMs: []api.DIMM{module("A1"), module("A2")}, Slots: 3, Source: "SMBIOS type 17, /proc/meminfo"},
		PCI:      []api.PCIDevice{gpu, {Address: "0000:19:00.0", ID: "8086:1563", Class: "020000", Driver: "ixgbe", NUMA: -1}},
		GPUs:     []api.PCIDevice{gpu},
		NICs:     []api.NIC{{Name: "eth0", MAC: "52:54:00:aa:00:01", Driver: "ixgbe", PCI: "0000:19:00.0", SpeedMbps: 10000, Carrier: true}},
		Disks:    []api.Disk{{Name: "nvme0n1", Model: "Disk 7.68TB", Serial: "S1", Transport: "nvme", Size: 4 << 20}},
		BootMode: "uefi", Kernel: "6.1.0-test", Errors: map[string]string{},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("Inspect (-want +got):\n%s", d)
	}
}

// A machine that tells nothing is described as that, not as healthy.
func TestInspectNothing(t *testing.T) {
	got := Inspect(context.Background(), FS(t.TempDir()))
	for _, part := range []string{"smbios", "cpu", "memory"} {
		if got.Errors[part] == "" {
			t.Errorf("Errors[%q] is empty; want why it could not be read", part)
		}
	}
	if got.BootMode != "bios" {
		t.Errorf("BootMode = %q; want bios", got.BootMode)
	}
}

func TestInspectRDMAOfRealHardware(t *testing.T) {
	const archive = "sysfs-infiniband-h100.tar.gz"
	path := filepath.Join("../../../shared/data", archive)
	if _, err := os.Stat(path); err != nil {
		t.Skip("needs " + archive + " (recorded data of real hardware)")
	}
	root := t.TempDir()
	extract(t, path, filepath.Join(root, "sys/class/infiniband"))
	got := Inspect(context.Background(), FS(root)).RDMA
	if len(got) != 9 {
		t.Fatalf("found %d RDMA devices; want 9", len(got))
	}
	ndr := 0
	for _, d := range got {
		for _, p := range d.Ports {
			if p.LinkLayer == "InfiniBand" && p.Rate == "400 Gb/sec (4X NDR)" && p.State == "ACTIVE" && p.PhysState == "LinkUp" {
				ndr++
			}
		}
		if d.Firmware == "" {
			t.Errorf("%s has no firmware version", d.Name)
		}
	}
	if ndr != 8 {
		t.Errorf("%d active NDR ports; want 8\n%+v", ndr, got)
	}
}

// extract unpacks an archive without its first folder.
func extract(t *testing.T, path, to string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		_, name, _ := strings.Cut(h.Name, "/")
		if h.Typeflag != tar.TypeReg || !filepath.IsLocal(name) {
			continue
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(to, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestParseSMBIOSSizes(t *testing.T) {
	tests := []struct {
		name     string
		table    []byte
		want     []api.DIMM
		slots    int
		wantErr  string
		wantSize uint64
		speed    int
	}{
		{name: "MiB", table: dmi(dimm("A", 32766, 0, 3200)), slots: 1, wantSize: 32766 << 20, speed: 3200},
		{name: "KiB", table: dmi(dimm("A", 0x8000|512, 0, 0)), slots: 1, wantSize: 512 << 10},
		{name: "extended, with its reserved bit", table: dmi(dimm("A", 0x7fff, 0x80000000|128<<10, 4800)), slots: 1, wantSize: 128 << 30, speed: 4800},
		{name: "size unknown", table: dmi(dimm("A", 0xffff, 0, 0)), slots: 1, wantSize: 0},
		{name: "extended speed", table: dmi(dimm("A", 1024, 0, 0xffff)), slots: 1, wantSize: 1 << 30, speed: 8800},
		{name: "cut in a header", table: dmi(dimm("A", 1024, 0, 1))[:3], wantErr: "SMBIOS table ends within a header (3 bytes left)"},
		{name: "cut in a structure", table: dmi(dimm("A", 1024, 0, 1))[:50], wantErr: "SMBIOS structure of type 17 has length 92 with 50 bytes left"},
		{name: "cut in strings", table: dmi(dimm("A", 1024, 0, 1))[:95], wantErr: "SMBIOS structure of type 17: strings do not end"},
		{name: "no end", table: dimm("A", 1024, 0, 1), slots: 1, wantSize: 1 << 30, speed: 1, wantErr: "SMBIOS table has no end structure (type 127): it may be cut short"},
		{name: "length below its header", table: []byte{1, 3, 0, 0, 0, 0}, wantErr: "SMBIOS structure of type 1 has length 3 with 6 bytes left"},
	}
	for _, tt := range tests {
		got, err := parseSMBIOS(tt.table)
		if msg := errText(err); msg != tt.wantErr {
			t.Errorf("%s: error %q; want %q", tt.name, msg, tt.wantErr)
		}
		if got.Slots != tt.slots {
			t.Errorf("%s: %d slots; want %d", tt.name, got.Slots, tt.slots)
		}
		if tt.slots == 1 && (len(got.DIMMs) != 1 || got.DIMMs[0].Size != tt.wantSize || got.DIMMs[0].SpeedMTs != tt.speed) {
			t.Errorf("%s: %+v; want size %d, speed %d", tt.name, got.DIMMs, tt.wantSize, tt.speed)
		}
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func FuzzParseSMBIOS(f *testing.F) {
	f.Add(dmi(bios("1"), system("a", "b", "c"), dimm("A1", 0x7fff, 1024, 1)))
	f.Add([]byte{17, 4, 0, 0, 0, 0, 127, 4, 0, 0, 0, 0})
	f.Add([]byte{1, 255, 0, 0})
	f.Fuzz(func(t *testing.T, table []byte) {
		got, err := parseSMBIOS(table)
		if len(got.DIMMs) > got.Slots {
			t.Errorf("%d DIMMs in %d slots", len(got.DIMMs), got.Slots)
		}
		if err == nil && len(table) == 0 {
			t.Error("an empty table is no error")
		}
	})
}

func TestCPUList(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want []int
		ok   bool
	}{
		{"0-3,8\n", []int{0, 1, 2, 3, 8}, true}, {"", nil, true}, {"0", []int{0}, true},
		{"3-1", nil, false}, {"a", nil, false}, {"0-99999999", nil, false}, {"-1", nil, false},
	} {
		got, err := cpuList(tt.in)
		if d := cmp.Diff(tt.want, got); d != "" || (err == nil) != tt.ok {
			t.Errorf("cpuList(%q) = %v, %v; want %v", tt.in, got, err, tt.want)
		}
	}
}

func TestParseDeviceID(t *testing.T) {
	// DGX-like: device 0x20, firmware 1.23 (minor in BCD), IPMI 2.0, manufacturer 5703, product 0x1092.
	b := []byte{0x20, 0x81, 0x81, 0x23, 0x02, 0xbf, 0x47, 0x16, 0x00, 0x92, 0x10, 0, 0, 0, 0}
	got, err := parseDeviceID(b)
	want := api.BMC{ManufacturerID: 5703, ProductID: 0x1092, Firmware: "1.23"}
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Errorf("parseDeviceID: %v (-want +got)\n%s", err, d)
	}
	if _, err := parseDeviceID(b[:10]); err == nil {
		t.Error("parseDeviceID of 10 bytes is no error")
	}
}

func TestDisksLeaveOut(t *testing.T) {
	tr := tree{
		"sys/devices/pci0/0000:00:01.0/virtio1/block/vda/size":          "2048\n",
		"sys/devices/pci0/0000:00:01.0/virtio1/block/vda/serial":        "V1",
		"sys/devices/pci0/0000:00:01.0/virtio1/block/vda/device/vendor": "0x1af4\n",
		"sys/block/vda": "-> ../devices/pci0/0000:00:01.0/virtio1/block/vda",
		"sys/devices/pci0/0000:00:02.0/ata1/host0/target/0:0:0:0/block/sda/size":   "4096\n",
		"sys/devices/pci0/0000:00:02.0/ata1/host0/target/0:0:0:0/block/sda/device": "-> ../../../0:0:0:0",
		"sys/devices/pci0/0000:00:02.0/ata1/host0/target/0:0:0:0/model":            "WDC\n",
		"sys/devices/pci0/0000:00:02.0/ata1/host0/target/0:0:0:0/vpd_pg80":         "\x00\x80\x00\x06  W123tail",
		"sys/block/sda":                        "-> ../devices/pci0/0000:00:02.0/ata1/host0/target/0:0:0:0/block/sda",
		"sys/devices/virtual/block/zram0/size": "8\n",
		"sys/block/zram0":                      "-> ../devices/virtual/block/zram0",
		"sys/devices/virtual/block/dm-0/size":  "8\n",
		"sys/block/dm-0":                       "-> ../devices/virtual/block/dm-0",
		"sys/devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1/size":   "8\n",
		"sys/devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1/device": "-> ../../nvme-subsys0",
		"sys/devices/virtual/nvme-subsystem/nvme-subsys0/serial":         "N1\n",
		"sys/block/nvme0n1":                   "-> ../devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1",
		"sys/devices/pci0/x/nvme0c0n1/hidden": "1\n",
		"sys/devices/pci0/x/nvme0c0n1/device": "-> ..",
		"sys/block/nvme0c0n1":                 "-> ../devices/pci0/x/nvme0c0n1",
		"sys/block/mmcblk0boot0/device/name":  "e",
	}
	want := []api.Disk{
		{Name: "nvme0n1", Serial: "N1", Transport: "nvme", Size: 4096},
		{Name: "sda", Model: "WDC", Serial: "W123", Transport: "sata", Size: 4096 * 512},
		{Name: "vda", Serial: "V1", Transport: "virtio", Size: 1 << 20},
	}
	if d := cmp.Diff(want, tr.fs(t).disks()); d != "" {
		t.Errorf("disks (-want +got):\n%s", d)
	}
}
