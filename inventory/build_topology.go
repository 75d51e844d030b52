package inventory

import (
	"cmp"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"firstlight/inventory/topology"
)

// generate makes the switches and cables that a fabric's topology stands for.
// With a mistake the fabric has none, and all that is wrong is said.
func (ev *evaluator) generate(c *Cluster, fabric *inst, f *Fabric) {
	g := &generator{ev: ev, cluster: c, fabric: fabric, in: fabric.one("topology"), f: f}
	if !g.usable() {
		return
	}
	nodes, ok := g.nodes()
	if !ok || !g.rates(nodes) {
		return
	}
	laid, problems := topology.Build(g.spec(nodes))
	for _, p := range problems {
		g.errorAt(p.Part, "Topology that cannot be built", "%s: %s.", capital(g.fabric.label()), p.Text)
	}
	if laid == nil || !g.namesFree(laid) {
		return
	}
	switches, ok := g.stand(laid)
	if !ok {
		return
	}
	c.Switches = append(c.Switches, switches...)
	f.Cables = make([]Cable, len(laid.Cables))
	for i, k := range laid.Cables {
		f.Cables[i] = Cable{ADevice: k.ADevice, APort: k.APort, BDevice: k.BDevice, BPort: k.BPort, Tier: k.Tier, Range: f.Topology.Range}
	}
	for _, a := range f.Topology.Appliances {
		f.Others = append(slices.Clip(f.Others), a.Name)
	}
}

// generator is one topology block at work.
type generator struct {
	ev      *evaluator
	cluster *Cluster
	fabric  *inst
	in      *inst // the topology block
	f       *Fabric
}

// errorAt records a mistake at what a problem's part names: "unit_nodes",
// "spine.count", or "spine", which may be missing.
func (g *generator) errorAt(part, summary, format string, args ...any) {
	in, attr := g.in, part
	if role, rest, ok := strings.Cut(part, "."); ok {
		in, attr = g.in.one(role), rest
	} else if tier := g.in.one(part); tier != nil {
		in, attr = tier, ""
	}
	g.ev.errorAt(in.at(attr), g.fabric.each, summary, format, args...)
}

// usable reports whether the block says enough to go on; what it lacks has
// been reported.
func (g *generator) usable() bool {
	t := g.f.Topology
	if !slices.Contains(topologyKinds, t.Kind) || t.Leaf == nil || g.fabric.has("cables") {
		return false
	}
	for _, attr := range []string{"nodes", "unit_nodes", "pod_units", "reserved"} {
		if g.in.wrong(attr) {
			return false
		}
	}
	for _, in := range g.in.subs {
		for _, attr := range []string{"count", "uplinks", "name", "racks", "unit", "per_rack", "ports"} {
			if in.wrong(attr) {
				return false
			}
		}
	}
	for _, tier := range t.tiers() {
		if tier.Model == nil || tier.Model.Ports == 0 || tier.Split && tier.Model.Split < 2 {
			return false
		}
	}
	return true
}

// nodes are those of the topology in cabling order: the declared list, or all
// that have an HCA with a rail.
func (g *generator) nodes() ([]*Node, bool) {
	if g.f.Topology.Nodes == nil {
		var out []*Node
		for _, n := range g.cluster.Nodes {
			if n.Hardware != nil && slices.ContainsFunc(n.Hardware.HCAs, func(h HCA) bool { return h.Rail > 0 }) {
				out = append(out, n)
			}
		}
		return out, true
	}
	byName := make(map[string]*Node, len(g.cluster.Nodes))
	names := make([]string, len(g.cluster.Nodes))
	for i, n := range g.cluster.Nodes {
		byName[n.Name], names[i] = n, n.Name
	}
	var out []*Node
	var unknown, twice, bare []string
	seen := make(map[string]bool, len(g.f.Topology.Nodes))
	for _, name := range g.f.Topology.Nodes {
		n := byName[name]
		switch {
		case n == nil:
			unknown = append(unknown, name)
		case seen[name]:
			twice = append(twice, name)
		case n.Hardware == nil && g.ev.named["node"][name].wrong("hardware"):
			return nil, false // reported where it is written
		case n.Hardware == nil || !slices.ContainsFunc(n.Hardware.HCAs, func(h HCA) bool { return h.Rail > 0 }):
			bare = append(bare, name)
		default:
			out = append(out, n)
		}
		seen[name] = true
	}
	if len(unknown) > 0 {
		meant := "."
		if len(unknown) == 1 {
			meant = didYouMean(unknown[0], names)
		}
		g.errorAt("nodes", "Unknown node", "%s is listed, and no node of that name is declared%s", Fold(unknown), meant)
	}
	if len(twice) > 0 {
		g.errorAt("nodes", "Node listed twice", "%s is listed more than once: a node has one place.", Fold(twice))
	}
	if len(bare) > 0 {
		g.errorAt("nodes", "Node without a rail", "%s is listed, and its hardware declares no hca with a rail: there is nothing to cable.", Fold(bare))
	}
	return out, len(unknown)+len(twice)+len(bare) == 0
}

// rates holds the adapters against the ports of their leaf.
func (g *generator) rates(nodes []*Node) bool {
	leaf := g.f.Topology.Leaf
	port := (&Switch{Model: leaf.Model, Split: leaf.Split}).PortRate()
	good, seen := true, map[*Hardware]bool{}
	for _, n := range nodes {
		if seen[n.Hardware] {
			continue
		}
		seen[n.Hardware] = true
		for _, h := range n.Hardware.HCAs {
			if h.Rail > 0 && port.BitsPerSecond > 0 && h.Rate.BitsPerSecond > port.BitsPerSecond {
				good = false
				g.errorAt("leaf", "Rate that one end does not have", "Adapter %s of hardware %q runs at %s (%s), and a port of switch_model %q here at %s at most.",
					h.Name, n.Hardware.Name, h.Rate, g.ev.place(h.Range), leaf.Model.Name, port)
			}
		}
	}
	return good
}

