package fabric

// Describe gives adapters that do not say whose they are the names that
// inspection of the nodes found for their GUIDs, so that what is judged without a
// declaration is told by name too. What a device says of itself stays.
func (o *Observed) Describe(learned map[uint64]Adapter) {
	for _, n := range o.Nodes {
		if n.Kind == Switch {
			continue
		}
		if host, _ := adapterName(n.Description); host != "" {
			continue
		}
		guids := []uint64{n.GUID, n.PortGUID}
		for _, p := range n.Ports {
			guids = append(guids, p.GUID)
		}
		for _, g := range guids {
			if a, ok := learned[g]; ok && g != 0 {
				n.Description = a.Node + " " + a.HCA
				break
			}
		}
	}
}
