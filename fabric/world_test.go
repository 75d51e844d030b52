package fabric

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"firstlight/inventory"
)

// loadExample reads the inventory of an example.
func loadExample(t testing.TB, name string) *inventory.Cluster {
	t.Helper()
	env := func(name string) (string, bool) { return "secret", name == "FIRSTLIGHT_VAR_bmc_password" }
	c, _, diags := inventory.Load("../examples/"+name, inventory.Options{Env: env})
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	return c
}

// world is a fabric as it was built, to be broken.
type world struct {
	c       *inventory.Cluster
	f       *inventory.Fabric
	o       *Observed
	known   Known
	rng     *rand.Rand
	sw      map[string]*Node
	ca      map[string]*Node // by "node hca"
	byPlace map[string]*inventory.Cable
	used    map[string]bool // what a fault has touched
}

// build makes the fabric that an inventory declares, with every description set.
func build(c *inventory.Cluster, f *inventory.Fabric, rng *rand.Rand) *world {
	w := &world{c: c, f: f, rng: rng, o: &Observed{}, sw: map[string]*Node{}, ca: map[string]*Node{}, byPlace: map[string]*inventory.Cable{},
		used: map[string]bool{}, known: Known{Dark: map[string]bool{}, Learned: map[uint64]Adapter{}}}
	rates := map[string]inventory.LinkRate{}
	for _, n := range c.Nodes {
		for _, h := range n.Hardware.HCAs {
			rates[n.Name+" "+h.Name] = h.Rate
		}
	}
	for i := range f.Cables {
		k := &f.Cables[i]
		a, b := w.port(k.ADevice, k.APort), w.port(k.BDevice, k.BPort)
		rate, _ := lanesOf(f.Rate)
		if r, ok := lanesOf(rates[k.ADevice+" "+k.APort]); ok {
			rate = r
		}
		w.join(a, b, rate)
		w.byPlace[k.ADevice+" "+k.APort], w.byPlace[k.BDevice+" "+k.BPort] = k, k
	}
	w.admit()
	return w
}

// partitions are some that a fabric can declare: the default one for everybody, one
// that compute needs, and one of a tenant who has every third node.
func partitions(c *inventory.Cluster, f *inventory.Fabric) []inventory.Partition {
	tenant := []string{}
	for i, n := range c.Nodes {
		if i%3 == 0 {
			tenant = append(tenant, n.Name)
		}
	}
	return []inventory.Partition{{Name: "default", Key: 0x7fff, Range: f.Range}, {Name: "compute", Key: 0x0001, Full: true, Range: f.Range},
		{Name: "tenant", Key: 0x0010, Full: true, Nodes: tenant, Range: f.Range}}
}

// admit fills the P_Key tables of all adapters as a subnet manager does that was
// told what is declared: in any order, full members as limited ones too here and
// there, and all in the default partition.
func (w *world) admit() {
	for _, n := range w.c.Nodes {
		for _, ca := range w.adapters(n.Name) {
			keys := []uint16{}
			for _, p := range w.f.Partitions {
				if !p.Has(n.Name) {
					continue
				}
				entry := uint16(p.Key)
				if p.Full {
					if w.rng.IntN(8) == 0 {
						keys = append(keys, entry)
					}
					entry |= inventory.FullMember
				}
				keys = append(keys, entry)
			}
			w.rng.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
			ca.Ports[0].PKeys = keys
		}
	}
}

func (w *world) guid() uint64 { return 0xb83f_0000_0000_0000 | w.rng.Uint64()>>20 }

// port finds the port that a cable names, or makes it.
func (w *world) port(device, port string) *Port {
	if n := w.c.Node(device); n != nil || w.sw[device] == nil && strings.HasPrefix(device, "ufm") {
		key := device + " " + port
		if w.ca[key] == nil {
			text := port
			if n != nil {
				for _, h := range n.Hardware.HCAs {
					if h.Name == port && h.Device != "" {
						text = h.Device
					}
				}
			}
			w.ca[key] = w.adapter(device + " " + text)
		}
		return w.ca[key].Ports[0]
	}
	if w.sw[device] == nil {
		w.sw[device] = &Node{Kind: Switch, GUID: w.guid(), NumPorts: 64, Description: device, described: true}
		w.o.Nodes = append(w.o.Nodes, w.sw[device])
	}
	num, err := strconv.Atoi(port)
	if err != nil {
		panic(err)
	}
	return w.sw[device].port(num)
}

