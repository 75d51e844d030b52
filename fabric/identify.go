package fabric

import (
	"cmp"
	"slices"
	"strings"
)

// Known is what is known of a fabric beside its declaration and what was found.
type Known struct {
	// Dark are nodes that are off on purpose: that nothing is seen of them is
	// no finding.
	Dark map[string]bool
	// Learned are node GUIDs that inspection of nodes found. A node with one is
	// taken to have been inspected whole: an adapter of it that is not there
	// was not found in the node.
	Learned map[uint64]Adapter
}

// Adapter is one adapter of a node, by its name in the inventory or by its RDMA
// device.
type Adapter struct{ Node, HCA string }

// adapter is a port of an adapter that was found.
type adapter struct {
	port *Port
	says string  // the node's name in its description, "" without
	text string  // what the description calls the adapter
	host *device // the node that it belongs to; nil: not known
	end  *end    // the adapter that it is; nil: not known
	sure bool    // by its GUID, which a description cannot contradict

	saidHost *device // host and end before where it is cabled to had a say
	saidEnd  *end
}

// check is one fabric being held against its declaration.
type check struct {
	d     *Declared
	o     *Observed
	known Known

	switches []*Node
	adapters []*adapter
	of       map[*Port]*adapter
	label    map[*Node]*device // of a switch: what its GUID or description says it is
	place    map[*Node]*device // of a switch: where it stands, by its cables

	ends     []*end             // declared, then what else was found, by id
	link     []int32            // by end: the end that it was found cabled to, or -1
	ports    []*Port            // by end: the port that it was found to be
	owner    map[*end]*adapter  // adapters that were found
	gone     []bool             // by end: the cable there is explained by something larger
	hosts    map[string]*device // strangers, by name
	spares   map[spareKey]*end
	guids    map[uint64]int // how many adapters have a GUID
	replaced []replacement
	looked   map[string]bool   // nodes that were inspected
	nodes    map[*device]*Node // of places
	inside   map[*end]bool     // adapters that inspection found
	members  map[*end]member   // adapters by what they say they are, not by where they are
	verdict  *Verdict
}

func (d *Declared) check(o *Observed, known Known, v *Verdict) *check {
	c := &check{d: d, o: o, known: known, verdict: v, of: map[*Port]*adapter{}, label: map[*Node]*device{}, place: map[*Node]*device{},
		ends: slices.Clone(d.ends), link: make([]int32, len(d.ends)), ports: make([]*Port, len(d.ends)), gone: make([]bool, len(d.ends)),
		owner: map[*end]*adapter{}, hosts: map[string]*device{}, spares: map[spareKey]*end{}, guids: map[uint64]int{}}
	for i := range c.link {
		c.link[i] = -1
	}
	for _, n := range o.Nodes {
		switch {
		case n.Kind == Switch:
			c.switches = append(c.switches, n)
		case !n.inner():
			for _, p := range n.Ports {
				if p.Peer != nil {
					a := &adapter{port: p}
					c.adapters = append(c.adapters, a)
					c.of[p] = a
				}
			}
		}
	}
	return c
}

// labelSwitches takes switches for what their GUID says, else their description
// where it is theirs alone.
func (c *check) labelSwitches() {
	byGUID := map[uint64]*device{}
	for _, dev := range c.d.devices {
		if dev.sw != nil && dev.sw.GUID != 0 {
			byGUID[uint64(dev.sw.GUID)] = dev
		}
	}
	seen := map[uint64]int{}
	for _, n := range c.switches {
		seen[n.GUID]++
	}
	taken := map[*device]bool{}
	for _, n := range c.switches {
		if dev := byGUID[n.GUID]; dev != nil && seen[n.GUID] == 1 {
			c.label[n] = dev
			taken[dev] = true
		}
	}
	named := map[*device][]*Node{}
	for _, n := range c.switches {
		if dev := c.d.byName[switchName(n.Description)]; dev != nil && dev.isSwitch {
			named[dev] = append(named[dev], n)
		}
	}
	for dev, nodes := range named {
		if len(nodes) == 1 && c.label[nodes[0]] == nil && !taken[dev] {
			c.label[nodes[0]] = dev
		}
	}
}

