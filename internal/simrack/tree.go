package simrack

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"firstlight/internal/simrack/fabricsim"
	"firstlight/inventory"
	"firstlight/provision/agent"
)

// tree is a machine in files: name -> content; "-> target" is a symbolic link.
type tree map[string]string

const pci = "sys/devices/pci0000:00/"

// writeTree lays the machine's hardware below root.
func (m *machine) writeTree(root string) (agent.FS, error) {
	n, name := m.node, m.node.Name
	h := n.Hardware
	if h == nil {
		h = &inventory.Hardware{}
	}
	tr := tree{"sys/firmware/efi/config": "x", "proc/cpuinfo": "processor\t: 0\nmodel name\t: Simulated CPU\n",
		"dev/kmsg": "6,0,0,-;Linux version simulated\n"}
	maps.Copy(tr, processors(h.CPU))
	dimms := modules(h.Memory)
	if m.rack.has(name, DIMMMissing) {
		dimms[len(dimms)-1] = 0
	}
	var installed uint64
	for _, d := range dimms {
		installed += d
	}
	tr["proc/meminfo"] = fmt.Sprintf("MemTotal: %d kB\n", installed/1024*97/100)
	serial := n.Serial
	if m.rack.has(name, WrongSerial) {
		serial = ActualSerial(serial)
	}
	tr["sys/firmware/dmi/tables/DMI"] = string(smbiosTable(h.Vendor, h.Product, serial, dimms))
	slot := 0
	m.addNICs(tr, &slot)
	addGPUs(tr, h.GPU, &slot)
	addHCAs(tr, n, h.HCAs)
	disks := disksOf(h)
	if m.rack.has(name, DiskMissing) && len(disks) > 0 {
		disks = disks[:len(disks)-1]
	}
	for _, d := range disks {
		maps.Copy(tr, d.files())
	}
	if err := tr.write(root); err != nil {
		return "", err
	}
	for _, d := range disks {
		// The node's check reads three MiB of it: a file of holes will do.
		if err := os.Truncate(filepath.Join(root, "dev", d.name), int64(d.size)); err != nil {
			return "", err
		}
	}
	return agent.FS(root), nil
}

// writeBoot is what differs from boot to boot.
func (m *machine) writeBoot(release string) error {
	return tree{"proc/sys/kernel/osrelease": release + "\n", "proc/uptime": "2.00 2.00\n"}.write(m.fs.Path(""))
}

