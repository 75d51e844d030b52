package simrack

import (
	"context"
	"net/netip"

	"firstlight/inventory"
)

// listenAt is where a PDU answers.
func listenAt(p *inventory.PDU) string {
	return netip.AddrPortFrom(p.Address, uint16(p.Port)).String()
}

// newPDU is a declared PDU, with the outlets that nodes have their power from.
func (r *Rack) newPDU(ctx context.Context, p *inventory.PDU, machines map[string]*machine) *Redfish {
	of := map[string]*machine{}
	out := &Redfish{Listen: listenAt(p), Outlets: []string{}, Log: r.log().With("pdu", p.Name)}
	if p.Credential != nil {
		out.Username, out.Password = p.Credential.Username, p.Credential.Password.Reveal()
	}
	for _, n := range r.Cluster.Nodes {
		for _, o := range n.Outlets {
			if o.PDU == p && !r.has(n.Name, MissingOutlet) {
				of[o.ID] = machines[n.Name]
				out.Outlets = append(out.Outlets, o.ID)
			}
		}
	}
	out.Switched = func(id string, on bool) {
		if m := of[id]; m != nil {
			m.outlet(ctx, p.Name+"/"+id, on)
		}
	}
	return out
}

// outlet is told that one of the machine's outlets was switched. Without any it
// has no power, and neither has its BMC; it stays off when the power is back, and
// its BMC has forgotten what made it hang.
func (m *machine) outlet(ctx context.Context, name string, on bool) {
	m.mu.Lock()
	if m.dark == nil {
		m.dark = map[string]bool{}
	}
	was := len(m.dark)
	if on {
		delete(m.dark, name)
	} else {
		m.dark[name] = true
	}
	all, is := len(m.node.Outlets), len(m.dark)
	back := was == all && is < all
	m.thawed = m.thawed || back
	m.mu.Unlock()
	switch {
	case m.bmc == nil:
	case was < all && is == all:
		m.rack.count(m.node.Name, func(c *Counters) { c.PowerCuts++ })
		m.bmc.freeze()
		_ = m.PowerOff(ctx) // fails when ctx is over only
	case back:
		m.bmc.thaw()
	}
}

func (m *machine) isThawed() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.thawed
}
