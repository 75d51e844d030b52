package agent

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// tree is a machine in files: name -> content; "-> target" is a symbolic link.
type tree map[string]string

func (tr tree) fs(t *testing.T) FS {
	t.Helper()
	root := t.TempDir()
	for name, content := range tr {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if to, ok := strings.CutPrefix(content, "-> "); ok {
			if err := os.Symlink(to, path); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return FS(root)
}

// with is the tree with changes; "" removes a file.
func (tr tree) with(changes tree) tree {
	out := tree{}
	for k, v := range tr {
		out[k] = v
	}
	for k, v := range changes {
		out[k] = v
		if v == "" {
			delete(out, k)
		}
	}
	return out
}

// node is a small server: two sockets of two cores, two DIMMs of 64 GiB, one
// GPU, one NIC behind PCI, a bridge, an NVMe disk and what is none.
func node() tree {
	pci := "sys/devices/pci0000:00/"
	tr := tree{
		"proc/meminfo":              "MemTotal:       131072000 kB\nMemFree: 1 kB\n",
		"proc/uptime":               "12.50 20.00\n",
		"proc/sys/kernel/osrelease": "6.1.0-test\n",
		"proc/cpuinfo":              "processor\t: 0\nmodel name\t: Intel(R) Xeon(R)  Platinum 8558\nphysical id\t: 0\ncore id\t: 0\n\n",
		"sys/firmware/efi/config":   "x",
		"sys/firmware/dmi/tables/DMI": string(dmi(
			bios("2.1"), system("HPE", "Cray XD670", "SN1"),
			dimm("A1", 0x7fff, 64<<10, 5600), dimm("A2", 0x7fff, 64<<10, 5600), dimm("A3", 0, 0, 0))),
		"sys/devices/system/cpu/present":     "0-3\n",
		"sys/devices/system/cpu/online":      "0-3\n",
		"sys/devices/system/cpu/cpufreq/x":   "",
		"sys/devices/system/node/online":     "0-1\n",
		"sys/devices/system/node/has_cpu":    "0-1\n",
		"sys/devices/system/node/has_memory": "0-1\n",

		pci + "0000:18:00.0/vendor": "0x10de\n", pci + "0000:18:00.0/device": "0x2335\n", pci + "0000:18:00.0/class": "0x030200\n",
		pci + "0000:18:00.0/current_link_speed": "32.0 GT/s PCIe\n", pci + "0000:18:00.0/current_link_width": "16\n", pci + "0000:18:00.0/numa_node": "1\n",
		pci + "0000:19:00.0/vendor": "0x8086\n", pci + "0000:19:00.0/device": "0x1563\n", pci + "0000:19:00.0/class": "0x020000\n",
		pci + "0000:19:00.0/driver":                        "-> ../../../bus/pci/drivers/ixgbe",
		"sys/bus/pci/devices/0000:18:00.0":                 "-> ../../../devices/pci0000:00/0000:18:00.0",
		"sys/bus/pci/devices/0000:19:00.0":                 "-> ../../../devices/pci0000:00/0000:19:00.0",
		pci + "0000:19:00.0/net/eth0/type":                 "1\n",
		pci + "0000:19:00.0/net/eth0/address":              "52:54:00:AA:00:01\n",
		pci + "0000:19:00.0/net/eth0/carrier":              "1\n",
		pci + "0000:19:00.0/net/eth0/speed":                "10000\n",
		pci + "0000:19:00.0/net/eth0/device":               "-> ../../../0000:19:00.0",
		pci + "0000:19:00.0/net/eth0/statistics/rx_errors": "0\n",
		pci + "0000:19:00.0/net/eth0/statistics/tx_errors": "0\n",
		"sys/class/net/eth0":                               "-> ../../devices/pci0000:00/0000:19:00.0/net/eth0",
		"sys/class/net/br0/type":                           "1\n",
		"sys/class/net/br0/address":                        "02:00:00:00:00:01\n",
		"sys/class/net/lo/type":                            "772\n",

		pci + "0000:1a:00.0/nvme/nvme0/model":                    "Disk 7.68TB   \n",
		pci + "0000:1a:00.0/nvme/nvme0/serial":                   "  S1\n",
		pci + "0000:1a:00.0/nvme/nvme0/nvme0n1/size":             "8192\n",
		pci + "0000:1a:00.0/nvme/nvme0/nvme0n1/queue/rotational": "0\n",
		pci + "0000:1a:00.0/nvme/nvme0/nvme0n1/device":           "-> ../../nvme0",
		"sys/block/nvme0n1":                                      "-> ../devices/pci0000:00/0000:1a:00.0/nvme/nvme0/nvme0n1",
		"sys/devices/virtual/block/loop0/size":                   "0\n",
		"sys/block/loop0":                                        "-> ../devices/virtual/block/loop0",
		"sys/block/sr0/device/model":                             "DVD\n",
		"dev/nvme0n1":                                            strings.Repeat("\x00", 4<<20),
		"dev/kmsg":                                               "6,0,0,-;Linux version 6.1.0-test\n SUBSYSTEM=x\n15,1,5,-;firstlight: I/O error is not the kernel's\n6,2,9,-;AER: enabled with IRQ 24\n",
	}
	for cpu, core := range map[string][2]string{"0": {"0", "0"}, "1": {"0", "1"}, "2": {"1", "2"}, "3": {"1", "3"}} {
		dir := "sys/devices/system/cpu/cpu" + cpu + "/topology/"
		tr[dir+"physical_package_id"], tr[dir+"core_cpus_list"] = core[0]+"\n", core[1]+"\n"
	}
	return tr
}

// dmi joins structures and ends the table.
func dmi(structures ...[]byte) []byte {
	var table []byte
	for _, s := range append(structures, smbiosStructure(smbiosEnd, make([]byte, 0))) {
		table = append(table, s...)
	}
	return table
}

// smbiosStructure puts header and strings around an area.
func smbiosStructure(kind byte, area []byte, text ...string) []byte {
	s := append([]byte{kind, byte(4 + len(area)), 0, 0}, area...)
	for _, t := range text {
		s = append(append(s, t...), 0)
	}
	if len(text) == 0 {
		s = append(s, 0)
	}
	return append(s, 0)
}

func bios(version string) []byte {
	return smbiosStructure(smbiosBIOS, []byte{0, 1, 0, 0, 0}, version)
}

func system(vendor, product, serial string) []byte {
	uuid := []byte{0x33, 0x22, 0x11, 0x00, 0x55, 0x44, 0x77, 0x66, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff}
	return smbiosStructure(smbiosSystem, append([]byte{1, 2, 0, 3}, uuid...), vendor, product, serial)
}

// dimm is type 17 of SMBIOS 3.3 and later; mib goes into the extended size.
func dimm(locator string, size uint16, mib uint32, mts uint16) []byte {
	area := make([]byte, 0x5c-4)
	at := func(offset int) []byte { return area[offset-4:] }
	binary.LittleEndian.PutUint16(at(0x0c), size)
	at(0x10)[0], at(0x17)[0], at(0x18)[0], at(0x1a)[0] = 1, 2, 3, 4
	binary.LittleEndian.PutUint32(at(0x1c), mib)
	binary.LittleEndian.PutUint16(at(0x20), mts)
	binary.LittleEndian.PutUint32(at(0x58), 8800)
	return smbiosStructure(smbiosMemory, area, locator, "Micron", "D1", "MTC40")
}
