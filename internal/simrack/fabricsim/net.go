package fabricsim

import (
	"fmt"
	"io"
	"strconv"

	"firstlight/fabric/mad"
)

// Net is a fabric as it is built. The order of nodes and links says nothing.
type Net struct {
	Nodes []Node
	Links []Link
}

// Node is one switch or adapter. Zero values are what a fabric of Quantum-2 and
// ConnectX-7 has.
type Node struct {
	Name        string   // what Ends, Faults and SIM_HOST call it; at most 31 bytes for SIM_HOST
	Switch      bool     // else an adapter
	Ports       int      // NodeInfo.NumPorts: without a switch's port 0; 0: 1, of a switch 65
	Description string   // NodeDescription; "" is what the device says before anybody has set it
	GUID        uint64   // NodeGUID; 0: one of its own
	SystemGUID  uint64   // SystemImageGUID; 0: the NodeGUID
	DeviceID    uint16   // 0: Quantum-2's or ConnectX-7's
	Width       int      // most lanes of each port; 0: 4
	Speed       string   // most speed of a lane, as "NDR"; "": NDR
	BasePort0   bool     // of a switch: port 0 is a base one, not an enhanced one
	PKeys       []uint16 // of an adapter's ports: the P_Key table to begin with; nil: the default partition, full
}

// End is a port of a node.
type End struct {
	Node string
	Port int // from 1
}

func (e End) String() string { return fmt.Sprintf("%s port %d", e.Node, e.Port) }

// Link is a cable. It runs at the most that both of its ends have.
type Link struct{ A, B End }

// What devices say they are: Mellanox' vendor number, and the devices of a
// Quantum-2 switch and a ConnectX-7 adapter.
const (
	vendor         = 0x0002c9
	switchDevice   = 0xd2f2
	adapterDevice  = 0x1021
	switchFactory  = "Quantum Mellanox Technologies"
	adapterFactory = "MT4129 ConnectX7   Mellanox Technologies"
	switchGUIDs    = 0xb83fd20300a00000
	adapterGUIDs   = 0xa088c20300000000
	guidStep       = 0x40 // between default GUIDs: there is room for a node's ports
)

// defaults fills in what a node leaves open; i is its place in the net.
func (n Node) defaults(i int) Node {
	device, ports, guids := uint16(adapterDevice), 1, uint64(adapterGUIDs)
	if n.Switch {
		device, ports, guids = switchDevice, 65, switchGUIDs
	}
	if n.DeviceID == 0 {
		n.DeviceID = device
	}
	if n.Ports == 0 {
		n.Ports = ports
	}
	if n.GUID == 0 {
		n.GUID = guids + uint64(i+1)*guidStep
	}
	if n.SystemGUID == 0 {
		n.SystemGUID = n.GUID
	}
	if n.Description == "" {
		n.Description = adapterFactory
		if n.Switch {
			n.Description = switchFactory
		}
	}
	if n.Width == 0 {
		n.Width = 4
	}
	if n.Speed == "" {
		n.Speed = "NDR"
	}
	return n
}

func (n Node) kind() mad.NodeType {
	if n.Switch {
		return mad.NodeSwitch
	}
	return mad.NodeCA
}

// WriteIBSim writes the net in the form that the simulator ibsim reads, for
// comparisons with it. Version 0.10 knows no NDR: every link is 4xHDR.
func (n *Net) WriteIBSim(w io.Writer) error {
	peers := make(map[End]End, 2*len(n.Links))
	for _, l := range n.Links {
		peers[l.A], peers[l.B] = l.B, l.A
	}
	if _, err := io.WriteString(w, "width=3\nspeed=7\nextspeed=7\n"); err != nil {
		return err
	}
	for i, node := range n.Nodes {
		node = node.defaults(i)
		word, guid, tail := "Ca", "caguid", ""
		if node.Switch {
			word, guid, tail = "Switch", "switchguid", " base port 0 lid 0 lmc 0"
		}
		b := fmt.Appendf(nil, "\nvendid=0x%x\ndevid=0x%x\nsysimgguid=0x%x\n%s=0x%x\n%s\t%d %s\t# %s%s\n",
			vendor, node.DeviceID, node.SystemGUID, guid, node.GUID, word, node.Ports, strconv.Quote(node.Name), strconv.Quote(node.Description), tail)
		for p := 1; p <= node.Ports; p++ {
			if q, ok := peers[End{node.Name, p}]; ok {
				b = fmt.Appendf(b, "[%d]\t%q[%d]\t# %q lid 0 4xHDR\n", p, q.Node, q.Port, q.Node)
			}
		}
		if _, err := w.Write(b); err != nil {
			return err
		}
	}
	return nil
}
