package fabric

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"firstlight/inventory"
)

// twice finds GUIDs and names that more than one device has. name tells what a
// node is really called, or "" where only its description could say.
type twice struct {
	o      *Observed
	name   func(*Node) PortRef
	listed func(name string) bool // a node or switch is declared so; nil: nothing is declared
}

func (t twice) findings() []Finding { return append(t.guids(), t.names()...) }

// guids finds GUIDs that answer at more than one place. A dump shows such a
// device once, and links to it that it denies.
func (t twice) guids() (out []Finding) {
	at := map[uint64][]PortRef{}
	var order []uint64
	note := func(guid uint64, p *Port) {
		if guid == 0 || p == nil {
			return
		}
		if at[guid] == nil {
			order = append(order, guid)
		}
		at[guid] = append(at[guid], t.portRef(p))
	}
	for _, n := range t.o.Nodes {
		if n.inner() {
			continue
		}
		seen := false // a node counts once, however many cables it has
		for _, p := range n.Ports {
			switch {
			case n.Kind == Switch && p.Claimed != nil && p.Claimed.Node.Kind != Switch:
				note(cmp.Or(p.Claimed.GUID, p.Claimed.Node.GUID), p)
			case p.Peer == nil:
			case n.Kind != Switch:
				note(cmp.Or(p.GUID, n.GUID), p.Peer)
			case !seen:
				seen = true
				note(n.GUID, p)
			}
		}
	}
	for _, guid := range order {
		if ports := at[guid]; len(ports) > 1 {
			byName(ports)
			text := make([]string, len(ports))
			for i, p := range ports {
				text[i] = p.String()
			}
			out = append(out, Finding{Class: DuplicateGUID, Severity: Error, Node: ports[0].Name, Ports: ports,
				Declared: "one device of a GUID", Found: fmt.Sprintf("0x%016x at %s", guid, strings.Join(text, " and ")),
				Message: fmt.Sprintf("GUID 0x%016x answers at %s: neither can be reached for sure", guid, strings.Join(text, " and at ")),
				Action:  "burn the right GUID into the adapter or switch that has the other's: its label has it"})
		}
	}
	return out
}

func byName(ports []PortRef) {
	slices.SortFunc(ports, func(a, b PortRef) int {
		return cmp.Or(inventory.CompareNames(a.Name, b.Name), inventory.CompareNames(a.Port, b.Port))
	})
}

// portRef names a port of a found node.
func (t twice) portRef(p *Port) PortRef {
	r := t.name(p.Node)
	r.Port = strconv.Itoa(p.Num)
	r.Label = r.Port
	return r
}

// names finds names that more than one node or switch has. A name that many
// have was never set.
func (t twice) names() (out []Finding) {
	type call struct{ host, hca string }
	said := map[call][]*Node{}
	for _, n := range t.o.Nodes {
		var k call
		switch {
		case n.inner() || linked(n) == 0:
			continue
		case n.Kind == Switch:
			k.host = switchName(n.Description)
		default:
			if k.host, k.hca = adapterName(n.Description); k.hca == "" {
				continue // all adapters of a node may say the same
			}
		}
		if k.host != "" && (t.listed == nil || t.listed(k.host)) {
			said[k] = append(said[k], n)
		}
	}
	hosts := map[string][]*Node{}
	for k, nodes := range said {
		if len(nodes) > 1 {
			hosts[k.host] = append(hosts[k.host], nodes...)
		}
	}
	for _, host := range sortedKeys(hosts) {
		out = append(out, t.namedAlike(host, hosts[host])...)
	}
	return out
}

// namedAlike is a finding for every device that has another's name.
func (t twice) namedAlike(host string, nodes []*Node) (out []Finding) {
	by := map[string][]PortRef{}
	for _, n := range nodes {
		r := t.name(n)
		if by[r.Name] == nil {
			by[r.Name] = []PortRef{r}
		}
		for _, p := range n.Ports {
			if p.Peer != nil && n.Kind != Switch {
				by[r.Name] = append(by[r.Name], t.portRef(p.Peer))
			}
		}
	}
	for _, ports := range by { // the device itself stays first
		byName(ports[1:])
	}
	names := sortedKeys(by)
	if len(names) == 1 { // the name is all that is known of them
		out = append(out, Finding{Class: DuplicateDescription, Severity: Warning, Node: host, Ports: by[names[0]], Declared: "a name of its own for each",
			Found: fmt.Sprintf("%d devices that call themselves %s", len(nodes), host), Message: fmt.Sprintf("%d devices call themselves %s", len(nodes), host),
			Action: "set the host name of each, and its node description from it"})
		return out
	}
	for _, name := range names {
		if strings.EqualFold(name, host) {
			continue
		}
		out = append(out, Finding{Class: DuplicateDescription, Severity: Warning, Node: name, Ports: by[name], Declared: name, Found: host,
			Message: fmt.Sprintf("%s calls itself %s, as %s does", name, host, host),
			Action:  fmt.Sprintf("set the name of %s, and its node description from it", name)})
	}
	return out
}

// duplicates finds what should be there once.
func (c *check) duplicates() {
	t := twice{o: c.o, name: c.name, listed: func(name string) bool { return c.d.byName[name] != nil }}
	for _, f := range t.findings() {
		f.DeclaredAt = ""
		c.add(f)
	}
}
