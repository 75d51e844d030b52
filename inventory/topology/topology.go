// Package topology lays out leaf–spine fabrics: from nodes and switch kinds it
// works out the switches and every cable, port by port. It is pure: the same
// Spec gives the same Fabric, and nothing is read or written.
//
// A leaf's downlinks are its low ports, its uplinks begin at the middle. With
// two tiers every leaf reaches every spine; with three, leaves and spines form
// pods, and the spines of one place in their pods share a group of cores.
// Counts that are not given are the least that block nothing.
package topology

import (
	"fmt"
	"strconv"
)

// Kind is how nodes are spread over leaves.
type Kind string

const (
	// RailOptimized has a leaf for each rail of each unit of nodes: HCAs of one
	// rail meet on one leaf.
	RailOptimized Kind = "rail_optimized"
	// FatTree fills leaves with nodes in order, all HCAs of a node side by side.
	FatTree Kind = "fat_tree"
)

// The tiers of cables, by what they join.
const (
	NodeLeaf  = "node-leaf"
	LeafSpine = "leaf-spine"
	SpineCore = "spine-core"
)

// The roles of switches.
const (
	Leaf  = "leaf"
	Spine = "spine"
	Core  = "core"
)

// Spec is what a fabric is made from. Zero numbers take their defaults.
type Spec struct {
	Kind  Kind
	Nodes []Node // in cabling order

	// UnitNodes are the places for nodes in one unit. Default: for
	// RailOptimized half the ports of a leaf; for FatTree each leaf is a unit.
	UnitNodes int
	// PodUnits are the units of a pod, with three tiers. Default: as many as
	// the ports of a spine allow.
	PodUnits int
	// Reserved are places at the end of the last unit that no node takes.
	// Appliances take them; without any they stay free.
	Reserved   int
	Appliances []Appliance

	Leaf  Tier
	Spine *Tier // nil: a single leaf
	Core  *Tier // nil: two tiers
}

// Tier is the switches of one tier, all of one kind.
type Tier struct {
	Ports   int    // of one switch; of a split one, all it is split into
	Uplinks int    // ports to the tier above; default: as many as a full switch has below
	Count   int    // switches in the whole fabric; default: the least that block nothing
	Name    string // a pattern with one %d for the number, from 1; default: "leaf-%02d"
}

// Node is a node and its HCA ports.
type Node struct {
	Name string
	HCAs []HCA // in order of rail; nodes of a kind may share the slice
}

// HCA is one port of a node and the rail that it belongs to.
type HCA struct {
	Port string
	Rail int
}

// Appliance is a device other than a node that is cabled to the leaves of the
// last unit, as a fabric manager is. Its ports are numbered from 1.
type Appliance struct {
	Name  string
	Ports int
}

// Switch is one switch of a fabric.
type Switch struct {
	Name string
	Role string // Leaf, Spine or Core
	Rail int    // of a leaf of RailOptimized, else 0
	Unit int    // of a leaf, from 1, else 0
	Pod  int    // of a leaf or spine with three tiers, from 1, else 0
}

// Cable joins port APort of a device to port BPort of one a tier above.
type Cable struct {
	ADevice, APort string
	BDevice, BPort string
	Tier           string
}

// Fabric is a layout: leaves, then spines, then cores; cables tier by tier.
type Fabric struct {
	Switches []Switch
	Cables   []Cable
}

// Problem is why a Spec cannot be laid out. Part names what to change: a field
// of the Spec as the inventory language spells it ("unit_nodes"), of a tier
// ("spine.count"), or a tier that is missing ("spine").
type Problem struct {
	Part string
	Text string
}

// Build lays a fabric out. With problems there is no Fabric.
func Build(s Spec) (*Fabric, []Problem) {
	l := &layout{spec: s}
	l.checkSpec()
	if len(l.problems) == 0 {
		l.downlinks()
	}
	if len(l.problems) == 0 && s.Spine != nil {
		l.findPods()
		l.spineTier()
	}
	if len(l.problems) == 0 && s.Core != nil {
		l.coreTier()
	}
	if len(l.problems) == 0 {
		l.nameSwitches()
	}
	if len(l.problems) > 0 {
		return nil, l.problems
	}
	return l.fabric(), nil
}

