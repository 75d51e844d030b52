package fabric

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
)

// endAt is the end that a switch's port is, or the adapter that a port is.
func (c *check) endAt(p *Port) *end {
	if a := c.of[p]; a != nil {
		return a.end
	}
	dev := c.place[p.Node]
	if dev == nil {
		dev = c.strangerAt(p.Node)
	}
	if e := dev.at(p.Num); e != nil {
		return e
	}
	return c.spare(dev, p.Num, strconv.Itoa(p.Num))
}

// spare is a port at which no cable is declared. Ends that are made here belong
// to this check, so they are kept beside the device's own.
func (c *check) spare(dev *device, num int, port string) *end {
	key := spareKey{dev, port}
	if e := c.spares[key]; e != nil {
		return e
	}
	e := &end{id: int32(len(c.ends)), dev: dev, num: num, port: port, label: port}
	if dev.sw != nil && num > 0 {
		e.label = dev.sw.PortLabel(num)
	}
	c.spares[key] = e
	c.ends, c.link, c.ports, c.gone = append(c.ends, e), append(c.link, -1), append(c.ports, nil), append(c.gone, false)
	return e
}

type spareKey struct {
	dev  *device
	port string
}

// strangerAt is a device that is not declared.
func (c *check) strangerAt(n *Node) *device {
	name := switchName(n.Description)
	if n.Kind != Switch {
		name, _ = adapterName(n.Description)
	}
	if name == "" || c.d.byName[name] != nil {
		name = fmt.Sprintf("%s 0x%016x", map[Kind]string{Switch: "switch", CA: "adapter", Router: "router"}[n.Kind], cmp.Or(n.GUID, n.PortGUID))
	}
	if c.hosts[name] == nil {
		c.hosts[name] = &device{name: name, isSwitch: n.Kind == Switch, stranger: true}
	}
	return c.hosts[name]
}

// occupy finds which declared adapter every adapter is, once the places of
// switches are known. What does not say what it is, is what belongs where it
// is cabled to; where that is elsewhere, what is left over.
func (c *check) occupy() {
	known := c.knownGUIDs()
	strangers := c.strangers()
	var rest []*adapter
	inPlace := func(a *adapter, only func(t *end) bool) bool {
		t := c.declaredAt(a.port.Peer)
		if t == nil || t.dev.isSwitch || c.owner[t] != nil || !only(t) {
			return false
		}
		if known[t] && c.alone(a) {
			c.replaced = append(c.replaced, replacement{a, t})
		}
		c.claim(a, t)
		return true
	}
	for _, a := range c.adapters {
		switch {
		case a.end != nil:
			if known[a.end] && !a.sure && c.alone(a) {
				c.replaced = append(c.replaced, replacement{a, a.end})
			}
		case strangers[a]:
			c.claimStrange(a)
		case a.host == nil || !inPlace(a, func(t *end) bool { return t.dev == a.host }):
			rest = append(rest, a)
		}
	}
	var last []*adapter
	for _, a := range rest {
		if a.host != nil || !inPlace(a, func(*end) bool { return true }) {
			last = append(last, a)
		}
	}
	for _, a := range last {
		if t := c.leftOver(a, known); t != nil {
			c.claim(a, t)
		} else {
			c.claimStrange(a)
		}
	}
}

// replacement is an adapter where another GUID is declared or was learned.
type replacement struct {
	a *adapter
	t *end
}

// alone reports that no other adapter has the same GUID.
func (c *check) alone(a *adapter) bool { return c.guids[a.guid()] == 1 }

func (c *check) claimStrange(a *adapter) {
	a.end = c.spare(c.strangerAt(a.port.Node), 0, cmp.Or(a.text, "port "+strconv.Itoa(a.port.Num)))
	if o := c.owner[a.end]; o != nil { // two adapters of one name
		a.end = c.spare(a.end.dev, 0, fmt.Sprintf("0x%016x", a.guid()))
	}
	c.owner[a.end] = a
}

func (c *check) knownGUIDs() map[*end]bool {
	out := map[*end]bool{}
	for _, e := range c.adapterGUIDs() {
		out[e] = true
	}
	return out
}

// strangers are adapters whose descriptions name a node that is not declared.
// Where many do, names are not those of the inventory and say nothing.
func (c *check) strangers() map[*adapter]bool {
	claims := map[string]int{}
	for _, a := range c.adapters {
		claims[a.says+" "+a.text]++
	}
	out := map[*adapter]bool{}
	for _, a := range c.adapters {
		if a.end == nil && a.host == nil && a.says != "" && c.d.byName[a.says] == nil && claims[a.says+" "+a.text] == 1 {
			out[a] = true
		}
	}
	if len(out)*10 > len(c.adapters) {
		return nil
	}
	return out
}

// leftOver is the declared adapter that an adapter without a name is, when the
// one that belongs where it is cabled is elsewhere: that one is in the place of
// another, and so on; who has no place left at the end is it.
func (c *check) leftOver(a *adapter, known map[*end]bool) *end {
	free := func(t *end) bool {
		return t != nil && !t.dev.isSwitch && c.owner[t] == nil && !known[t] && !c.inspected(t) && (a.host == nil || t.dev == a.host)
	}
	t := c.declaredAt(a.port.Peer)
	for range len(c.adapters) {
		if t == nil || c.owner[t] == nil || c.owner[t].port.Peer == nil {
			break
		}
		t = c.declaredAt(c.owner[t].port.Peer)
	}
	if free(t) {
		return t
	}
	var dark []*end
	among := []*end(nil)
	if a.host != nil {
		among = a.host.ends
	} else if leaf := c.place[a.port.Peer.Node]; leaf != nil {
		for _, e := range leaf.ends {
			if m := e.mate(); m != nil {
				among = append(among, m)
			}
		}
	}
	for _, e := range among {
		if e.cable != nil && free(e) && !c.known.Dark[e.dev.name] {
			dark = append(dark, e)
		}
	}
	switch {
	case len(dark) == 1:
		return dark[0]
	case len(dark) == 0 || a.host == nil:
		return nil
	}
	if q := c.endAt(a.port.Peer); q != nil { // nil: another adapter, not yet known
		if i := slices.IndexFunc(dark, func(e *end) bool { return e.rail() == q.rail() }); i >= 0 {
			return dark[i]
		}
	}
	return dark[0]
}

// connect notes every link between the ends it joins.
func (c *check) connect() {
	for _, l := range c.o.Links() {
		if l.A.Node.inner() || l.B.Node.inner() || !c.d.trunks && l.A.Node.Kind == Switch && l.B.Node.Kind == Switch {
			continue
		}
		a, b := c.endAt(l.A), c.endAt(l.B)
		if a == nil || b == nil || c.link[a.id] >= 0 || c.link[b.id] >= 0 {
			continue
		}
		c.link[a.id], c.link[b.id] = b.id, a.id
		c.ports[a.id], c.ports[b.id] = l.A, l.B
	}
	for _, n := range c.switches {
		for _, p := range n.Ports {
			if p.Claimed == nil || c.place[n] == nil {
				continue
			}
			// Another device answers under this one's GUID, and took the link.
			if e := c.place[n].at(p.Num); e != nil && e.mate() != nil && c.link[e.id] < 0 && c.link[e.mate().id] < 0 {
				c.gone[e.id], c.gone[e.mate().id] = true, true
			}
		}
	}
}
