package fabric

import (
	"strconv"
	"strings"

	"firstlight/inventory"
)

// Declared is the cabling that an inventory declares, as a graph to hold what
// is found against. It does not change: many verdicts can use it at once.
type Declared struct {
	cluster *inventory.Cluster
	devices []*device
	byName  map[string]*device // in lower case
	ends    []*end             // by their id
	cables  []*cable
	trunks  bool // cables between switches are declared too

	partitions []*partition
	governed   map[string]string // fabrics that declare partitions, and where they are declared
	uncabled   string            // of those, one that declares no cables
}

// device is something with ports that cables can end at.
type device struct {
	name     string
	isSwitch bool
	node     *inventory.Node   // nil of switches and others
	sw       *inventory.Switch // nil of nodes, and of switches that only cables name
	rack     *inventory.Rack
	unit     int
	ends     []*end
	byNum    []*end          // of a switch
	byPort   map[string]*end // of others
	stranger bool            // not declared
}

// end is a port, declared or found.
type end struct {
	id    int32
	dev   *device
	port  string // as declared
	num   int    // of a switch
	label string // as it is printed at the port
	hca   *inventory.HCA
	guid  uint64 // declared node GUID; 0: none
	cable *cable // nil: none is declared here
}

// cable is a declared one.
type cable struct {
	a, b *end
	run  inventory.CableRun
}

func (c *cable) other(e *end) *end {
	if c.a == e {
		return c.b
	}
	return c.a
}

// Declare takes the cabling of some fabrics of an inventory.
func Declare(c *inventory.Cluster, fabrics ...*inventory.Fabric) *Declared {
	d := &Declared{cluster: c, byName: make(map[string]*device, len(c.Nodes)+len(c.Switches)), governed: map[string]string{}}
	for _, n := range c.Nodes {
		d.addNode(n)
	}
	for _, s := range c.Switches {
		d.add(&device{name: s.Name, isSwitch: true, sw: s, rack: s.Rack, unit: s.Unit, byNum: make([]*end, s.Ports()+1)})
	}
	for _, f := range fabrics {
		d.declarePartitions(f)
		others := map[string]bool{}
		for _, o := range f.Others {
			others[o] = true
		}
		for _, run := range c.CablePlan(f) {
			a, b := d.endOf(run.A, others), d.endOf(run.B, others)
			k := &cable{a: a, b: b, run: run}
			a.cable, b.cable = k, k
			d.cables = append(d.cables, k)
			d.trunks = d.trunks || a.dev.isSwitch && b.dev.isSwitch
		}
	}
	return d
}

func (d *Declared) add(dev *device) *device {
	d.devices = append(d.devices, dev)
	d.byName[strings.ToLower(dev.name)] = dev
	return dev
}

func (d *Declared) addEnd(e *end) *end {
	e.id = int32(len(d.ends))
	d.ends = append(d.ends, e)
	e.dev.ends = append(e.dev.ends, e)
	return e
}

// addNode makes an end of every adapter of a node, cabled or not.
func (d *Declared) addNode(n *inventory.Node) {
	dev := d.add(&device{name: n.Name, node: n, rack: n.Rack, unit: n.Unit, byPort: map[string]*end{}})
	if n.Hardware != nil {
		for i := range n.Hardware.HCAs {
			h := &n.Hardware.HCAs[i]
			dev.byPort[h.Name] = d.addEnd(&end{dev: dev, port: h.Name, label: h.Name, hca: h})
		}
	}
	for _, h := range n.HCAs {
		if e := dev.byPort[h.Name]; e != nil {
			e.guid = uint64(h.GUID)
		}
	}
}

// endOf is the end that a cable names. A name that nothing declares is a
// switch's, unless it is among the fabric's others.
func (d *Declared) endOf(c inventory.CableEnd, others map[string]bool) *end {
	dev := d.byName[strings.ToLower(c.Device)]
	if dev == nil {
		dev = d.add(&device{name: c.Device, isSwitch: !others[c.Device], rack: c.Rack, unit: c.Unit, byPort: map[string]*end{}})
	}
	num, err := strconv.Atoi(c.Port)
	if dev.isSwitch && err == nil && num > 0 && num <= maxPort {
		for len(dev.byNum) <= num {
			dev.byNum = append(dev.byNum, nil)
		}
		if dev.byNum[num] == nil {
			dev.byNum[num] = d.addEnd(&end{dev: dev, port: c.Port, num: num, label: c.Label})
		}
		return dev.byNum[num]
	}
	if dev.byPort == nil {
		dev.byPort = map[string]*end{}
	}
	if dev.byPort[c.Port] == nil {
		dev.byPort[c.Port] = d.addEnd(&end{dev: dev, port: c.Port, label: c.Label})
	}
	return dev.byPort[c.Port]
}

// at is the declared end of a switch's port, or nil.
func (dev *device) at(num int) *end {
	if num < len(dev.byNum) {
		return dev.byNum[num]
	}
	return nil
}

// mate is the end at the other side of the declared cable, or nil.
func (e *end) mate() *end {
	if e == nil || e.cable == nil {
		return nil
	}
	return e.cable.other(e)
}

// sameOn is the adapter of another node that is this one's counterpart: of the
// same name, or else on the same rail.
func (e *end) sameOn(dev *device) *end {
	if to := dev.byPort[e.port]; to != nil {
		return to
	}
	if e.hca == nil || e.hca.Rail == 0 {
		return nil
	}
	for _, to := range dev.ends {
		if to.hca != nil && to.hca.Rail == e.hca.Rail {
			return to
		}
	}
	return nil
}

func (e *end) ref() PortRef {
	p := e.dev.ref()
	p.Port, p.Label = e.port, e.label
	return p
}

func (dev *device) ref() PortRef {
	p := PortRef{Name: dev.name, Unit: dev.unit}
	if dev.rack != nil {
		p.Rack = dev.rack.Name
	}
	return p
}

func (e *end) String() string { return e.ref().String() }

// rail is the rail that an end belongs to: an adapter's own, or that of the
// leaf; 0 is none.
func (e *end) rail() int {
	switch {
	case e.hca != nil:
		return e.hca.Rail
	case e.dev.sw != nil:
		return e.dev.sw.Rail
	}
	return 0
}
