package fabric

import (
	"fmt"
	"strings"

	"firstlight/fabric/mad"
)

// missing finds switches and nodes of which nothing is seen, and takes what
// that explains out.
func (c *check) missing() {
	for _, dev := range c.d.devices {
		if c.known.Dark[dev.name] && dev.node != nil {
			c.explain(dev)
		}
	}
	here := map[*device]bool{}
	for _, dev := range c.place {
		here[dev] = true
	}
	c.missingSwitches(here)
	for _, dev := range c.d.devices {
		if dev.isSwitch || dev.cabled() < 2 {
			continue
		}
		dark, lit := 0, 0
		for _, e := range dev.ends {
			switch {
			case c.link[e.id] >= 0 || c.owner[e] != nil:
				lit++
			case e.cable != nil && !c.gone[e.id]:
				dark++
			}
		}
		if lit > 0 || dark < 2 {
			continue
		}
		c.explain(dev)
		f := Finding{Class: MissingNode, Severity: Error, Node: dev.name, DeclaredAt: c.at(firstCable(dev)),
			Declared: fmt.Sprintf("%d cables", dev.cabled()), Found: "no light on any of them",
			Action: fmt.Sprintf("look at the power of %s%s; its cables come after that", dev.name, standsAt(dev.ref()))}
		f.Ports = append(f.Ports, dev.ref())
		for _, e := range dev.ends {
			if e.cable != nil {
				f.Ports = append(f.Ports, e.ref())
			}
		}
		f.Message = fmt.Sprintf("%s: no light on any of its %d cables%s: suspect its power, not the cables", dev.name, dev.cabled(), declaredAs(f.DeclaredAt))
		c.add(f)
	}
}

// explain takes the cables of a device out that show nothing at either end.
func (c *check) explain(dev *device) {
	for _, e := range dev.ends {
		if m := e.mate(); m != nil && c.link[e.id] < 0 {
			c.gone[e.id], c.gone[m.id] = true, true
		}
	}
}

// missingSwitches finds the switches of which nothing is seen. Those that are
// behind missing ones only may well be there: they are told of with them.
func (c *check) missingSwitches(here map[*device]bool) {
	gone := func(dev *device) bool { return dev.isSwitch && !here[dev] && dev.cabled() > 0 }
	reached := func(dev *device) bool { // something that was found is cabled to it
		beside := false
		for _, e := range dev.ends {
			if m := e.mate(); m != nil && m.dev.isSwitch {
				beside = true
				if here[m.dev] {
					return true
				}
			}
		}
		return !beside
	}
	hidden := map[*device]bool{}
	for _, dev := range c.d.devices {
		hidden[dev] = gone(dev) && !reached(dev)
	}
	var first []*device
	behind := map[*device][]*device{}
	seen := map[*device]bool{}
	collect := func(dev *device) {
		first = append(first, dev)
		seen[dev] = true
		queue := []*device{dev}
		for len(queue) > 0 {
			for _, e := range queue[0].ends {
				if m := e.mate(); m != nil && hidden[m.dev] && !seen[m.dev] {
					seen[m.dev] = true
					behind[dev] = append(behind[dev], m.dev)
					queue = append(queue, m.dev)
				}
			}
			queue = queue[1:]
		}
	}
	for _, dev := range c.d.devices {
		if gone(dev) && !hidden[dev] {
			collect(dev)
		}
	}
	for _, dev := range c.d.devices { // a part of which nothing is seen at all
		if hidden[dev] && !seen[dev] {
			collect(dev)
		}
	}
	for _, dev := range first {
		c.missingSwitch(dev, behind[dev])
	}
}

func (c *check) missingSwitch(dev *device, behind []*device) {
	c.explain(dev)
	also, ports := "", []PortRef{dev.ref()}
	for _, b := range behind {
		c.explain(b)
		ports = append(ports, b.ref())
	}
	if len(behind) > 0 {
		also = fmt.Sprintf("; nor of %s behind it", fold(behind))
	}
	f := Finding{Class: MissingNode, Severity: Error, Node: dev.name, Ports: ports, DeclaredAt: c.at(firstCable(dev)),
		Declared: fmt.Sprintf("%d cables", dev.cabled()), Found: "nothing is seen of it" + also,
		Action: fmt.Sprintf("look at the power of %s%s; or read the fabric from where it is seen, if it is in a subnet of its own", dev.name, standsAt(dev.ref()))}
	f.Message = fmt.Sprintf("%s: nothing is seen of this switch and its %d cables%s%s", dev.name, dev.cabled(), also, declaredAs(f.DeclaredAt))
	c.add(f)
}

