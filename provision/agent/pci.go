package agent

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"firstlight/provision/agent/api"
)

// pci reads /sys/bus/pci/devices.
func (fs FS) pci() []api.PCIDevice {
	var devices []api.PCIDevice
	for _, address := range fs.names("sys/bus/pci/devices") {
		dir := "sys/bus/pci/devices/" + address + "/"
		d := api.PCIDevice{
			Address: address,
			ID:      hexDigits(fs.line(dir+"vendor")) + ":" + hexDigits(fs.line(dir+"device")),
			Class:   hexDigits(fs.line(dir + "class")),
			Driver:  fs.link(dir + "driver"),
			Speed:   fs.line(dir + "current_link_speed"),
			NUMA:    -1,
		}
		if d.Speed == "Unknown" { // a device that is not on a PCIe link, as in a VM
			d.Speed = ""
		}
		if w, ok := fs.number(dir + "current_link_width"); ok && w < 255 { // 255: no link
			d.Width = int(w)
		}
		if n, ok := fs.number(dir + "numa_node"); ok {
			d.NUMA = int(n)
		}
		devices = append(devices, d)
	}
	return devices
}

func hexDigits(s string) string { return strings.ToLower(strings.TrimPrefix(s, "0x")) }

// gpus are the display-class devices (03xx, PCI Code and ID Assignment §1.4)
// of the vendors that make accelerators. An NVSwitch is a bridge, class 0680.
func gpus(devices []api.PCIDevice) []api.PCIDevice {
	var found []api.PCIDevice
	for _, d := range devices {
		vendor, _, _ := strings.Cut(d.ID, ":")
		if strings.HasPrefix(d.Class, "03") && (vendor == "10de" || vendor == "1002") {
			found = append(found, d)
		}
	}
	return found
}

var pciAddress = regexp.MustCompile(`^[0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$`)

// pciOf is the address of the PCI function that a "device" link leads to or
// lies behind (virtio and NVMe devices are children of one), "" without one.
func (fs FS) pciOf(link string) string {
	to, err := filepath.EvalSymlinks(fs.Path(link))
	if err != nil {
		if to, err = os.Readlink(fs.Path(link)); err != nil {
			return ""
		}
	}
	for dir := to; dir != "/" && dir != "."; dir = filepath.Dir(dir) {
		if base := filepath.Base(dir); pciAddress.MatchString(base) {
			return base
		}
	}
	return ""
}