func (tr tree) write(root string) error {
	for name, content := range tr {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		var err error
		if to, ok := strings.CutPrefix(content, "-> "); ok {
			err = os.Symlink(to, path)
		} else {
			err = os.WriteFile(path, []byte(content), 0o644)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func processors(c *inventory.CPU) tree {
	sockets, cores := 1, 1
	if c != nil {
		sockets, cores = max(c.Sockets, 1), max(c.Cores, c.Sockets, 1)
	}
	tr := tree{
		"sys/devices/system/cpu/present":     fmt.Sprintf("0-%d\n", cores-1),
		"sys/devices/system/cpu/online":      fmt.Sprintf("0-%d\n", cores-1),
		"sys/devices/system/node/online":     fmt.Sprintf("0-%d\n", sockets-1),
		"sys/devices/system/node/has_cpu":    fmt.Sprintf("0-%d\n", sockets-1),
		"sys/devices/system/node/has_memory": fmt.Sprintf("0-%d\n", sockets-1),
	}
	for i := range cores {
		dir := fmt.Sprintf("sys/devices/system/cpu/cpu%d/topology/", i)
		tr[dir+"physical_package_id"] = fmt.Sprintf("%d\n", i*sockets/cores)
		tr[dir+"core_cpus_list"] = fmt.Sprintf("%d\n", i)
	}
	return tr
}

// modules are the sizes of the DIMMs in bytes.
func modules(mem *inventory.Memory) []uint64 {
	count, total := 1, uint64(1<<30)
	if mem != nil {
		count = max(mem.DIMMs, 1)
		if mem.Total.Bytes > 0 {
			total = mem.Total.Bytes
		}
	}
	dimms := make([]uint64, count)
	for i := range dimms {
		dimms[i] = total / uint64(count)
	}
	return dimms
}

// addFunction puts a PCI function at the next slot and returns its directory.
func addFunction(tr tree, slot *int, vendor, device, class string) string {
	address := fmt.Sprintf("0000:%02x:00.0", 0x10+*slot)
	*slot++
	dir := pci + address + "/"
	tr[dir+"vendor"], tr[dir+"device"], tr[dir+"class"] = "0x"+vendor+"\n", "0x"+device+"\n", "0x"+class+"\n"
	tr["sys/bus/pci/devices/"+address] = "-> ../../../devices/pci0000:00/" + address
	return dir
}

func (m *machine) addNICs(tr tree, slot *int) {
	for i, nic := range m.node.NICs {
		mac, dev := nic.MAC.String(), fmt.Sprintf("eth%d", i)
		if &m.node.NICs[i] == m.node.BootNIC() {
			mac = m.mac.String()
		}
		dir := addFunction(tr, slot, "8086", "1563", "020000") + "net/" + dev + "/"
		tr[dir+"type"], tr[dir+"address"], tr[dir+"carrier"], tr[dir+"speed"] = "1\n", mac+"\n", "1\n", "10000\n"
		tr[dir+"statistics/rx_errors"], tr[dir+"statistics/tx_errors"] = "0\n", "0\n"
		tr[dir+"device"] = "-> ../.."
		tr["sys/class/net/"+dev] = "-> ../../" + strings.TrimPrefix(strings.TrimSuffix(dir, "/"), "sys/")
	}
}

func addGPUs(tr tree, g *inventory.GPU, slot *int) {
	if g == nil {
		return
	}
	vendor, device, _ := strings.Cut(g.PCIID, ":")
	for range g.Count {
		tr[addFunction(tr, slot, vendor, device, "030200")+"numa_node"] = "0\n"
	}
	tr["sys/module/nvidia_peermem/refcnt"] = "0\n"
}

// addHCAs gives the node the adapters that fabricsim has for it. Where a PCI
// address is declared, they sit there.
func addHCAs(tr tree, n *inventory.Node, hcas []inventory.HCA) {
	for _, c := range hcas {
		name := c.Device
		if name == "" {
			name = c.Name
		}
		dir := "sys/class/infiniband/" + name + "/"
		guid := fmt.Sprintf("%016x", fabricsim.AdapterGUID(n, c))
		tr[dir+"node_guid"] = fmt.Sprintf("%s:%s:%s:%s\n", guid[:4], guid[4:8], guid[8:12], guid[12:])
		tr[dir+"fw_ver"] = "1.0\n"
		tr[dir+"ports/1/state"], tr[dir+"ports/1/phys_state"] = "4: ACTIVE\n", "5: LinkUp\n"
		tr[dir+"ports/1/link_layer"] = "InfiniBand\n"
		if c.PCI != "" {
			tr[dir+"device"] = "-> ../../../devices/pci0000:00/" + c.PCI
		}
	}
}

// disk is one simulated disk.
type disk struct {
	name, transport string
	size            uint64
	index           int
}

func disksOf(h *inventory.Hardware) []disk {
	var disks []disk
	for _, g := range h.Disks {
		for range max(g.Count, 1) {
			d := disk{transport: g.Transport, size: g.Size.Bytes, index: len(disks)}
			if d.size == 0 {
				d.size = 4 << 30
			}
			switch g.Transport {
			case "virtio":
				d.name = "vd" + string(rune('a'+d.index))
			case "sata", "sas":
				d.name = "sd" + string(rune('a'+d.index))
			default:
				d.name = fmt.Sprintf("nvme%dn1", d.index)
			}
			disks = append(disks, d)
		}
	}
	return disks
}

// files are those of a disk, at the place in the device tree that tells its
// transport.
func (d disk) files() tree {
	behind := map[string]string{"sata": "ata1/", "sas": "end_device-0:0/"}[d.transport]
	dir := fmt.Sprintf("%s0000:0%d:00.0/%s%s/", pci, d.index%10, behind, d.name)
	smart := make([]byte, 512)
	smart[3], smart[4] = 100, 10 // spare and its threshold, per cent
	return tree{
		fmt.Sprintf("dev/nvme%d.smart", d.index): string(smart),
		dir + "size":                             fmt.Sprintf("%d\n", d.size/512), dir + "queue/rotational": "0\n",
		dir + "device/model": "Simulated disk\n", dir + "device/serial": fmt.Sprintf("SIM%d\n", d.index),
		"sys/block/" + d.name: "-> ../" + strings.TrimPrefix(strings.TrimSuffix(dir, "/"), "sys/"),
		"dev/" + d.name:       "",
	}
}
