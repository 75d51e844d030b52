package fabric

import (
	"cmp"
	"slices"
	"strings"

	"firstlight/inventory"
)

// Class is what is wrong, in the words of the field.
type Class string

// The classes of findings. A permutation is one finding.
const (
	MissingCable         Class = "missing-cable"         // no light where a cable is declared
	MissingNode          Class = "missing-node"          // a node or switch of which nothing is seen: suspect its power
	MissingHCA           Class = "missing-hca"           // an adapter that the node does not have, or has another in its place
	Miswired             Class = "miswired"              // one cable in a wrong port
	SwappedPair          Class = "swapped-pair"          // two cables, or two nodes, in each other's place
	SwappedRails         Class = "swapped-rails"         // two cables of one node in each other's place
	Rotated              Class = "rotated"               // three or more cables, nodes or switches, each in the next one's place
	SwappedSwitch        Class = "swapped-switch"        // two switches in each other's place
	SwappedRack          Class = "swapped-rack"          // the nodes of two racks in each other's place
	ExtraCable           Class = "extra-cable"           // a cable that is not declared
	UnexpectedNode       Class = "unexpected-node"       // a machine or switch that is not declared
	WrongSpeed           Class = "wrong-speed"           // lanes at another speed
	WrongWidth           Class = "wrong-width"           // another number of lanes
	RailViolation        Class = "rail-violation"        // an adapter on the leaf of another rail
	UnbalancedUplinks    Class = "unbalanced-uplinks"    // a switch whose uplinks are unlike those of its peers
	DuplicateGUID        Class = "duplicate-guid"        // one GUID, more than one device
	DuplicateDescription Class = "duplicate-description" // one name, more than one device
	WrongPartition       Class = "wrong-partition"       // a P_Key table that is not as the declared partitions want it
)

// Severity is how much a finding matters.
type Severity string

// The severities.
const (
	Error   Severity = "error"   // traffic does not flow, or not as planned
	Warning Severity = "warning" // the fabric works, and is not what is declared
)

// PortRef is a port as an engineer finds it. Port is "" where the whole device
// is meant; Rack is "" and Unit 0 where they are not declared.
type PortRef struct {
	Name  string `json:"name"`
	Port  string `json:"port"`
	Rack  string `json:"rack"`
	Unit  int    `json:"unit"`
	Label string `json:"label"` // as it is printed at the port
}

// String is "leaf-04 port 12 (6/2)", "hnode017 ibn3" or "leaf-04".
func (p PortRef) String() string {
	switch {
	case p.Port == "":
		return p.Name
	case p.Port[0] < '0' || p.Port[0] > '9':
		return p.Name + " " + p.Port
	case p.Label == p.Port || p.Label == "":
		return p.Name + " port " + p.Port
	}
	return p.Name + " port " + p.Port + " (" + p.Label + ")"
}

// Finding is one physical action: what is wrong, and what to do about it. The
// first of its ports is where to go.
type Finding struct {
	Class      Class     `json:"class"`
	Severity   Severity  `json:"severity"`
	Node       string    `json:"node"` // the node, or the switch, that it is about
	Ports      []PortRef `json:"ports"`
	Declared   string    `json:"declared"`
	Found      string    `json:"found"`
	DeclaredAt string    `json:"declared_at"` // file:line of the cable or topology; "" without
	Action     string    `json:"action"`
	Message    string    `json:"message"` // all of it but the action, as a sentence
}

// Verdict is a fabric held against what it should be.
type Verdict struct {
	Switches int
	HCAs     int
	Links    int
	Findings []Finding // sorted by rack, unit and port of where to go
	NotRead  []string  // what could not be judged, and why
}

func newVerdict(o *Observed) Verdict {
	v := Verdict{Findings: []Finding{}, NotRead: []string{}}
	for _, n := range o.Nodes {
		switch {
		case n.Kind == Switch:
			v.Switches++
		case !n.inner():
			v.HCAs++
		}
	}
	for _, l := range o.Links() {
		if !l.A.Node.inner() && !l.B.Node.inner() {
			v.Links++
		}
	}
	return v
}

// inOrder is the fabric with its nodes by GUID, so that what is said of it does
// not depend on the order in which it was read.
func (o *Observed) inOrder() *Observed {
	first := func(n *Node) (guid uint64) {
		if len(n.Ports) > 0 {
			guid = n.Ports[0].GUID
		}
		return guid
	}
	nodes := slices.Clone(o.Nodes)
	slices.SortStableFunc(nodes, func(a, b *Node) int {
		return cmp.Or(cmp.Compare(a.GUID, b.GUID), cmp.Compare(a.PortGUID, b.PortGUID), cmp.Compare(first(a), first(b)), strings.Compare(a.Description, b.Description))
	})
	return &Observed{Nodes: nodes}
}

// inner reports adapters inside switches, for reductions in the network: no
// cable leads to them.
func (n *Node) inner() bool {
	return n.Kind != Switch && strings.Contains(n.Description, "Aggregation Node")
}

func sortFindings(all []Finding) {
	slices.SortStableFunc(all, func(a, b Finding) int {
		var p, q PortRef
		if len(a.Ports) > 0 {
			p = a.Ports[0]
		}
		if len(b.Ports) > 0 {
			q = b.Ports[0]
		}
		return cmp.Or(inventory.CompareNames(p.Rack, q.Rack), cmp.Compare(p.Unit, q.Unit), inventory.CompareNames(p.Name, q.Name),
			inventory.CompareNames(p.Port, q.Port), strings.Compare(string(a.Class), string(b.Class)), strings.Compare(a.Message, b.Message))
	})
}
