package inventory

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/hashicorp/hcl/v2"
)

// device is one end of cables: a node, a switch, or something that only the
// cables name.
type device struct {
	node  *inst
	hw    *Hardware
	sw    *Switch
	used  []int32          // cable of each port, from 1; by HCA of a node, by number of a switch
	other map[string]int32 // the same, of ports that have no place in used
}

// cableChecks holds the ports that cables take, over all fabrics.
type cableChecks struct {
	ev       *evaluator
	switches map[string]*Switch
	devices  map[string]*device
	cables   []*Cable
	said     map[string]int // mistakes of a kind in the fabric at hand
	strays   map[stray]*strayNodes
	order    []stray
}

// stray is a port that a class of hardware does not have, or has uncabled.
type stray struct {
	hw   *Hardware
	port string
	have bool
}

type strayNodes struct {
	at    hcl.Range
	each  *each
	names []string
}

// maxAlike is how many mistakes of one kind are told of one fabric's cables.
const maxAlike = 20

// checkCables holds every cable against the devices at its ends, and every
// device against its cables.
func (ev *evaluator) checkCables(c *Cluster) {
	k := &cableChecks{ev: ev, switches: map[string]*Switch{}, devices: map[string]*device{}, strays: map[stray]*strayNodes{}}
	for _, s := range c.Switches {
		k.switches[s.Name] = s
	}
	var first *inst
	missing := false // the cables of a topology with a mistake in it
	for _, in := range ev.insts("fabric") {
		f, ok := in.obj.(*Fabric)
		if !ok {
			continue
		}
		ev.checkRates(in, f, c)
		if len(f.Cables) == 0 {
			missing = missing || f.Topology != nil
			continue
		}
		if first == nil {
			first = in
		}
		k.said = map[string]int{}
		for i := range f.Cables {
			k.cable(in, f, &f.Cables[i])
		}
		for _, summary := range keys(k.said) {
			if more := k.said[summary] - maxAlike; more > 0 {
				ev.errorAt(in.at("cables"), in.each, summary, "%d more cables of %s have this mistake.", more, in.label())
			}
		}
	}
	if first != nil && !missing {
		k.uncabled(first)
	}
	k.tellStrays()
}

// errorAt records a mistake of a cable, unless enough have been told.
func (k *cableChecks) errorAt(in *inst, c *Cable, summary, format string, args ...any) {
	if k.said[summary]++; k.said[summary] <= maxAlike {
		k.ev.errorAt(c.Range, in.each, summary, format, args...)
	}
}

func (k *cableChecks) cable(in *inst, f *Fabric, c *Cable) {
	if c.ADevice == c.BDevice && c.APort == c.BPort {
		k.errorAt(in, c, "Bad cable", "Both ends of this cable are %s port %s.", c.ADevice, c.APort)
		return
	}
	k.cables = append(k.cables, c)
	a, b := k.device(in, f, c, c.ADevice), k.device(in, f, c, c.BDevice)
	ha, okA := k.take(in, a, c, c.ADevice, c.APort)
	hb, okB := k.take(in, b, c, c.BDevice, c.BPort)
	if !okA || !okB {
		return
	}
	switch {
	case ha != nil && b.sw != nil:
		k.nodeLink(in, c, ha, b.sw, c.ADevice, c.BPort)
	case hb != nil && a.sw != nil:
		k.nodeLink(in, c, hb, a.sw, c.BDevice, c.APort)
	}
}

// device finds what a cable names. Without declared switches a name that is
// not a node's is taken for one.
func (k *cableChecks) device(in *inst, f *Fabric, c *Cable, name string) *device {
	if d := k.devices[name]; d != nil {
		return d
	}
	d := &device{other: map[string]int32{}}
	if n := k.ev.named["node"][name]; n != nil {
		d.node, d.hw = n, object[Hardware](n, "hardware")
		if d.hw != nil {
			d.used = make([]int32, len(d.hw.HCAs)+1)
		}
	} else if s := k.switches[name]; s != nil {
		d.sw, d.used = s, make([]int32, s.Ports()+1)
	} else if len(k.switches) > 0 && !slices.Contains(f.Others, name) {
		names := append(keys(k.switches), keys(k.ev.named["node"])...)
		k.errorAt(in, c, "Unknown device", "%q is neither a declared node nor a switch%s What is neither, as a subnet manager's host, is listed in the fabric's others.", name, didYouMean(name, names))
	}
	k.devices[name] = d
	return d
}

