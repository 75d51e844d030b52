package fabric

import (
	"fmt"
	"slices"
	"strconv"

	"firstlight/inventory"
)

// item is a finding that must be there: its class, and ports that it names.
type item struct {
	class Class
	ports []string // "leaf-001 12", "hnode001 ibn3", "hnode001 "
}

// injector breaks something that nothing else has broken and says what must be
// found; nil where it finds nothing to break in this world.
type injector struct {
	class   Class
	trunks  bool   // needs the cables between switches to be declared
	how     string // ways to say identity that it needs, "" is any
	inflict func(w *world) []item
}

var injectors = []injector{
	{MissingCable, false, "", (*world).missingCable},
	{MissingNode, false, "", (*world).missingNode},
	{MissingNode, true, "", (*world).missingSwitch},
	{MissingHCA, false, "", (*world).missingHCA},
	{Miswired, false, "", (*world).miswired},
	{SwappedPair, false, "", (*world).swappedPair},
	{SwappedPair, false, "", (*world).swappedNodes},
	{SwappedRails, false, "", (*world).swappedRails},
	{Rotated, false, "", (*world).rotated},
	{SwappedSwitch, true, "descriptions, GUIDs learned, GUIDs declared", (*world).swappedSwitch},
	{SwappedRack, false, "", (*world).swappedRack},
	{ExtraCable, true, "", (*world).extraCable},
	{ExtraCable, false, "descriptions, hosts only", (*world).extraAdapter},
	{UnexpectedNode, false, "", (*world).unexpectedNode},
	{UnexpectedNode, false, "descriptions, hosts only", (*world).otherNode},
	{WrongSpeed, false, "", (*world).wrongSpeed},
	{WrongWidth, false, "", (*world).wrongWidth},
	{RailViolation, false, "", (*world).railViolation},
	{UnbalancedUplinks, false, "", (*world).unbalanced},
	{DuplicateGUID, false, "", (*world).duplicateGUID},
	{DuplicateDescription, false, "descriptions, hosts only", (*world).duplicateDescription},
	{DuplicateDescription, true, "descriptions", (*world).duplicateSwitch},
	{WrongPartition, false, "", (*world).wrongPartition},
}

// pick returns a random cable that meets a condition and that nothing touched,
// and marks its ends as touched.
func (w *world) pick(ok func(k *inventory.Cable) bool) *inventory.Cable {
	for range 2000 {
		k := &w.f.Cables[w.rng.IntN(len(w.f.Cables))]
		if w.used[k.ADevice] || w.used[k.BDevice] || w.used[k.ADevice+" "+k.APort] || w.used[k.BDevice+" "+k.BPort] || !ok(k) {
			continue
		}
		w.touch(k)
		return k
	}
	return nil
}

func (w *world) touch(k *inventory.Cable) {
	w.used[k.ADevice+" "+k.APort], w.used[k.BDevice+" "+k.BPort] = true, true
	w.used["in "+k.ADevice], w.used["in "+k.BDevice] = true, true
}

// pickNode returns a random cabled node that nothing touched, and marks it.
func (w *world) pickNode() string {
	for {
		n := w.c.Nodes[w.rng.IntN(len(w.c.Nodes))].Name
		if !w.used[n] && !w.used["in "+n] && !w.known.Dark[n] && len(w.adapters(n)) > 0 {
			w.used[n] = true
			return n
		}
	}
}

func (w *world) pickSwitch(ok func(s *inventory.Switch) bool) *inventory.Switch {
	for range 2000 {
		s := w.c.Switches[w.rng.IntN(len(w.c.Switches))]
		if n := w.sw[s.Name]; n != nil && !w.used[s.Name] && !w.used["in "+s.Name] && ok(s) {
			w.used[s.Name] = true
			return s
		}
	}
	return nil
}

// free returns a switch's port with no cable, of a leaf that meets a condition.
func (w *world) free(ok func(s *inventory.Switch) bool) (*inventory.Switch, int) {
	for _, i := range w.rng.Perm(len(w.c.Switches)) {
		s := w.c.Switches[i]
		if w.used[s.Name] || s.Role != "leaf" || !ok(s) {
			continue
		}
		for num := 1; num <= s.Ports(); num++ {
			if key := s.Name + " " + strconv.Itoa(num); w.byPlace[key] == nil && !w.used[key] {
				w.used[key], w.used["in "+s.Name] = true, true
				return s, num
			}
		}
	}
	return nil, 0
}

func anyCable(*inventory.Cable) bool   { return true }
func toNode(k *inventory.Cable) bool   { return k.Tier == "node-leaf" && k.ADevice != "ufm" }
func anySwitch(*inventory.Switch) bool { return true }