// layout is a fabric being worked out. Cables hold switches by pointer until
// all are named.
type layout struct {
	spec     Spec
	problems []Problem

	leafDown int // ports of a leaf that nodes may take
	leafUp   int
	perUnit  int // most leaves of a unit
	units    int

	leaves, spines, cores []*device
	pods                  [][]*device // leaves by pod
	perPod                int         // spines of a pod
	spineUp               int

	down, middle, top []link
}

// device is a switch and how many of its ports below are taken.
type device struct {
	Switch
	used int
}

// link is a cable with its switches not yet named. a is nil for a node's.
type link struct {
	node, nodePort string
	a, b           *device
	aPort, bPort   int
}

func (l *layout) problem(part, format string, args ...any) {
	l.problems = append(l.problems, Problem{Part: part, Text: fmt.Sprintf(format, args...)})
}

// checkSpec looks at what can be wrong before anything is counted.
func (l *layout) checkSpec() {
	s := l.spec
	if s.Kind != RailOptimized && s.Kind != FatTree {
		l.problem("kind", "there is no kind of topology %q", s.Kind)
	}
	if len(s.Nodes) == 0 {
		l.problem("nodes", "there are no nodes to cable")
	}
	if s.Core != nil && s.Spine == nil {
		l.problem("spine", "a core tier stands on a spine tier, and none is declared: add a spine block")
	}
	if s.PodUnits > 0 && s.Core == nil {
		l.problem("pod_units", "pods are joined by a core tier, and none is declared: add a core block, or leave pod_units out")
	}
	tiers := l.tiers()
	for i, t := range tiers {
		least := 1
		if i < len(tiers)-1 {
			least = 2 // one down, one up
		}
		switch {
		case t.Ports < least:
			l.problem(t.role, "a %s with %d ports joins nothing: it needs %d", t.role, t.Ports, least)
		case t.Uplinks > 0 && i == len(tiers)-1:
			l.problem(t.role+".uplinks", "there is no tier above these switches: leave uplinks out")
		case t.Uplinks >= t.Ports:
			l.problem(t.role+".uplinks", "%d uplinks of %d ports leave none for what is below", t.Uplinks, t.Ports)
		}
	}
}

type namedTier struct {
	*Tier
	role string
}

// tiers are those there are, from the nodes up.
func (l *layout) tiers() []namedTier {
	out := []namedTier{{&l.spec.Leaf, Leaf}}
	if l.spec.Spine != nil {
		out = append(out, namedTier{l.spec.Spine, Spine})
	}
	if l.spec.Core != nil {
		out = append(out, namedTier{l.spec.Core, Core})
	}
	return out
}

// firstUplink is the port before the first uplink: the middle of the switch,
// unless downlinks or uplinks take more than half of it.
func firstUplink(ports, down, up int) int { return min(max(ports/2, down), ports-up) }

// fabric puts names in the place of pointers.
func (l *layout) fabric() *Fabric {
	f := &Fabric{Cables: make([]Cable, 0, len(l.down)+len(l.middle)+len(l.top))}
	for _, tier := range [][]*device{l.leaves, l.spines, l.cores} {
		for _, d := range tier {
			f.Switches = append(f.Switches, d.Switch)
		}
	}
	number := portNumbers(l.tiers())
	for _, k := range l.down {
		f.Cables = append(f.Cables, Cable{k.node, k.nodePort, k.b.Name, number[k.bPort], NodeLeaf})
	}
	for _, k := range l.middle {
		f.Cables = append(f.Cables, Cable{k.a.Name, number[k.aPort], k.b.Name, number[k.bPort], LeafSpine})
	}
	for _, k := range l.top {
		f.Cables = append(f.Cables, Cable{k.a.Name, number[k.aPort], k.b.Name, number[k.bPort], SpineCore})
	}
	return f
}

// portNumbers are the texts of all port numbers: made once, shared by all cables.
func portNumbers(tiers []namedTier) []string {
	most := 0
	for _, t := range tiers {
		most = max(most, t.Ports)
	}
	number := make([]string, most+1)
	for i := range number {
		number[i] = strconv.Itoa(i)
	}
	return number
}