func (w *world) adapter(description string) *Node {
	n := &Node{Kind: CA, GUID: w.guid(), NumPorts: 1, Description: description, described: true}
	n.port(1).GUID = n.GUID + 1
	w.o.Nodes = append(w.o.Nodes, n)
	return n
}

func (w *world) join(a, b *Port, r lanes) {
	a.Peer, b.Peer = b, a
	for _, p := range []*Port{a, b} {
		p.Width, p.Speed = r.width, r.speed
	}
}

// unplug takes the cable out of a port; its other end hangs loose.
func unplug(p *Port) {
	if p.Peer != nil {
		p.Peer.Peer, p.Peer = nil, nil
	}
}

// exchange plugs the cables of two ports into each other.
func exchange(a, b *Port) {
	x, y := a.Peer, b.Peer
	a.Peer, b.Peer = y, x
	for _, p := range []*Port{a, b} {
		if p.Peer != nil {
			p.Peer.Peer = p
			p.Width, p.Speed = p.Peer.Width, p.Peer.Speed
		}
	}
}

// remove takes a device out of the fabric.
func (w *world) remove(n *Node) {
	for _, p := range n.Ports {
		unplug(p)
	}
	for i, m := range w.o.Nodes {
		if m == n {
			w.o.Nodes = append(w.o.Nodes[:i:i], w.o.Nodes[i+1:]...)
			return
		}
	}
}

// adapters are those of a node in order of its hardware's; only cabled ones.
func (w *world) adapters(node string) (out []*Node) {
	for _, h := range w.c.Node(node).Hardware.HCAs {
		if n := w.ca[node+" "+h.Name]; n != nil {
			out = append(out, n)
		}
	}
	return out
}

// saying are ways in which identity can be had: what is said, by what.
var saying = []string{"descriptions", "GUIDs learned", "GUIDs declared", "half of each", "hosts only"}

// say sets what can be known of who is who. Whatever a description does not
// say, a GUID does, but for switches that only their cables can tell apart.
func (w *world) say(how string) {
	blank := []string{"MT4129 ConnectX7   Mellanox Technologies", "localhost mlx5_0", "", "localhost"}
	nothing := func(n *Node) { n.Description = blank[w.rng.IntN(len(blank))] }
	for _, n := range w.c.Nodes {
		n.HCAs = nil
		half := w.rng.IntN(2) == 0
		for _, h := range n.Hardware.HCAs {
			ca := w.ca[n.Name+" "+h.Name]
			if ca == nil {
				continue
			}
			switch {
			case how == "GUIDs declared":
				n.HCAs = append(n.HCAs, inventory.NodeHCA{Name: h.Name, GUID: inventory.GUID(ca.GUID)})
				nothing(ca)
			case how == "GUIDs learned", how == "half of each" && half:
				w.known.Learned[ca.GUID] = Adapter{Node: n.Name, HCA: h.Name}
				nothing(ca)
			}
		}
	}
	for _, s := range w.c.Switches {
		s.GUID = 0
		n := w.sw[s.Name]
		switch {
		case n == nil:
		case how == "GUIDs declared":
			s.GUID = inventory.GUID(n.GUID)
			n.Description = "Quantum Mellanox Technologies"
		case how == "hosts only", how == "half of each" && w.rng.IntN(2) == 0:
			n.Description = "Quantum Mellanox Technologies"
		case w.rng.IntN(2) == 0:
			n.Description = fmt.Sprintf("MF0;%s:MQM9700/U1", s.Name)
		}
	}
}

// shuffle puts nodes in any order.
func (w *world) shuffle() {
	w.rng.Shuffle(len(w.o.Nodes), func(i, j int) { w.o.Nodes[i], w.o.Nodes[j] = w.o.Nodes[j], w.o.Nodes[i] })
}