// spec is what the layout is made from. Nodes of one hardware share their list
// of adapters.
func (g *generator) spec(nodes []*Node) topology.Spec {
	t := g.f.Topology
	s := topology.Spec{
		Kind: topology.Kind(t.Kind), UnitNodes: t.UnitNodes, PodUnits: t.PodUnits, Reserved: t.Reserved,
		Leaf: *layoutTier(t.Leaf), Spine: layoutTier(t.Spine), Core: layoutTier(t.Core), Nodes: make([]topology.Node, len(nodes)),
	}
	railed := map[*Hardware][]topology.HCA{}
	for i, n := range nodes {
		hcas, ok := railed[n.Hardware]
		if !ok {
			for _, h := range n.Hardware.HCAs {
				if h.Rail > 0 {
					hcas = append(hcas, topology.HCA{Port: h.Name, Rail: h.Rail})
				}
			}
			slices.SortStableFunc(hcas, func(a, b topology.HCA) int { return cmp.Compare(a.Rail, b.Rail) })
			railed[n.Hardware] = hcas
		}
		s.Nodes[i] = topology.Node{Name: n.Name, HCAs: hcas}
	}
	for _, a := range t.Appliances {
		s.Appliances = append(s.Appliances, topology.Appliance{Name: a.Name, Ports: a.Ports})
	}
	return s
}

func layoutTier(t *Tier) *topology.Tier {
	if t == nil {
		return nil
	}
	return &topology.Tier{Ports: (&Switch{Model: t.Model, Split: t.Split}).Ports(), Uplinks: t.Uplinks, Count: t.Count, Name: t.Name}
}

// namesFree holds the names of a layout against those of all nodes and of the
// switches that there are already.
func (g *generator) namesFree(laid *topology.Fabric) bool {
	taken := make(map[string]hcl.Range, len(g.cluster.Nodes))
	for _, n := range g.cluster.Nodes {
		taken[n.Name] = n.Range
	}
	for _, s := range g.cluster.Switches {
		taken[s.Name] = s.Range
	}
	clashes := map[string][]string{} // by part
	for _, s := range laid.Switches {
		if _, there := taken[s.Name]; there {
			clashes[s.Role+".name"] = append(clashes[s.Role+".name"], s.Name)
		}
	}
	for _, part := range keys(clashes) {
		names := clashes[part]
		g.errorAt(part, "Name in use", "The topology of %s names its switches so that %s would be there twice: %s is declared at %s too. Give them another name pattern.",
			g.fabric.label(), Fold(names), names[0], g.ev.place(taken[names[0]]))
	}
	good := len(clashes) == 0
	for i, a := range g.f.Topology.Appliances {
		if at, there := taken[a.Name]; there {
			good = false
			g.ev.errorAt(g.in.all("appliance")[i].rng, g.fabric.each, "Name in use", "%q is declared at %s too: give the appliance another name.", a.Name, g.ev.place(at))
		}
	}
	return good
}

// stand makes the switches and gives each its place in the racks of its tier.
func (g *generator) stand(laid *topology.Fabric) ([]*Switch, bool) {
	all := make([]Switch, len(laid.Switches))
	out := make([]*Switch, len(all))
	t := g.f.Topology
	tiers := map[string]*Tier{topology.Leaf: t.Leaf, topology.Spine: t.Spine, topology.Core: t.Core}
	number := map[string]int{}
	for i, s := range laid.Switches {
		tier := tiers[s.Role]
		all[i] = Switch{Name: s.Name, Model: tier.Model, Split: tier.Split, Role: s.Role, Rail: s.Rail, Fabric: g.f.Name, Range: tier.Range}
		all[i].Rack, all[i].Unit = tier.place(number[s.Role])
		number[s.Role]++
		out[i] = &all[i]
	}
	good := true
	for _, role := range keys(number) {
		if tier := tiers[role]; len(tier.Racks) > 0 {
			good = g.fits(role, tier, number[role]) && good
		}
	}
	return out, good
}

// fits reports racks of a tier that are too few or too low.
func (g *generator) fits(role string, t *Tier, switches int) bool {
	units := max(t.Model.Units, 1)
	for _, r := range t.Racks {
		if top := t.Unit + t.PerRack*units - 1; r.Height > 0 && top > r.Height {
			g.errorAt(role+".per_rack", "Rack too low", "%d switches of %d U each, from unit %d up, end at unit %d; rack %q ends at unit %d (%s).",
				t.PerRack, units, t.Unit, top, r.Name, r.Height, g.ev.place(r.Range))
			return false
		}
	}
	places := 0
	for _, r := range t.Racks {
		places += t.inRack(r)
	}
	if places < switches {
		g.errorAt(role+".racks", "Too few places", "%s has %d switches of this tier, and these racks have places for %d, from unit %d up: name more racks, or let per_rack be more.",
			capital(g.fabric.label()), switches, places, t.Unit)
		return false
	}
	return true
}

// inRack is how many switches of the tier stand in a rack.
func (t *Tier) inRack(r *Rack) int {
	if t.PerRack > 0 {
		return t.PerRack
	}
	return max((r.Height-t.Unit+1)/max(t.Model.Units, 1), 0)
}

// place is where the tier's i-th switch stands, from 0: racks are filled one
// after the other, from the lowest unit up.
func (t *Tier) place(i int) (*Rack, int) {
	for _, r := range t.Racks {
		n := t.inRack(r)
		if i < n {
			return r, t.Unit + i*max(t.Model.Units, 1)
		}
		i -= n
	}
	return nil, 0
}