// aEnd and bEnd name the ends of a cable: the lower one is a.
func aEnd(k *inventory.Cable) string { return k.ADevice + " " + k.APort }
func bEnd(k *inventory.Cable) string { return k.BDevice + " " + k.BPort }

func (w *world) a(k *inventory.Cable) *Port { return w.port(k.ADevice, k.APort) }
func (w *world) b(k *inventory.Cable) *Port { return w.port(k.BDevice, k.BPort) }

// some is what tests of cables pick from: between switches too where those
// cables are declared.
func (w *world) some() func(*inventory.Cable) bool {
	if w.f.Topology == nil || w.rng.IntN(2) == 0 {
		return toNode
	}
	return anyCable
}

func (w *world) missingCable() []item {
	k := w.pick(w.some())
	unplug(w.a(k))
	return []item{{MissingCable, []string{aEnd(k), bEnd(k)}}}
}

func (w *world) missingNode() []item {
	n := w.pickNode()
	for _, ca := range w.adapters(n) {
		w.remove(ca)
	}
	return []item{{MissingNode, []string{n + " "}}}
}

func (w *world) missingSwitch() []item {
	s := w.pickSwitch(anySwitch)
	w.remove(w.sw[s.Name])
	return []item{{MissingNode, []string{s.Name + " "}}}
}

// missingHCA: the node was inspected, and the adapter was not in it.
func (w *world) missingHCA() []item {
	k := w.pick(toNode)
	for _, h := range w.c.Node(k.ADevice).Hardware.HCAs {
		if ca := w.ca[k.ADevice+" "+h.Name]; ca != nil {
			w.known.Learned[ca.GUID] = Adapter{Node: k.ADevice, HCA: h.Name}
		}
	}
	ca := w.ca[aEnd(k)]
	delete(w.known.Learned, ca.GUID)
	w.remove(ca)
	return []item{{MissingHCA, []string{aEnd(k)}}}
}

// miswired: into a free port, or into that of a cable that hangs loose.
func (w *world) miswired() []item {
	if w.rng.IntN(2) == 0 {
		k := w.pick(toNode)
		if s, num := w.free(func(s *inventory.Switch) bool { return s.Name == k.BDevice }); s != nil {
			w.plug(w.a(k), w.port(s.Name, strconv.Itoa(num)))
			return []item{{Miswired, []string{aEnd(k), bEnd(k), s.Name + " " + strconv.Itoa(num)}}}
		}
		unplug(w.a(k))
		return []item{{MissingCable, []string{aEnd(k), bEnd(k)}}}
	}
	k := w.pick(w.some())
	loose := w.pick(func(l *inventory.Cable) bool {
		return l.BDevice == k.BDevice && l.ADevice != k.ADevice && l.Tier == k.Tier
	})
	if loose == nil {
		unplug(w.a(k))
		return []item{{MissingCable, []string{aEnd(k), bEnd(k)}}}
	}
	unplug(w.b(loose))
	w.plug(w.a(k), w.b(loose))
	return []item{{Miswired, []string{aEnd(k), bEnd(k), bEnd(loose)}}, {MissingCable, []string{aEnd(loose), bEnd(loose)}}}
}

// plug moves the other end of a port's cable.
func (w *world) plug(kept, to *Port) {
	r := lanes{kept.Width, kept.Speed}
	unplug(kept)
	w.join(kept, to, r)
}

func (w *world) swappedPair() []item {
	k := w.pick(w.some())
	l := w.pick(func(l *inventory.Cable) bool {
		return l.Tier == k.Tier && l.ADevice != k.ADevice && (l.BDevice == k.BDevice || w.rng.IntN(100) == 0)
	})
	if l == nil {
		return nil
	}
	exchange(w.b(k), w.b(l))
	return []item{{SwappedPair, []string{aEnd(k), bEnd(k), aEnd(l), bEnd(l)}}}
}

// trade puts the adapters of two nodes in each other's place.
func (w *world) trade(a, b string) {
	x, y := w.adapters(a), w.adapters(b)
	for i := range x {
		exchange(x[i].Ports[0], y[i].Ports[0])
	}
}

func (w *world) swappedNodes() []item {
	a, b := w.pickNode(), w.pickNode()
	if ra, rb := w.c.Node(a).Rack, w.c.Node(b).Rack; len(w.inRack(ra)) == 1 && len(w.inRack(rb)) == 1 {
		return nil
	}
	w.trade(a, b)
	return []item{{SwappedPair, []string{a + " ", b + " "}}}
}

func (w *world) swappedRails() []item {
	k := w.pick(toNode)
	l := w.pick(func(l *inventory.Cable) bool { return l.ADevice == k.ADevice })
	if l == nil {
		unplug(w.a(k))
		return []item{{MissingCable, []string{aEnd(k), bEnd(k)}}}
	}
	exchange(w.a(k), w.a(l))
	return []item{{SwappedRails, []string{aEnd(k), bEnd(k), aEnd(l), bEnd(l)}}}
}

