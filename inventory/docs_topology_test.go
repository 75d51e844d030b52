package inventory

import (
	"fmt"
	"strings"

	"firstlight/inventory/topology"
)

const docsTopologyHead = `## Topologies

A ` + "`topology`" + ` block makes the switches and the cables of its fabric, by these rules. ` + "`firstlight fabric cables`" + ` prints what comes of it,
with rack, unit, port label and length. Generated switches are devices like declared ones: what stands in a rack must fit it, names are used once.

` + "```hcl" + `
fabric "compute" {
  link_layer = "infiniband"
  rate       = "NDR"
  topology "rail_optimized" {
    unit_nodes = 32 # a scalable unit
    reserved   = 1  # its place is the appliance's
    leaf {
      model    = switch_model.qm9700
      racks    = [rack.l1, rack.l2]
      per_rack = 8
    }
    spine {
      model = switch_model.qm9700
    }
    appliance "ufm" {
      ports = 4
    }
  }
}
` + "```" + `

- **Nodes** are taken in the order of ` + "`nodes`" + `. Only adapters with a rail take part; others are free for another fabric's ` + "`cables`" + `.
- **` + "`rail_optimized`" + `**: each unit of ` + "`unit_nodes`" + ` has a leaf for each rail, and all its nodes have the same rails. The node in place *i* of its unit takes port *i* of
  each of the leaves. Leaves are numbered unit by unit, rail by rail.
- **` + "`fat_tree`" + `**: nodes fill the leaves in order, all adapters of a node on ports side by side. A node is not split over leaves unless it has more adapters than a leaf
  has downlinks. With ` + "`unit_nodes`" + ` a new unit begins on a new leaf.
- **Appliances** come after the nodes of the last unit, in the reserved places; each port takes the next leaf of the unit (in a fat tree, the next port).
- **Ports**: downlinks are the low ports; uplinks begin at the middle, or higher where there are more downlinks. A switch's cables to one peer are side by side at both ends.
- **Two tiers** (no ` + "`core`" + `): every leaf reaches every spine with equally many cables. Where a declared ` + "`count`" + ` does not divide, with one more to some, dealt so that the loads of
  any two spines differ by one at most.
- **Three tiers**: units form pods; a leaf reaches the spines of its pod, which all have equally many. Spine *j* of every pod belongs to core group *j*, and cables of a group are
  dealt over its cores in turn. Where cores are fewer than the spines of a pod, or no multiple of them, groups take spines of several places.
- **Counts** that are not given are the least that block nothing: uplinks as many as a full switch has below; spines the least number that carries all uplinks and divides those of a leaf
  (so three units have 16 spines and not 12); cores the least that carry all uplinks of the spines. A ` + "`count`" + ` that cannot carry them is an error, with the sum. Fewer ` + "`uplinks`" + ` make
  a fabric that blocks, if that is what you want.
- **Part-filled units and pods are built out**: their switches have all their uplinks, and a pod all its spines, so that the nodes still to come need no change above the leaf.
- **Racks** of a tier are filled one after the other, each from ` + "`unit`" + ` up, a switch taking the units of its model.

### NVIDIA's DGX SuperPOD

Units of 32 nodes with 8 rails on switches of 64 NDR ports. A test holds the generator against each number of the published table:

| units | nodes | fabric manager | leaf | spine | core | node–leaf cables | leaf–spine | spine–core |
|---|---|---|---|---|---|---|---|---|
`

