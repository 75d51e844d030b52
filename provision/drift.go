package provision

import (
	"slices"

	"firstlight/inventory"
)

// Drift are the declared values of nodes that are not those their proofs rest
// on, by node. Unlike a plan it does not care whether a node may be touched.
func Drift(want Want, have Known, nodes []*inventory.Node) map[string][]Change {
	r := want.reader()
	out := map[string][]Change{}
	for _, n := range nodes {
		known, ok := have.Nodes[n.Name]
		if !ok {
			continue
		}
		facets := r.facets(n)
		for _, st := range Chain {
			p, proven := known.Proofs[st.State]
			if !proven {
				continue
			}
			for _, c := range changes(p.Facets, facets, st.Facets) {
				if !slices.Contains(out[n.Name], c) { // two proofs may rest on it
					out[n.Name] = append(out[n.Name], c)
				}
			}
		}
	}
	return out
}