// dark is the finding of a cable that shows no light.
func (c *check) dark(k *cable) {
	low, high := c.turned(k.a, k.b)
	f := Finding{Class: MissingCable, Severity: Error, Node: low.dev.name, Ports: refs(high, low), DeclaredAt: c.at(k),
		Declared: low.String() + " - " + high.String(), Found: "no light, or the port polls"}
	f.Message = fmt.Sprintf("%s: no light on its cable to %s%s", low, high, declaredAs(f.DeclaredAt))
	f.Action = fmt.Sprintf("plug in, reseat or replace the cable from %s to %s", high, low)
	state := c.stateOf(high)
	switch {
	case state == mad.PhysLinkUp:
		f.Found = "light, and nothing answers behind it"
		f.Message = fmt.Sprintf("%s: there is light on its cable to %s, and it does not answer%s", low, high, declaredAs(f.DeclaredAt))
		f.Action = fmt.Sprintf("look at %s: its adapter's firmware, or what loads the network there", low)
		if low.hca != nil {
			f.Class, f.Ports = MissingHCA, refs(low, high)
		}
	case state == mad.PhysDisabled:
		f.Found = "the port is disabled"
		f.Message = fmt.Sprintf("%s: its cable to %s is dark: that port is disabled%s", low, high, declaredAs(f.DeclaredAt))
		f.Action = fmt.Sprintf("enable %s (ibportstate), then look at the cable", high)
	case state != 0:
		f.Found = fmt.Sprintf("%s is in state %v", high, state)
	}
	if low.hca != nil && state != mad.PhysLinkUp && c.inspected(low) {
		f.Class, f.Found = MissingHCA, "the node has no such adapter, by its inspection"
		f.Ports = refs(low, high)
		f.Message = fmt.Sprintf("%s: inspection of the node did not find this adapter; its cable to %s is dark%s", low, high, declaredAs(f.DeclaredAt))
		f.Action = fmt.Sprintf("reseat or replace the adapter %s of %s%s", low.port, low.dev.name, standsAt(low.dev.ref()))
	}
	c.add(f)
}

// stateOf is the physical state of a switch's port that has no link, where a
// sweep read it; else 0.
func (c *check) stateOf(e *end) mad.PhysState {
	if c.nodes == nil {
		c.nodes = map[*device]*Node{}
		for n, dev := range c.place {
			c.nodes[dev] = n
		}
	}
	if n := c.nodes[e.dev]; n != nil && e.num > 0 {
		if p := n.Port(e.num); p != nil && p.Info != nil {
			return p.Info.PhysState
		}
	}
	return 0
}

// inspected reports an adapter that was not found in a node that was looked into.
func (c *check) inspected(e *end) bool {
	if c.looked == nil {
		c.looked, c.inside = map[string]bool{}, map[*end]bool{}
		for _, k := range c.known.Learned {
			if dev := c.d.byName[strings.ToLower(k.Node)]; dev != nil {
				c.looked[dev.name] = true
				if e := dev.adapterOf(k.HCA); e != nil {
					c.inside[e] = true
				}
			}
		}
	}
	return c.looked[e.dev.name] && !c.inside[e]
}

// replacedAdapters finds adapters in whose place others are.
func (c *check) replacedAdapters() {
	by := map[*device][]replacement{}
	var order []*device
	for _, r := range c.replaced {
		if by[r.t.dev] == nil {
			order = append(order, r.t.dev)
		}
		by[r.t.dev] = append(by[r.t.dev], r)
	}
	for _, dev := range order {
		own := 0
		for _, e := range dev.ends {
			if c.owner[e] != nil {
				own++
			}
		}
		if all := by[dev]; len(all) >= 2 && len(all) == own {
			c.add(c.otherMachine(dev, all))
			continue
		}
		for _, r := range by[dev] {
			f := Finding{Class: MissingHCA, Severity: Warning, Node: dev.name, Ports: refs(r.t, r.t.mate()), DeclaredAt: c.at(r.t.cable),
				Declared: fmt.Sprintf("an adapter of GUID %s", c.guidOf(r.t)), Found: fmt.Sprintf("one of GUID 0x%016x", r.a.guid()),
				Action: fmt.Sprintf("if the adapter was replaced, correct its GUID in the inventory; else put the right one in %s%s", dev.name, standsAt(dev.ref()))}
			f.Message = fmt.Sprintf("%s: another adapter is in its place: %s, not %s%s", r.t, f.Found, c.guidOf(r.t), declaredAs(f.DeclaredAt))
			c.add(f)
		}
	}
}

func (c *check) otherMachine(dev *device, all []replacement) Finding {
	f := Finding{Class: UnexpectedNode, Severity: Error, Node: dev.name, DeclaredAt: c.at(all[0].t.cable),
		Declared: dev.name + standsAt(dev.ref()), Found: fmt.Sprintf("another machine: none of its %d adapters has a GUID of %s", len(all), dev.name),
		Action: fmt.Sprintf("find out which machine stands where %s belongs%s; if it is right there, correct the GUIDs in the inventory", dev.name, standsAt(dev.ref()))}
	f.Ports = append(f.Ports, dev.ref())
	for _, r := range all {
		f.Ports = append(f.Ports, r.t.ref())
	}
	f.Message = fmt.Sprintf("%s: %s%s", dev.name, f.Found, declaredAs(f.DeclaredAt))
	return f
}

// guidOf is what is known of an adapter's GUID.
func (c *check) guidOf(e *end) string {
	if e.guid != 0 {
		return fmt.Sprintf("0x%016x", e.guid)
	}
	for g, k := range c.known.Learned {
		if dev := c.d.byName[strings.ToLower(k.Node)]; dev == e.dev && dev.adapterOf(k.HCA) == e {
			return fmt.Sprintf("0x%016x", g)
		}
	}
	return "its own"
}