// labelAdapters takes adapters for what their GUID says, else their description
// where no other says the same.
func (c *check) labelAdapters() {
	byGUID := c.adapterGUIDs()
	for _, a := range c.adapters {
		c.guids[a.guid()]++
	}
	for _, n := range c.switches {
		for _, p := range n.Ports {
			if a := c.of[p.Claimed]; a != nil {
				c.guids[a.guid()]++
			}
		}
	}
	for _, a := range c.adapters {
		a.says, a.text = adapterName(a.port.Node.Description)
		if e := cmp.Or(byGUID[a.port.Node.GUID], byGUID[a.port.GUID], byGUID[a.port.Node.PortGUID]); e != nil && c.alone(a) && c.owner[e] == nil {
			a.host, a.end, a.sure = e.dev, e, true
			c.owner[e] = a
		}
	}
	shared := c.sharedNames()
	for _, a := range c.adapters {
		dev := c.d.byName[a.says]
		if a.sure || dev == nil || dev.isSwitch || shared[a.says] {
			continue
		}
		if e := dev.adapterOf(a.text); e == nil || c.owner[e] == nil {
			a.host = dev
			c.claim(a, e)
		}
	}
}

// sharedNames are names of nodes that more than one node has: whoever says one
// of them says nothing.
func (c *check) sharedNames() map[string]bool {
	claims := map[[2]string]int{}
	out := map[string]bool{}
	for _, a := range c.adapters {
		k := [2]string{a.says, a.text}
		claims[k]++
		most := 1
		if dev := c.d.byName[a.says]; dev != nil && a.text == "" { // all adapters of a node may say the same
			most = len(dev.ends)
		}
		if claims[k] > most {
			out[a.says] = true
		}
	}
	return out
}

// claim takes an adapter for a declared one, or for none when that is nil.
func (c *check) claim(a *adapter, e *end) {
	if e != nil {
		a.end, a.host = e, e.dev
		c.owner[e] = a
	}
}

// guid tells adapters apart: the port's GUID where the dump has no node's.
func (a *adapter) guid() uint64 { return cmp.Or(a.port.GUID, a.port.Node.GUID) }

// adapterGUIDs are the adapters whose GUID is declared or was learned.
func (c *check) adapterGUIDs() map[uint64]*end {
	out := map[uint64]*end{}
	for g, k := range c.known.Learned {
		if dev := c.d.byName[strings.ToLower(k.Node)]; dev != nil && g != 0 {
			if e := dev.adapterOf(k.HCA); e != nil {
				out[g] = e
			}
		}
	}
	for _, e := range c.d.ends {
		if e.guid != 0 {
			out[e.guid] = e
		}
	}
	return out
}

// nameDevices learns how nodes of a hardware class call their adapters, where
// that is not as declared: if mlx5_3 of most of them is where ibn4 belongs,
// then mlx5_3 is ibn4.
func (c *check) nameDevices() {
	type name struct {
		class any
		text  string
	}
	votes := map[name]map[string]int{}
	for _, a := range c.adapters {
		if a.host == nil || a.host.node == nil || a.end != nil || a.text == "" {
			continue
		}
		if t := c.declaredAt(a.port.Peer); t != nil && t.dev == a.host {
			k := name{a.host.node.Hardware, a.text}
			if votes[k] == nil {
				votes[k] = map[string]int{}
			}
			votes[k][t.port]++
		}
	}
	for _, a := range c.adapters {
		if a.host == nil || a.host.node == nil || a.end != nil {
			continue
		}
		best, total := "", 0
		count := votes[name{a.host.node.Hardware, a.text}]
		for port, n := range count {
			total += n
			if best == "" || n > count[best] || n == count[best] && port < best {
				best = port
			}
		}
		if e := a.host.byPort[best]; e != nil && c.owner[e] == nil && count[best]*2 > total {
			c.claim(a, e)
		}
	}
}

// declaredAt is what is declared at the other end of a port of a switch whose
// place is known, or nil.
func (c *check) declaredAt(p *Port) *end {
	if p == nil || c.place[p.Node] == nil {
		return nil
	}
	return c.place[p.Node].at(p.Num).mate()
}
