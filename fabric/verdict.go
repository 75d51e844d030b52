package fabric

import (
	"fmt"

	"firstlight/inventory"
)

// Verify holds a fabric against its declaration. Where no cable is declared,
// the rules of Structural are all that it is held to.
func (d *Declared) Verify(o *Observed, known Known) Verdict {
	v, _ := d.verify(o, known)
	return v
}

func (d *Declared) verify(o *Observed, known Known) (Verdict, *check) {
	if len(d.cables) == 0 {
		v := structural(o)
		c := d.check(o.inOrder(), known, &v)
		c.labelAdapters()
		c.remember()
		c.partitionsOf()
		v.NotRead = append(v.NotRead, "cables: the inventory declares none, so only the structure was judged")
		sortFindings(v.Findings)
		return v, c
	}
	v := newVerdict(o)
	o = o.inOrder()
	c := d.check(o, known, &v)
	c.labelSwitches()
	c.labelAdapters()
	c.placeSwitches()
	c.nameDevices()
	c.remember()
	c.moveNodes()
	c.occupy()
	c.connect()

	c.duplicates()
	c.swappedSwitches()
	c.replacedAdapters()
	c.strange()
	c.missing()
	c.cables()
	c.rates()
	c.partitionsOf()
	if !d.trunks {
		v.Findings = append(v.Findings, uplinks(o, c.name)...)
	}
	sortFindings(v.Findings)
	return v, c
}

// name is what a found node is called.
func (c *check) name(n *Node) PortRef {
	if dev := c.place[n]; dev != nil {
		return dev.ref()
	}
	for _, p := range n.Ports {
		if a := c.of[p]; a != nil && a.end != nil {
			return a.end.dev.ref()
		}
	}
	return plainName(n)
}

// add records a finding.
func (c *check) add(f Finding) {
	c.verdict.Findings = append(c.verdict.Findings, f)
}

// at names the line that declares a cable.
func (c *check) at(k *cable) string {
	if k == nil {
		return ""
	}
	return c.d.cluster.DeclaredAt(k.run.Range)
}

// refs are the ports of some ends.
func refs(ends ...*end) []PortRef {
	out := make([]PortRef, 0, len(ends))
	for _, e := range ends {
		if e != nil {
			out = append(out, e.ref())
		}
	}
	return out
}

// declaredAs ends a sentence about a declaration: " (cables.csv:131)".
func declaredAs(at string) string {
	if at == "" {
		return ""
	}
	return " (" + at + ")"
}

// standsAt is where a device is declared to stand: " (rack a01 unit 3)".
func standsAt(p PortRef) string {
	switch {
	case p.Rack == "":
		return ""
	case p.Unit == 0:
		return fmt.Sprintf(" (rack %s)", p.Rack)
	}
	return fmt.Sprintf(" (rack %s unit %d)", p.Rack, p.Unit)
}

// fold is "hnode[001-008]".
func fold(devs []*device) string {
	names := make([]string, len(devs))
	for i, d := range devs {
		names[i] = d.name
	}
	return inventory.Fold(names)
}
