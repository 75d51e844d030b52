package fabricsim

import (
	"encoding/binary"

	"firstlight/fabric/mad"
)

// client is a program at a port of the fabric.
type client struct {
	id      uint16
	process uint32 // the number that it calls itself by
	port    int32
	manager bool // it says that it is a subnet manager
	server  *connection
}

// attach puts a client at a node; false: there is none of that name.
func (f *Fabric) attach(at string, process uint32) (c *client, name string, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	port, ok := f.find(at)
	if !ok || len(f.clients) > 1<<15 {
		return nil, "", false
	}
	for f.clients[f.next] != nil {
		f.next++
	}
	c = &client{id: f.next, process: process, port: port}
	f.next++
	f.clients[c.id] = c
	return c, f.nodes[f.ports[port].node].Name, true
}

// detach takes it away.
func (f *Fabric) detach(c *client) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.manages(c, false)
	delete(f.clients, c.id)
}

// setManager notes whether a subnet manager runs at a client's port: PortInfo
// says so to others.
func (f *Fabric) setManager(c *client, on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.manages(c, on)
}

func (f *Fabric) manages(c *client, on bool) {
	if c.manager == on {
		return
	}
	c.manager = on
	if on {
		f.ports[c.port].managers++
	} else {
		f.ports[c.port].managers--
	}
}

// localInfo is what libumad2sim asks of the port that it is at, to show it as
// sysfs would: NodeInfo, PortInfo, and the first partition keys. It takes the
// node's GUID plus the port's number for the port's own: so that is what it gets.
func (f *Fabric) localInfo(c *client, num int) (nodeInfo, portInfo, keys [mad.DataSize]byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := &f.ports[c.port]
	n := &f.nodes[p.node]
	f.putNodeInfo(p, n, nodeInfo[:])
	binary.BigEndian.PutUint64(nodeInfo[12:], p.guid-uint64(p.num))
	q := p
	if other := f.portOf(n, num); num != 0 && other != nil {
		q = other
	}
	f.putPortInfo(q, q, portInfo[:])
	p.putPartitions(keys[:], 0)
	return nodeInfo, portInfo, keys
}

// trap tells the subnet manager of a switch that a port of it changed (notice
// 128, §13.4.8.2 and §14.2.5.1).
func (f *Fabric) trap(n *node) {
	lid := f.ports[n.first].lid()
	manager := binary.BigEndian.Uint16(f.ports[n.first].set[piSMLID:])
	if lid == 0 || manager == 0 {
		return
	}
	for _, c := range f.clients {
		if !c.manager || !f.ports[c.port].hasLID(manager) || c.server == nil {
			continue
		}
		fl := &flight{client: c.id, slid: lid, dlid: manager}
		m := fl.mad[:]
		m[0], m[offClass], m[2], m[offMethod] = 1, byte(mad.ClassSubnLID), 1, methodTrap
		binary.BigEndian.PutUint16(m[offAttr:], uint16(attrNotice))
		data := m[offData:]
		data[0], data[3] = 0x80|1, byte(mad.NodeSwitch) // generic, urgent; its producer
		binary.BigEndian.PutUint16(data[4:], 128)
		binary.BigEndian.PutUint16(data[6:], lid)  // who tells
		binary.BigEndian.PutUint16(data[10:], lid) // whose port it is
		c.server.push(fl)
	}
}
