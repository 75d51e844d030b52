package agent

import (
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"firstlight/provision/agent/api"
)

const arphrdEther = "1" // include/uapi/linux/if_arp.h

// nics reads the physical Ethernet interfaces of /sys/class/net: those with a
// device behind them, which leaves out lo, bridges, bonds and tunnels.
func (fs FS) nics() []api.NIC {
	var nics []api.NIC
	for _, name := range fs.names("sys/class/net") {
		dir := "sys/class/net/" + name + "/"
		if fs.line(dir+"type") != arphrdEther || !fs.exists(dir+"device") {
			continue
		}
		nic := api.NIC{
			Name: name, MAC: strings.ToLower(fs.line(dir + "address")),
			Driver: fs.link(dir + "device/driver"), PCI: fs.pciOf(dir + "device"),
			Carrier: fs.line(dir+"carrier") == "1",
		}
		// A bonded port shows the bond's address; its own is burnt in.
		if own := fs.line(dir + "bonding_slave/perm_hwaddr"); own != "" {
			nic.MAC = strings.ToLower(own)
		}
		// -1 and EINVAL both mean that the link is down or has no speed (virtio).
		if speed, ok := fs.number(dir + "speed"); ok && speed > 0 {
			nic.SpeedMbps = int(speed)
		}
		nics = append(nics, nic)
	}
	slices.SortFunc(nics, func(a, b api.NIC) int { return strings.Compare(a.Name, b.Name) })
	return nics
}

// addFirmware asks each driver for its name and firmware version
// (ETHTOOL_GDRVINFO). "N/A" is what drivers without firmware say.
func addFirmware(nics []api.NIC) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var failed error
	for i := range nics {
		info, err := unix.IoctlGetEthtoolDrvinfo(fd, nics[i].Name)
		if err != nil {
			failed = err
			continue
		}
		if v := unix.ByteSliceToString(info.Fw_version[:]); v != "N/A" {
			nics[i].Firmware = v
		}
		if d := unix.ByteSliceToString(info.Driver[:]); d != "" {
			nics[i].Driver = d
		}
	}
	return failed
}

// Carrier says whether the interface has a link.
func (fs FS) Carrier(nic string) bool { return fs.line("sys/class/net/"+nic+"/carrier") == "1" }