// take notes that a cable uses a port. hca is the node's adapter; ok is false
// when the port does not exist.
func (k *cableChecks) take(in *inst, d *device, c *Cable, name, port string) (hca *HCA, ok bool) {
	at := 0
	switch {
	case d.sw != nil && d.sw.Model != nil:
		n, err := strconv.Atoi(port)
		if err != nil || n < 1 || n > d.sw.Ports() {
			k.errorAt(in, c, "No such port", "%s has no port %s: %s has ports 1 to %d.", name, port, k.modelText(d.sw), d.sw.Ports())
			return nil, false
		}
		at = n
	case d.hw != nil && len(d.hw.HCAs) > 0:
		i := slices.IndexFunc(d.hw.HCAs, func(h HCA) bool { return h.Name == port })
		if i < 0 {
			k.stray(stray{d.hw, port, false}, c.Range, in.each, name)
			return nil, false
		}
		at, hca = i+1, &d.hw.HCAs[i]
	}
	slot := d.other[port]
	if at > 0 {
		slot = d.used[at]
	}
	if slot > 0 {
		k.errorAt(in, c, "Port cabled twice", "%s port %s is also declared at %s.", name, port, k.ev.place(k.cables[slot-1].Range))
		return hca, true
	}
	slot = int32(len(k.cables))
	if at > 0 {
		d.used[at] = slot
	} else {
		d.other[port] = slot
	}
	return hca, true
}

func (k *cableChecks) modelText(s *Switch) string {
	text := fmt.Sprintf("switch_model %q", s.Model.Name)
	if s.Split {
		text += fmt.Sprintf(" with split ports (%s)", k.ev.place(s.Range))
	}
	return text
}

// nodeLink checks a cable from a node's adapter to a switch.
func (k *cableChecks) nodeLink(in *inst, c *Cable, h *HCA, s *Switch, node, port string) {
	if h.Rail > 0 && s.Rail > 0 && h.Rail != s.Rail {
		k.errorAt(in, c, "Cable to another rail", "%s of %s is on rail %d, and %s, at the other end, is the leaf of rail %d (%s).", h.Name, node, h.Rail, s.Name, s.Rail, k.ev.place(s.Range))
	}
	if rate := s.PortRate(); h.Rate.BitsPerSecond > rate.BitsPerSecond && rate.BitsPerSecond > 0 {
		k.errorAt(in, c, "Rate that one end does not have", "%s of %s runs at %s (%s), and %s port %s at %s at most: it is a %s.",
			h.Name, node, h.Rate, k.ev.place(h.Range), s.Name, port, rate, k.modelText(s))
	}
}

// uncabled finds adapters on a rail that no fabric cables.
func (k *cableChecks) uncabled(fabric *inst) {
	for _, n := range k.ev.insts("node") {
		hw := object[Hardware](n, "hardware")
		if hw == nil {
			continue
		}
		d := k.devices[n.name]
		for i, h := range hw.HCAs {
			if h.Rail > 0 && (d == nil || d.used[i+1] == 0) {
				k.stray(stray{hw, h.Name, true}, fabric.at("cables"), fabric.each, n.name)
			}
		}
	}
}

func (k *cableChecks) stray(s stray, at hcl.Range, ea *each, node string) {
	found := k.strays[s]
	if found == nil {
		if len(k.order) >= 100 {
			return // a name of its own for every port: enough has been said
		}
		found = &strayNodes{at: at, each: ea}
		k.strays[s] = found
		k.order = append(k.order, s)
	}
	found.names = append(found.names, node)
}

func (k *cableChecks) tellStrays() {
	for _, s := range k.order {
		found := k.strays[s]
		if s.have {
			k.ev.errorAt(found.at, found.each, "Rail without a cable", "%s of %s is on a rail (hardware %q, %s), and no cable of any fabric ends there.",
				s.port, Fold(found.names), s.hw.Name, k.ev.place(s.hw.Range))
			continue
		}
		names := hcaNames(s.hw)
		k.ev.errorAt(found.at, found.each, "Undeclared port", "%s of %s has a cable, but hardware %q declares no hca of that name: %s%s",
			s.port, Fold(found.names), s.hw.Name, listed(names), didYouMean(s.port, names))
	}
}

// checkRates holds a fabric's rate against its link layer and its switches.
func (ev *evaluator) checkRates(in *inst, f *Fabric, c *Cluster) {
	if f.Rate.Text == "" {
		return
	}
	if layer := f.Rate.layer(); layer != "" && f.LinkLayer != "" && layer != f.LinkLayer {
		ev.errorAt(in.at("rate"), in.each, "Rate of another link layer", "%s is a rate of %s, and the link layer of %s is %s.", f.Rate, layer, in.label(), f.LinkLayer)
	}
	if f.Topology == nil {
		return
	}
	for _, t := range f.Topology.tiers() {
		if t.Model == nil {
			continue
		}
		s := Switch{Model: t.Model, Split: t.Split}
		if rate := s.PortRate(); rate.BitsPerSecond > 0 && rate.BitsPerSecond < f.Rate.BitsPerSecond && f.Topology.Spine != nil {
			ev.errorAt(t.Range, in.each, "Rate that one end does not have", "The links between switches of %s run at %s (%s), and a port of switch_model %q here at %s at most.",
				in.label(), f.Rate, ev.place(in.at("rate")), t.Model.Name, rate)
		}
	}
}
