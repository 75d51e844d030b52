package ibsimtest

import (
	"fmt"
	"slices"
	"strings"
)

// A unit of a fat tree: so many nodes, with a leaf for each rail; switches have
// as many ports up as down.
const (
	unitNodes   = 32
	switchPorts = 64
)

// end is a port of a device by its name in the net file.
type end struct {
	device string
	port   int
}

// FatTree is a rail-optimised fabric of three tiers as a net file, and its
// links, sorted, as "hnode001 mlx5_0[1] leaf-001[1]". An adapter's node has the
// name that Adapter gives; 766 nodes of 8 rails are 6,128 adapters, 192 leaves,
// 192 spines, 96 cores and 18,416 links.
func FatTree(nodes, rails int) (netFile string, links []string) {
	units := (nodes + unitNodes - 1) / unitNodes
	leaves, cores := units*rails, units*rails*unitNodes/switchPorts
	peers := map[end]end{}
	join := func(a, b end) {
		peers[a], peers[b] = b, a
		links = append(links, fmt.Sprintf("%s[%d] %s[%d]", a.device, a.port, b.device, b.port))
	}
	for n := range nodes {
		for r := range rails {
			join(end{Adapter(n+1, r), 1}, end{fmt.Sprintf("leaf-%03d", n/unitNodes*rails+r+1), n%unitNodes + 1})
		}
	}
	// A rail has as many spines as leaves, so that uplinks and downlinks match.
	for l := range leaves {
		for k := range unitNodes {
			i := l/rails*unitNodes + k // of the rail's uplinks
			spine := l%rails*units + i%units
			join(end{fmt.Sprintf("leaf-%03d", l+1), unitNodes + 1 + k}, end{fmt.Sprintf("spine-%03d", spine+1), i/units + 1})
		}
	}
	for s := range leaves {
		for k := range unitNodes {
			i := s*unitNodes + k
			join(end{fmt.Sprintf("spine-%03d", s+1), unitNodes + 1 + k}, end{fmt.Sprintf("core-%03d", i%cores+1), i/cores + 1})
		}
	}
	slices.Sort(links)
	return writeNet(nodes, rails, map[string]int{"leaf": leaves, "spine": leaves, "core": cores}, peers), links
}

// Adapter is the name of a node's adapter of a rail, from 0.
func Adapter(node, rail int) string { return fmt.Sprintf("hnode%03d mlx5_%d", node, rail) }

func writeNet(nodes, rails int, switches map[string]int, peers map[end]end) string {
	var b strings.Builder
	b.WriteString("width=3\nspeed=7\nextspeed=7\n")
	guid := uint64(0xa088c20300000000)
	device := func(kind, key, name, suffix string, ports int) {
		guid += 0x100
		fmt.Fprintf(&b, "\nvendid=0x2c9\ndevid=0xd2f2\nsysimgguid=0x%x\n%s=0x%[1]x\n%[3]s %[4]d %[5]q\t# %[5]q%[6]s\n", guid, key, kind, ports, name, suffix)
		for p := range ports {
			if q, ok := peers[end{name, p + 1}]; ok {
				fmt.Fprintf(&b, "[%d]\t%q[%d]\t# %[2]q lid 0 4xHDR\n", p+1, q.device, q.port)
			}
		}
	}
	for _, tier := range []string{"leaf", "spine", "core"} {
		for i := range switches[tier] {
			device("Switch", "switchguid", fmt.Sprintf("%s-%03d", tier, i+1), " base port 0 lid 0 lmc 0", switchPorts)
		}
	}
	for n := range nodes {
		for r := range rails {
			device("Ca", "caguid", Adapter(n+1, r), "", 1)
		}
	}
	return b.String()
}