func (w *world) rotated() []item {
	all := []*inventory.Cable{w.pick(w.some())}
	for range 2 + w.rng.IntN(6) {
		l := w.pick(func(l *inventory.Cable) bool {
			return l.Tier == all[0].Tier && l.BDevice == all[0].BDevice && !slices.ContainsFunc(all, func(k *inventory.Cable) bool { return k.ADevice == l.ADevice })
		})
		if l != nil {
			all = append(all, l)
		}
	}
	var ports []string
	for i, k := range all {
		ports = append(ports, aEnd(k), bEnd(k))
		if i > 0 {
			exchange(w.b(all[0]), w.b(k))
		}
	}
	switch len(all) {
	case 1:
		unplug(w.a(all[0]))
		return []item{{MissingCable, ports}}
	case 2:
		return []item{{SwappedPair, ports}}
	}
	return []item{{Rotated, ports}}
}

func (w *world) swappedSwitch() []item {
	a := w.pickSwitch(anySwitch)
	b := w.pickSwitch(func(s *inventory.Switch) bool { return s.Role == a.Role })
	x, y := w.sw[a.Name], w.sw[b.Name]
	x.GUID, y.GUID = y.GUID, x.GUID
	x.Description, y.Description = y.Description, x.Description
	return []item{{SwappedSwitch, []string{a.Name + " ", b.Name + " "}}}
}

func (w *world) inRack(r *inventory.Rack) (out []string) {
	for _, n := range w.c.Nodes {
		if n.Rack == r && len(w.adapters(n.Name)) > 0 {
			out = append(out, n.Name)
		}
	}
	return out
}

func (w *world) swappedRack() []item {
	racks := map[string][]string{}
	for _, n := range w.c.Nodes {
		if n.Rack != nil && len(racks[n.Rack.Name]) == 0 {
			racks[n.Rack.Name] = w.inRack(n.Rack)
		}
	}
	var pair []string
	names := sortedKeys(racks)
	for _, i := range w.rng.Perm(len(names)) {
		nodes := racks[names[i]]
		if len(nodes) < 2 || len(pair) == 1 && len(racks[pair[0]]) != len(nodes) ||
			slices.ContainsFunc(nodes, func(n string) bool { return w.used[n] || w.used["in "+n] || w.known.Dark[n] }) {
			continue
		}
		if pair = append(pair, names[i]); len(pair) == 2 {
			break
		}
	}
	if len(pair) < 2 {
		return nil
	}
	var ports []string
	for i, n := range racks[pair[0]] {
		m := racks[pair[1]][i]
		w.used[n], w.used[m] = true, true
		w.trade(n, m)
		ports = append(ports, n+" ", m+" ")
	}
	return []item{{SwappedRack, ports}}
}

func (w *world) extraCable() []item {
	a, p := w.free(anySwitch)
	if a == nil {
		return nil
	}
	b, q := w.free(func(s *inventory.Switch) bool { return s != a })
	if b == nil {
		return nil
	}
	w.join(w.port(a.Name, strconv.Itoa(p)), w.port(b.Name, strconv.Itoa(q)), lanes{4, "NDR"})
	return []item{{ExtraCable, []string{fmt.Sprintf("%s %d", a.Name, p), fmt.Sprintf("%s %d", b.Name, q)}}}
}

// extraAdapter: a node's other adapter, which is declared and not on this fabric.
func (w *world) extraAdapter() []item {
	s, num := w.free(anySwitch)
	if s == nil {
		return nil
	}
	n := w.pickNode()
	for _, h := range w.c.Node(n).Hardware.HCAs {
		if w.ca[n+" "+h.Name] == nil {
			w.join(w.adapter(n + " " + h.Name).Ports[0], w.port(s.Name, strconv.Itoa(num)), lanes{4, "HDR"})
			return []item{{ExtraCable, []string{fmt.Sprintf("%s %d", s.Name, num), n + " " + h.Name}}}
		}
	}
	return nil
}

func (w *world) unexpectedNode() []item {
	s, num := w.free(anySwitch)
	if s == nil {
		return nil
	}
	ca := w.adapter(fmt.Sprintf("visitor%d mlx5_0", w.rng.IntN(1e6)))
	w.join(ca.Ports[0], w.port(s.Name, strconv.Itoa(num)), lanes{2, "NDR"})
	return []item{{UnexpectedNode, []string{fmt.Sprintf("%s %d", s.Name, num)}}}
}

// otherNode: another machine has all cables of a node.
func (w *world) otherNode() []item {
	n := w.pickNode()
	name := fmt.Sprintf("visitor%d", w.rng.IntN(1e6))
	for i, ca := range w.adapters(n) {
		ca.GUID, ca.Description = w.guid(), fmt.Sprintf("%s mlx5_%d", name, i)
	}
	return []item{{UnexpectedNode, []string{n + " "}}}
}

