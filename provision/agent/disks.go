package agent

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"firstlight/provision/agent/api"
)

// disks reads /sys/block: whole devices that hold data.
func (fs FS) disks() []api.Disk {
	var disks []api.Disk
	for _, name := range fs.names("sys/block") {
		dir := "sys/block/" + name + "/"
		if !fs.isDisk(name) {
			continue
		}
		d := api.Disk{Name: name, Transport: fs.transport(name)}
		if sectors, ok := fs.number(dir + "size"); ok { // always of 512 bytes (Documentation/ABI/stable/sysfs-block)
			d.Size = uint64(sectors) * 512
		}
		if n, ok := fs.number(dir + "queue/rotational"); ok {
			d.Rotational = n == 1
		}
		d.Model = firstOf(fs.line(dir+"device/model"), fs.line(dir+"device/name"))
		// NVMe and MMC; virtio has it on the block device; SCSI in VPD page 0x80.
		d.Serial = firstOf(fs.line(dir+"device/serial"), fs.line(dir+"serial"), vpdSerial(fs, dir+"device/vpd_pg80"))
		disks = append(disks, d)
	}
	slices.SortFunc(disks, func(a, b api.Disk) int { return naturalCompare(a.Name, b.Name) })
	return disks
}

// isDisk leaves out what has no hardware behind it (loop, ram, zram, dm, md,
// nbd without a device), optical drives and the boot partitions of eMMC.
func (fs FS) isDisk(name string) bool {
	for _, p := range []string{"loop", "ram", "zram", "sr", "fd", "dm-", "md", "nbd"} {
		if strings.HasPrefix(name, p) && strings.Trim(name[len(p):], "0123456789") == "" {
			return false
		}
	}
	if strings.HasPrefix(name, "mmcblk") && strings.Contains(name, "boot") || strings.HasSuffix(name, "rpmb") {
		return false
	}
	dir := "sys/block/" + name
	if to, err := os.Readlink(fs.Path(dir)); err == nil && strings.Contains(to, "/devices/virtual/") {
		// A multipath NVMe namespace is "virtual" but is the disk all the same.
		return strings.Contains(to, "/nvme-subsystem/")
	}
	// A hidden path of a multipath namespace is not a device of its own.
	if fs.line(dir+"/hidden") == "1" {
		return false
	}
	return fs.exists(dir + "/device")
}

// transport is told by where in the device tree the disk hangs.
func (fs FS) transport(name string) string {
	switch {
	case strings.HasPrefix(name, "nvme"):
		return "nvme"
	case strings.HasPrefix(name, "vd"):
		return "virtio"
	case strings.HasPrefix(name, "mmcblk"):
		return "mmc"
	}
	to, err := filepath.EvalSymlinks(fs.Path("sys/block/" + name))
	if err != nil {
		return ""
	}
	for _, t := range []struct{ part, transport string }{
		{"/usb", "usb"}, {"/ata", "sata"}, {"/virtio", "virtio"}, {"/end_device-", "sas"},
	} {
		if strings.Contains(to, t.part) {
			return t.transport
		}
	}
	return ""
}

// vpdSerial is the unit serial number page (SPC-4 §7.8.13): a 4-byte header
// whose last two bytes are the length.
func vpdSerial(fs FS, name string) string {
	b, err := fs.read(name)
	if err != nil || len(b) < 4 {
		return ""
	}
	n := int(b[2])<<8 | int(b[3])
	return strings.TrimSpace(strings.Trim(string(b[4:min(len(b), 4+n)]), "\x00"))
}

func firstOf(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}
