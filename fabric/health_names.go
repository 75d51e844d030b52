package fabric

import "fmt"

// Names gives a port of a found fabric the name that people know it by; nil is
// what the device says of itself.
type Names func(*Port) PortRef

// Names takes the nodes and switches of a fabric for those that are declared, as
// Verify does. A switch is named by the place that it stands in.
func (d *Declared) Names(o *Observed, known Known) Names {
	v := newVerdict(o)
	c := d.check(o.inOrder(), known, &v)
	c.labelSwitches()
	c.labelAdapters()
	c.placeSwitches()
	c.nameDevices()
	return c.names()
}

func (c *check) names() Names {
	return func(p *Port) PortRef {
		if a := c.of[p]; a != nil && a.end != nil {
			return a.end.ref()
		}
		r := foundRef(c.name, p)
		if dev := c.place[p.Node]; dev != nil {
			if e := dev.at(p.Num); e != nil {
				return e.ref()
			}
		}
		return r
	}
}

func (n Names) ref(p *Port) PortRef {
	if n == nil {
		return foundRef(plainName, p)
	}
	return n(p)
}

// of names a port in a sentence.
func (n Names) of(p *Port) string { return n.ref(p).String() }

// both names the ends of a link, and where they stand.
func (n Names) both(l Link) (ports []PortRef, part string) {
	a, b := n.ref(l.A), n.ref(l.B)
	return []PortRef{a, b}, fmt.Sprintf("%s%s — %s%s", a, standsAt(a), b, standsAt(b))
}

// each is a text for either end, and one for both where they say the same.
func (n Names) each(l Link, text func(*Port) string) string {
	a, b := text(l.A), text(l.B)
	if a == b {
		return a + " at both ends"
	}
	return fmt.Sprintf("%s: %s; %s: %s", n.of(l.A), a, n.of(l.B), b)
}