const docsTopologyTail = `
The published table and the rule differ in one thing. Up to four units one place is the fabric manager's (` + "`reserved = 1`" + ` and an appliance with four ports): 32 × units − 1 nodes
and 8 × nodes + 4 cables to the leaves. From eight units on the table counts full units and no manager; with one, the rule gives %s. Switches and the other cables stay
as they are. Two tiers end at eight units: 64 leaves fill the 64 ports of a spine.

### Labels and lengths

A port's label is its number; with ` + "`cage_ports`" + ` its cage and its place in it; with ` + "`split`" + ` its lane too: port 67 of a split QM9700 is ` + "`%s`" + `, port 34 of an unsplit one ` + "`%s`" + `. An adapter's
label is its name.

Lengths are estimates, for ordering. In a rack: %.2f mm for each unit between the ends, and %.1f m of slack. Between racks: from each unit up to the top of its rack and %.1f m more, to a tray;
%.1f m for each position along the row, %.1f m for each row across (rows in order of their labels, positions counted from the same side); and the slack. Where a unit is not declared the whole
height of the rack counts; where a rack, its ` + "`row` or its `position`" + ` is not declared, there is no length. The class is the shortest of %s m that reaches, copper in a rack up to %d m, else optical.

`

// docsTopologies is the section on topologies: its table comes from the
// generator, which package topology's tests hold against the published one.
func docsTopologies() string {
	var out strings.Builder
	out.WriteString(docsTopologyHead)
	for _, units := range []int{1, 2, 4, 8, 16, 32, 64} {
		nodes, counts := superPOD(units, units <= 4)
		manager, core, top := "–", "–", "–"
		if units <= 4 {
			manager = "4 ports"
		}
		if units > 8 {
			core, top = thousands(counts["core"]), thousands(counts[topology.SpineCore])
		}
		fmt.Fprintf(&out, "| %d | %s | %s | %d | %d | %s | %s | %s | %s |\n", units, thousands(nodes), manager, counts["leaf"], counts["spine"], core,
			thousands(counts[topology.NodeLeaf]), thousands(counts[topology.LeafSpine]), top)
	}
	var managed []string
	for _, units := range []int{8, 16, 32, 64} {
		nodes, counts := superPOD(units, true)
		managed = append(managed, fmt.Sprintf("%s nodes and %s cables", thousands(nodes), thousands(counts[topology.NodeLeaf])))
	}
	lengths := make([]string, len(cableLengths))
	for i, l := range cableLengths {
		lengths[i] = fmt.Sprint(l)
	}
	qm9700 := &SwitchModel{Ports: 64, Split: 2, CagePorts: 2}
	fmt.Fprintf(&out, docsTopologyTail, strings.Join(managed, ", "), (&Switch{Model: qm9700, Split: true}).PortLabel(67), (&Switch{Model: qm9700}).PortLabel(34),
		unitHeight*1000, slack, aboveRack, rackWidth, rowPitch, strings.Join(lengths, ", "), copperReach)
	return out.String()
}

// superPOD lays out a DGX SuperPOD, and counts nodes, switches and cables.
func superPOD(units int, ufm bool) (nodes int, counts map[string]int) {
	s := topology.Spec{Kind: topology.RailOptimized, UnitNodes: 32, Leaf: topology.Tier{Ports: 64}, Spine: &topology.Tier{Ports: 64}}
	nodes = 32 * units
	if ufm {
		nodes--
		s.Reserved, s.Appliances = 1, []topology.Appliance{{Name: "ufm", Ports: 4}}
	}
	if units > 8 {
		s.Core = &topology.Tier{Ports: 64}
	}
	rails := make([]topology.HCA, 8)
	for i := range rails {
		rails[i] = topology.HCA{Port: fmt.Sprint(i), Rail: i + 1}
	}
	for i := range nodes {
		s.Nodes = append(s.Nodes, topology.Node{Name: fmt.Sprintf("n%d", i), HCAs: rails})
	}
	f, problems := topology.Build(s)
	if len(problems) > 0 {
		return 0, nil // shown as nothing: the golden page differs
	}
	counts = map[string]int{}
	for _, w := range f.Switches {
		counts[w.Role]++
	}
	for _, c := range f.Cables {
		counts[c.Tier]++
	}
	return nodes, counts
}

func thousands(n int) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%d,%03d", n/1000, n%1000)
}
