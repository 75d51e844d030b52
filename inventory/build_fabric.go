package inventory

import (
	"slices"
	"sort"
	"strconv"
	"strings"
)

// buildFabrics makes the switches and the fabrics.
func (ev *evaluator) buildFabrics(c *Cluster) {
	for _, in := range ev.insts("switch_model") {
		m := switchModel(in)
		c.SwitchModels[in.name] = m
		if m.Split > 1 && m.SplitRate.BitsPerSecond == 0 && !in.wrong("split_rate") {
			ev.errorAt(in.at("split"), in.each, "Missing value", "%s can be split, so it needs a split_rate: what each of the %d parts of a port runs at.", capital(in.label()), m.Split)
		}
	}
	for _, in := range ev.insts("switch") {
		c.Switches = append(c.Switches, ev.switchOf(in))
	}
	for _, in := range ev.insts("fabric") {
		f := &Fabric{Name: in.name, LinkLayer: get[string](in, "link_layer"), Rate: get[LinkRate](in, "rate"), Cables: get[[]Cable](in, "cables"),
			Others: get[[]string](in, "others"), Range: in.rng}
		f.ReadThrough = get[[]string](in, "read_through")
		in.obj = f
		ev.readThrough(in, f)
		ev.partitions(in, f)
		if b := in.one("limits"); b != nil {
			f.Limits = declaredLimits(b)
		}
		if b := in.one("topology"); b != nil {
			f.Topology = ev.topology(in, b)
			ev.generate(c, in, f)
		}
		c.Fabrics[in.name] = f
	}
	sort.SliceStable(c.Switches, func(i, j int) bool { return natural(c.Switches[i].Name, c.Switches[j].Name) < 0 })
}

// readThrough holds the ports that a fabric is read through against what there
// can be: local ports, or attachments to one simulator.
func (ev *evaluator) readThrough(in *inst, f *Fabric) {
	bad := func(format string, args ...any) {
		ev.errorAt(in.at("read_through"), in.each, "Not a port to read through", format, args...)
	}
	if len(f.ReadThrough) > 0 && f.LinkLayer == "ethernet" {
		bad("The link layer of %s is ethernet, and only InfiniBand is read through a port: leave read_through out.", in.label())
		return
	}
	source := ""
	for i, text := range f.ReadThrough {
		s := ParseFabricPort(text)
		_, port, numbered := strings.Cut(s.Port, "/")
		num, err := strconv.Atoi(port)
		switch {
		case s.Simulated && s.Socket == "", !s.Simulated && (s.Port == "" || strings.HasPrefix(s.Port, "/")):
			bad("%q names no port: it is written \"mlx5_0\", \"mlx5_0/2\", \"ibsim:NAME\" or \"ibsim:NAME/ADAPTER\".", text)
		case !s.Simulated && numbered && (err != nil || num < 1 || num > 254):
			bad("%q: behind the slash is the number of the adapter's port, from 1.", text)
		case i > 0 && s.Socket != source:
			bad("%q and %q are ports of different places: a fabric is read through ports of this machine, or in one simulator.", f.ReadThrough[0], text)
		default:
			source = s.Socket
			continue
		}
		return
	}
}

// declaredLimits are those that the block itself gives: the defaults have a
// source of their own.
func declaredLimits(in *inst) map[string]Limit {
	out := map[string]Limit{}
	for _, a := range in.schema.attrs {
		if v := in.val(a.name); in.has(a.name) && !v.rng.Empty() {
			out[a.name] = Limit{Most: get[int](in, a.name), Range: v.rng}
		}
	}
	return out
}

func switchModel(in *inst) *SwitchModel {
	m := &SwitchModel{
		Name: in.name, Ports: get[int](in, "ports"), Rate: get[LinkRate](in, "rate"), Split: get[int](in, "split"),
		SplitRate: get[LinkRate](in, "split_rate"), CagePorts: get[int](in, "cage_ports"), Units: get[int](in, "units"),
		Power: get[Power](in, "power"), Range: in.rng,
	}
	in.obj = m
	return m
}

func (ev *evaluator) switchOf(in *inst) *Switch {
	s := &Switch{
		Name: in.name, Model: object[SwitchModel](in, "model"), Split: get[bool](in, "split"), Role: get[string](in, "role"),
		Rail: get[int](in, "rail"), Rack: object[Rack](in, "rack"), Unit: get[int](in, "unit"), GUID: get[GUID](in, "guid"), Range: in.rng,
	}
	in.obj = s
	ev.splittable(in, s.Model, s.Split)
	return s
}

// splittable reports a split of ports that cannot be split.
func (ev *evaluator) splittable(in *inst, m *SwitchModel, split bool) {
	if split && m != nil && m.Split < 2 {
		ev.errorAt(in.at("split"), in.each, "Ports cannot be split", "Ports of switch_model %q (declared at %s) cannot be split: leave split out, or give the model its split and split_rate.", m.Name, ev.place(m.Range))
	}
}

var topologyKinds = []string{"rail_optimized", "fat_tree"}

// topology reads the topology block of a fabric.
func (ev *evaluator) topology(fabric, in *inst) *Topology {
	t := &Topology{
		Kind: in.name, Nodes: get[[]string](in, "nodes"), UnitNodes: get[int](in, "unit_nodes"), PodUnits: get[int](in, "pod_units"),
		Reserved: get[int](in, "reserved"), Range: in.rng,
		Leaf: ev.tier(in, "leaf"), Spine: ev.tier(in, "spine"), Core: ev.tier(in, "core"),
	}
	for _, b := range in.all("appliance") {
		t.Appliances = append(t.Appliances, Appliance{Name: b.name, Ports: get[int](b, "ports"), Rack: object[Rack](b, "rack"), Unit: get[int](b, "unit"), Range: b.rng})
	}
	if !slices.Contains(topologyKinds, t.Kind) {
		ev.errorAt(in.rng, in.each, "Unknown topology", "There is no topology %q: use %s%s", t.Kind, quoted(topologyKinds), didYouMean(t.Kind, topologyKinds))
	}
	if fabric.val("cables").there {
		ev.errorAt(in.rng, in.each, "Cables declared twice", "%s has a topology, which makes the cables, and cables too (%s): keep one of the two.", capital(fabric.label()), ev.place(fabric.at("cables")))
	}
	return t
}

// tier reads one tier of a topology, or nil when it has none.
func (ev *evaluator) tier(topology *inst, name string) *Tier {
	in := topology.one(name)
	if in == nil {
		return nil
	}
	t := &Tier{
		Model: object[SwitchModel](in, "model"), Split: get[bool](in, "split"), Count: get[int](in, "count"), Uplinks: get[int](in, "uplinks"), Name: get[string](in, "name"),
		Unit: get[int](in, "unit"), PerRack: get[int](in, "per_rack"), Range: in.rng,
	}
	for _, r := range get[[]*inst](in, "racks") {
		if rack, ok := r.obj.(*Rack); ok {
			t.Racks = append(t.Racks, rack)
		}
	}
	ev.splittable(in, t.Model, t.Split)
	return t
}
