package fabricsim

import (
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"

	"firstlight/inventory"
)

// FromCluster is the net of a declared fabric, cabled as declared. A node's
// adapter is called as its node and device, "hnode001 mlx5_0", and so described.
// A switch of a device that is declared nowhere has 64 ports.
func FromCluster(c *inventory.Cluster, f *inventory.Fabric) (*Net, error) {
	b := &fromCluster{net: &Net{}, fabric: f, nodes: make(map[string]*inventory.Node, len(c.Nodes)), index: map[string]int{}, cabled: map[[2]string]bool{}}
	for _, n := range c.Nodes {
		b.nodes[n.Name] = n
	}
	devices := map[string]bool{}
	for _, cable := range f.Cables {
		devices[cable.ADevice], devices[cable.BDevice] = true, true
		b.cabled[[2]string{cable.ADevice, cable.APort}] = true
		b.cabled[[2]string{cable.BDevice, cable.BPort}] = true
	}
	for _, s := range c.Switches {
		if devices[s.Name] {
			b.addSwitch(s)
		}
	}
	for _, n := range c.Nodes {
		if devices[n.Name] {
			b.addNode(n)
		}
	}
	for _, cable := range f.Cables {
		a, err := b.end(cable.ADevice, cable.APort)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", cable.Range, err)
		}
		z, err := b.end(cable.BDevice, cable.BPort)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", cable.Range, err)
		}
		b.net.Links = append(b.net.Links, Link{a, z})
	}
	return b.net, nil
}

type fromCluster struct {
	net    *Net
	fabric *inventory.Fabric
	nodes  map[string]*inventory.Node
	index  map[string]int // of net.Nodes, by name
	cabled map[[2]string]bool
}

func (b *fromCluster) add(n Node) {
	b.index[n.Name] = len(b.net.Nodes)
	b.net.Nodes = append(b.net.Nodes, n)
}

// addSwitch adds a declared switch. Quantum-2 counts one port more than it has
// cages for: what leads to its own aggregation node.
func (b *fromCluster) addSwitch(s *inventory.Switch) {
	n := Node{Name: s.Name, Description: s.Name, Switch: true, Ports: s.Ports() + 1, GUID: uint64(s.GUID)}
	n.Width, n.Speed, _ = s.PortRate().Lanes()
	b.add(n)
}

func (b *fromCluster) addNode(node *inventory.Node) {
	if node.Hardware == nil {
		return
	}
	for _, h := range node.Hardware.HCAs {
		if !b.cabled[[2]string{node.Name, h.Name}] {
			continue // of another fabric
		}
		n := Node{Name: AdapterName(node, h), Description: AdapterName(node, h)}
		rate := h.Rate
		if rate.Text == "" {
			rate = b.fabric.Rate
		}
		n.Width, n.Speed, _ = rate.Lanes()
		n.GUID, n.PKeys = AdapterGUID(node, h), keysOf(node.Name, b.fabric)
		b.add(n)
	}
}

// keysOf is the P_Key table of a node's adapters: the default partition that every
// port is in, and what is declared; nil where nothing is.
func keysOf(node string, f *inventory.Fabric) (keys []uint16) {
	if len(f.Partitions) == 0 {
		return nil
	}
	const everywhere = defaultPartition &^ inventory.FullMember
	keys = []uint16{everywhere}
	for i := range f.Partitions {
		p := &f.Partitions[i]
		key := uint16(p.Key)
		if p.Full {
			key |= inventory.FullMember
		}
		switch {
		case !p.Has(node):
		case p.Key == everywhere:
			keys[0] = key
		default:
			keys = append(keys, key)
		}
	}
	return keys
}

// AdapterName is what the net of a cluster calls an adapter of a node.
func AdapterName(node *inventory.Node, h inventory.HCA) string {
	if h.Device != "" {
		return node.Name + " " + h.Device
	}
	return node.Name + " " + h.Name
}

// AdapterGUID is the node GUID of an adapter of a node in the net of a cluster: as
// declared, or else one that follows from its name, so that the simulated node
// can show the same.
func AdapterGUID(node *inventory.Node, h inventory.HCA) uint64 {
	for _, d := range node.HCAs {
		if d.Name == h.Name {
			return uint64(d.GUID)
		}
	}
	sum := fnv.New64a()
	fmt.Fprintf(sum, "%s\x00%s", node.Name, h.Name)
	return adapterVendor | sum.Sum64()>>24&^(guidStep-1) // room for the ports' own
}

// adapterVendor is the vendor's part of the GUIDs that AdapterGUID makes.
const adapterVendor = 0xa088c20000000000

// end finds one end of a cable, and makes a device that is only named.
func (b *fromCluster) end(device, port string) (End, error) {
	if node := b.nodes[device]; node != nil {
		if node.Hardware == nil {
			return End{}, fmt.Errorf("node %q has no hardware", device)
		}
		for _, h := range node.Hardware.HCAs {
			if h.Name == port {
				return End{AdapterName(node, h), 1}, nil
			}
		}
		return End{}, fmt.Errorf("node %q has no HCA %q", device, port)
	}
	num, err := strconv.Atoi(port)
	if err != nil || num < 1 {
		return End{}, fmt.Errorf("%q is no port of %q: ports of what is not a node are numbers from 1", port, device)
	}
	i, ok := b.index[device]
	if !ok {
		n := Node{Name: device, Description: device, Switch: !b.isHost(device)}
		n.Width, n.Speed, _ = b.fabric.Rate.Lanes()
		b.add(n)
		i = b.index[device]
	}
	if n := &b.net.Nodes[i]; !n.Switch {
		n.Ports = max(n.Ports, num)
	}
	return End{device, num}, nil
}

// isHost reports that what is neither a node nor a switch has an adapter: a
// topology's appliance, or what the fabric lists as others.
func (b *fromCluster) isHost(device string) bool {
	if slices.Contains(b.fabric.Others, device) {
		return true
	}
	return b.fabric.Topology != nil && slices.ContainsFunc(b.fabric.Topology.Appliances, func(a inventory.Appliance) bool { return a.Name == device })
}
