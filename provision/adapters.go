package provision

import (
	"strconv"
	"strings"

	"firstlight/inventory"
	"firstlight/provision/agent/api"
)

// Adapter is an adapter as the inspection of its node found it: the fabric knows
// it by its GUID.
type Adapter struct {
	HCA    string         `json:"hca"`    // as the hardware labels it; its device where none is declared
	Device string         `json:"device"` // what the node calls it
	Rail   int            `json:"rail,omitempty"`
	GUID   inventory.GUID `json:"guid"`
}

// adaptersOf are the adapters with a GUID that were found in a node.
func adaptersOf(n *inventory.Node, found *api.Inspection) []Adapter {
	var out []Adapter
	for _, d := range found.RDMA {
		guid, err := strconv.ParseUint(strings.ReplaceAll(d.NodeGUID, ":", ""), 16, 64)
		if err != nil || guid == 0 {
			continue
		}
		a := Adapter{HCA: d.Name, Device: d.Name, GUID: inventory.GUID(guid)}
		if n.Hardware != nil {
			for _, h := range n.Hardware.HCAs {
				if d.Name == device(h) || d.Name == "mlx5_"+device(h) {
					a.HCA, a.Rail = h.Name, h.Rail
				}
			}
		}
		out = append(out, a)
	}
	return out
}

// inspected takes what an inspection found, whatever came of it.
func (n *Node) inspected(proof State, found []Adapter) {
	if proof == Matched {
		n.Adapters = found
	}
}
