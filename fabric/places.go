package fabric

import (
	"slices"

	"firstlight/inventory"
)

// Place is a declared adapter of a node, and where it was found.
type Place struct {
	Node, HCA  string
	Rail       int
	RateAt     string // what declares the rate, where the adapter does: "hardware.hcl:31"
	Rate       inventory.LinkRate
	Port       *Port       // nil: it was not found with a link
	Cabled     bool        // a cable is declared for it
	Declared   PortRef     // the other end of that cable
	DeclaredAt string      // "cables.csv:131"
	Found      *PortRef    // the other end of the cable that it has; nil: none
	Right      bool        // that is the declared one
	Member     *Membership // nil: no partition is declared
}

// Judged is a fabric held against its declaration, with where its declared
// adapters were found.
type Judged struct {
	Verdict
	Places map[string][]Place // by node
	Names  Names
	// Nodes are those that have to do with a finding, by its place in Findings.
	Nodes [][]string
}

// Judge is Verify, and says of every declared adapter where it was found. Without
// declared cables an adapter is known by its GUID or its description alone.
func (d *Declared) Judge(o *Observed, known Known) *Judged {
	v, c := d.verify(o, known)
	j := &Judged{Verdict: v, Places: c.places(), Names: c.names()}
	for i := range v.Findings {
		j.Nodes = append(j.Nodes, j.concerned(&v.Findings[i]))
	}
	return j
}

func (c *check) places() map[string][]Place {
	out := map[string][]Place{}
	for _, e := range c.d.ends {
		if e.dev.node == nil || e.hca == nil {
			continue
		}
		p := Place{Node: e.dev.name, HCA: e.port, Rail: e.hca.Rail, Rate: e.hca.Rate, RateAt: c.d.cluster.DeclaredAt(e.hca.Range), Member: c.membership(e)}
		if k := e.cable; k != nil {
			p.Cabled, p.Declared, p.DeclaredAt = true, k.other(e).ref(), c.at(k)
			if p.Rate.Text == "" {
				p.Rate, p.RateAt = k.run.Rate, p.DeclaredAt
			}
		}
		if a := c.owner[e]; a != nil && a.port.Peer != nil {
			p.Port = a.port
			there := foundRef(c.name, a.port.Peer)
			if at := c.found(e); at != nil {
				there = at.ref()
			}
			p.Found, p.Right = &there, c.found(e) != nil && c.found(e) == e.mate()
		}
		out[p.Node] = append(out[p.Node], p)
	}
	return out
}

// concerned are the nodes that have to do with a finding: it is about the node or
// one of its ports, or about a switch of which nothing is seen and that the node
// is cabled to. What is wrong between switches concerns no node.
func (j *Judged) concerned(f *Finding) []string {
	named := map[string]bool{f.Node: true}
	for _, p := range f.Ports {
		named[p.Name] = true
	}
	var out []string
	for node, places := range j.Places {
		if named[node] || f.Class == MissingNode && slices.ContainsFunc(places, func(p Place) bool {
			return p.Cabled && p.Port == nil && named[p.Declared.Name]
		}) {
			out = append(out, node)
		}
	}
	slices.SortFunc(out, inventory.CompareNames)
	return out
}
