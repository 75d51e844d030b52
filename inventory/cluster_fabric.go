package inventory

import (
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"
)

// Fabric is the declared compute or storage fabric.
type Fabric struct {
	Name      string
	LinkLayer string // "infiniband" or "ethernet"
	Rate      LinkRate
	Cables    []Cable   // declared, or made by the topology
	Topology  *Topology // nil: the cables are declared
	Others    []string  // names in the cables that are neither nodes nor switches
	// ReadThrough are the controller's ports that the fabric is read through; nil:
	// all of InfiniBand that have a link.
	ReadThrough []string
	Partitions  []Partition      // that its nodes are to be in; nil: none is declared
	Limits      map[string]Limit // declared ones, by the name of their attribute
	Range       hcl.Range
}

// Limit is how much a link may count.
type Limit struct {
	Most  int
	Range hcl.Range
}

// FabricPort is a port that a fabric is read through: one of the controller, or
// one of a fabric that ibsim simulates.
type FabricPort struct {
	Simulated bool
	Socket    string // of the simulator
	Port      string // "mlx5_0/2"; of a simulated fabric the adapter to attach at, "" being its first
}

// ParseFabricPort reads an element of a fabric's read_through.
func ParseFabricPort(text string) FabricPort {
	name, ok := strings.CutPrefix(text, "ibsim:")
	if !ok {
		return FabricPort{Port: text}
	}
	socket, adapter, _ := strings.Cut(name, "/")
	return FabricPort{Simulated: true, Socket: socket, Port: adapter}
}

// FabricLimits are the attributes of a fabric's limits, and the default of each;
// -1 is none.
func FabricLimits() map[string]int {
	out := map[string]int{}
	for _, a := range limitsBlock.attrs {
		out[a.name] = -1
		if n, err := strconv.Atoi(a.def); err == nil {
			out[a.name] = n
		}
	}
	return out
}

// Cable joins two ports. Row is its line in the CSV it came from, 0 when unknown.
type Cable struct {
	ADevice, APort string
	BDevice, BPort string
	Tier           string // of a topology: "node-leaf", "leaf-spine" or "spine-core"; else ""
	Row            int
	Range          hcl.Range
}

// SwitchModel is what switches of a model have.
type SwitchModel struct {
	Name      string
	Ports     int // none of them split
	Rate      LinkRate
	Split     int // ports that one port can be split into; 1: none
	SplitRate LinkRate
	CagePorts int // ports in one cage
	Units     int
	Power     Power // of one switch, by its nameplate
	Range     hcl.Range
}

// Switch is one switch, declared or made by a topology.
type Switch struct {
	Name   string
	Model  *SwitchModel // nil only where its declaration is wrong
	Split  bool         // all its ports are split
	Role   string       // "leaf", "spine", "core", or "" when not declared
	Rail   int          // of a leaf: the rail it takes; 0: any
	Rack   *Rack        // nil when not declared
	Unit   int          // 0 when not declared
	GUID   GUID
	Fabric string // the fabric whose topology made it, or ""
	Range  hcl.Range
}

// Ports is how many ports the switch has, numbered from 1.
func (s *Switch) Ports() int {
	switch {
	case s.Model == nil:
		return 0
	case s.Split:
		return s.Model.Ports * s.Model.Split
	}
	return s.Model.Ports
}

// PortRate is the rate that each of its ports can run at.
func (s *Switch) PortRate() LinkRate {
	switch {
	case s.Model == nil:
		return LinkRate{}
	case s.Split:
		return s.Model.SplitRate
	}
	return s.Model.Rate
}

// Topology is how a fabric's switches and cables follow from its nodes.
type Topology struct {
	Kind      string   // "rail_optimized" or "fat_tree"
	Nodes     []string // nil: every node whose hardware has an HCA with a rail
	UnitNodes int      // nodes of a scalable unit; 0: package topology's default
	PodUnits  int      // scalable units of a pod; 0: as many as its spines can take
	Reserved  int      // places of the last unit that no node takes

	Appliances []Appliance // take the reserved places
	Leaf       *Tier
	Spine      *Tier // nil: one tier
	Core       *Tier // nil: two tiers
	Range      hcl.Range
}

// tiers are those there are, from the nodes up.
func (t *Topology) tiers() []*Tier {
	return slices.DeleteFunc([]*Tier{t.Leaf, t.Spine, t.Core}, func(t *Tier) bool { return t == nil })
}

// Appliance is a device of a topology that is neither node nor switch, as a
// fabric manager. Its ports are numbered from 1.
type Appliance struct {
	Name  string
	Ports int
	Rack  *Rack // nil when not declared
	Unit  int   // 0 when not declared
	Range hcl.Range
}

// Tier is one layer of a topology's switches.
type Tier struct {
	Model   *SwitchModel
	Split   bool
	Count   int    // 0: as many as carry what comes from below
	Uplinks int    // 0: as many as a full switch has below
	Name    string // pattern with one %d
	Racks   []*Rack
	Unit    int
	PerRack int // 0: as many as stand above Unit
	Range   hcl.Range
}
