package agent

import (
	"slices"
	"strconv"
	"strings"

	"firstlight/provision/agent/api"
)

// rdma reads /sys/class/infiniband. State files read "4: ACTIVE"; the word is
// what is kept.
func (fs FS) rdma() []api.RDMADevice {
	const class = "sys/class/infiniband/"
	var devices []api.RDMADevice
	for _, name := range fs.names(class) {
		dir := class + name + "/"
		d := api.RDMADevice{
			Name: name, NodeGUID: fs.line(dir + "node_guid"),
			Firmware: fs.line(dir + "fw_ver"), PCI: fs.pciOf(dir + "device"),
		}
		for _, port := range fs.names(dir + "ports") {
			n, err := strconv.Atoi(port)
			if err != nil {
				continue
			}
			p := dir + "ports/" + port + "/"
			d.Ports = append(d.Ports, api.RDMAPort{
				Number: n, State: afterColon(fs.line(p + "state")), PhysState: afterColon(fs.line(p + "phys_state")),
				Rate: fs.line(p + "rate"), LinkLayer: fs.line(p + "link_layer"),
			})
		}
		slices.SortFunc(d.Ports, func(a, b api.RDMAPort) int { return a.Number - b.Number })
		devices = append(devices, d)
	}
	slices.SortFunc(devices, func(a, b api.RDMADevice) int { return naturalCompare(a.Name, b.Name) })
	return devices
}

func afterColon(s string) string {
	if _, word, ok := strings.Cut(s, ": "); ok {
		return word
	}
	return s
}

// naturalCompare puts mlx5_2 before mlx5_10: shorter runs of the same stem
// first.
func naturalCompare(a, b string) int {
	stem := func(s string) string { return strings.TrimRight(s, "0123456789") }
	if stem(a) == stem(b) && len(a) != len(b) {
		return len(a) - len(b)
	}
	return strings.Compare(a, b)
}
