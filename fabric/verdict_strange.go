package fabric

import (
	"fmt"
	"slices"

	"firstlight/inventory"
)

// strange tells of machines and switches that are not declared, each once, and
// takes their links out.
func (c *check) strange() {
	linked := map[*device][]*end{}
	var order []*device
	for _, e := range c.ends[len(c.d.ends):] {
		if e.dev.stranger && c.link[e.id] >= 0 {
			if linked[e.dev] == nil {
				order = append(order, e.dev)
			}
			linked[e.dev] = append(linked[e.dev], e)
		}
	}
	slices.SortFunc(order, func(a, b *device) int { return inventory.CompareNames(a.name, b.name) })
	for _, dev := range order {
		c.unexpected(dev, linked[dev])
	}
}

func (c *check) unexpected(dev *device, own []*end) {
	f := Finding{Class: UnexpectedNode, Severity: Error, Node: dev.name, Declared: "nothing of that name"}
	what := "machine"
	if dev.isSwitch {
		what = "switch"
	}
	var other []*end
	var instead *device
	same := true
	slices.SortFunc(own, func(a, b *end) int { return inventory.CompareNames(a.port, b.port) })
	for _, e := range own {
		if c.link[e.id] < 0 { // the other end was told of already
			continue
		}
		q := c.ends[c.link[e.id]]
		other = append(other, q)
		f.Ports = append(f.Ports, q.ref(), e.ref())
		if m := q.mate(); m == nil || instead != nil && instead != m.dev {
			same = false
		} else {
			instead = m.dev
		}
		c.link[q.id], c.link[e.id] = -1, -1
	}
	if len(other) == 0 {
		return
	}
	f.Found = fmt.Sprintf("cabled to %s", ends(other))
	f.Message = fmt.Sprintf("%s: this %s is not declared; it is cabled to %s", dev.name, what, ends(other))
	f.Action = fmt.Sprintf("find out what it is: unplug it from %s, or declare it", ends(other))
	if same && !instead.isSwitch && c.unseen(instead) {
		c.explain(instead)
		f.Node, f.DeclaredAt = instead.name, c.at(firstCable(instead))
		f.Ports = append([]PortRef{instead.ref()}, f.Ports...)
		f.Declared = instead.name + standsAt(instead.ref())
		f.Found = dev.name + " in its place"
		f.Message = fmt.Sprintf("%s: a machine that calls itself %s has its cables%s", instead.name, dev.name, declaredAs(f.DeclaredAt))
		f.Action = fmt.Sprintf("find out which machine stands where %s belongs%s; if it is right there, give it its name", instead.name, standsAt(instead.ref()))
	}
	c.add(f)
}

// unseen reports that none of a node's adapters was found.
func (c *check) unseen(dev *device) bool {
	return !slices.ContainsFunc(dev.ends, func(e *end) bool { return c.owner[e] != nil || c.link[e.id] >= 0 })
}

// ends names a few ports in a sentence.
func ends(all []*end) string {
	text := all[0].String()
	for i, e := range all[1:] {
		if i == 3 && len(all) > 5 {
			return fmt.Sprintf("%s and %d more", text, len(all)-4)
		}
		text += ", " + e.String()
	}
	return text
}