func (w *world) wrongSpeed() []item {
	k := w.pick(w.some())
	w.a(k).Speed, w.b(k).Speed = "HDR", "HDR"
	return []item{{WrongSpeed, []string{aEnd(k), bEnd(k)}}}
}

func (w *world) wrongWidth() []item {
	k := w.pick(w.some())
	w.a(k).Width, w.b(k).Width = 1, 1
	return []item{{WrongWidth, []string{aEnd(k), bEnd(k)}}}
}

// railViolation: into a free port of another rail, or into that of a cable
// that hangs loose.
func (w *world) railViolation() []item {
	k := w.pick(toNode)
	rail := map[string]int{}
	for _, s := range w.c.Switches {
		rail[s.Name] = s.Rail
	}
	if w.rng.IntN(2) == 0 {
		if s, num := w.free(func(s *inventory.Switch) bool { return s.Rail != rail[k.BDevice] }); s != nil {
			w.plug(w.a(k), w.port(s.Name, strconv.Itoa(num)))
			return []item{{RailViolation, []string{aEnd(k), bEnd(k), s.Name + " " + strconv.Itoa(num)}}}
		}
	}
	loose := w.pick(func(l *inventory.Cable) bool {
		return toNode(l) && rail[l.BDevice] != rail[k.BDevice] && l.ADevice != k.ADevice
	})
	unplug(w.b(loose))
	w.plug(w.a(k), w.b(loose))
	return []item{{RailViolation, []string{aEnd(k), bEnd(k), bEnd(loose)}}, {MissingCable, []string{aEnd(loose), bEnd(loose)}}}
}

// unbalanced is judged only where the cables between switches are not declared.
func (w *world) unbalanced() []item {
	if w.f.Topology != nil {
		return nil
	}
	s := w.pickSwitch(func(s *inventory.Switch) bool { return s.Role == "leaf" })
	if s == nil {
		return nil
	}
	for _, p := range w.sw[s.Name].Ports {
		if p.Peer != nil && p.Peer.Node.Kind == Switch {
			unplug(p)
			break
		}
	}
	return []item{{UnbalancedUplinks, []string{s.Name + " "}}}
}

func (w *world) duplicateGUID() []item {
	k, l := w.pick(toNode), w.pick(toNode)
	x, y := w.ca[aEnd(k)], w.ca[aEnd(l)]
	x.GUID, x.Ports[0].GUID = y.GUID, y.Ports[0].GUID
	return []item{{DuplicateGUID, []string{bEnd(k), bEnd(l)}}}
}

func (w *world) duplicateDescription() []item {
	a, b := w.pickNode(), w.pickNode()
	x, y := w.adapters(a), w.adapters(b)
	for i := range x {
		x[i].Description = y[i].Description
	}
	return []item{{DuplicateDescription, []string{a + " "}}}
}

func (w *world) duplicateSwitch() []item {
	a, b := w.pickSwitch(anySwitch), w.pickSwitch(anySwitch)
	w.sw[a.Name].Description = w.sw[b.Name].Description
	return []item{{DuplicateDescription, []string{a.Name + " "}}}
}

// wrongPartition takes a node, or one of its adapters, out of a partition, makes it a
// lesser member, or puts it where it does not belong.
func (w *world) wrongPartition() []item {
	n := w.pickNode()
	some := slices.DeleteFunc(w.adapters(n), func(ca *Node) bool { return ca.Ports[0].Peer == nil }) // its leaf is gone
	if len(some) == 0 {
		return nil
	}
	if w.rng.IntN(2) == 0 {
		i := w.rng.IntN(len(some))
		some = some[i : i+1]
	}
	how := w.rng.IntN(3)
	it := item{WrongPartition, nil}
	for _, h := range w.c.Node(n).Hardware.HCAs {
		ca := w.ca[n+" "+h.Name]
		if ca == nil || !slices.Contains(some, ca) {
			continue
		}
		p := ca.Ports[0]
		rest := slices.DeleteFunc(slices.Clone(p.PKeys), func(entry uint16) bool { return entry&^inventory.FullMember == 1 })
		switch how {
		case 0:
			p.PKeys = rest
		case 1:
			p.PKeys = append(rest, 1)
		case 2:
			p.PKeys = append(p.PKeys, 0x8055)
		}
		it.ports = append(it.ports, n+" "+h.Name)
		w.touch(w.byPlace[n+" "+h.Name])
	}
	return []item{it}
}

// prune takes out what no sweep could reach: what has no cable.
func (w *world) prune() {
	w.o.Nodes = slices.DeleteFunc(w.o.Nodes, func(n *Node) bool { return linked(n) == 0 })
}
