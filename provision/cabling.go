package provision

import (
	"fmt"

	"github.com/hashicorp/hcl/v2"

	"firstlight/inventory"
	"firstlight/provision/acceptance"
)

// cabling is where the cables of nodes are declared to go.
type cabling struct {
	fabrics  int
	infini   int
	ethernet *inventory.Fabric             // one of them, or nil
	nodes    map[string]map[string]cableTo // by node and adapter
}

// cableTo is the other end of a node's cable.
type cableTo struct {
	fabric *inventory.Fabric
	port   string
	at     hcl.Range
}

func newCabling(c *inventory.Cluster) *cabling {
	k := &cabling{fabrics: len(c.Fabrics), nodes: map[string]map[string]cableTo{}}
	for _, n := range c.Nodes {
		if n.Hardware != nil && len(n.Hardware.HCAs) > 0 && len(c.Fabrics) > 0 {
			k.nodes[n.Name] = make(map[string]cableTo, len(n.Hardware.HCAs))
		}
	}
	for _, f := range c.Fabrics {
		if f.LinkLayer == "ethernet" {
			if k.ethernet == nil || f.Name < k.ethernet.Name {
				k.ethernet = f
			}
		} else {
			k.infini++
		}
		for i := range f.Cables {
			cable := &f.Cables[i]
			k.add(f, cable.ADevice, cable.APort, cable.BDevice, cable.BPort, cable.Range)
			k.add(f, cable.BDevice, cable.BPort, cable.ADevice, cable.APort, cable.Range)
		}
	}
	return k
}

func (k *cabling) add(f *inventory.Fabric, node, hca, device, port string, at hcl.Range) {
	if of := k.nodes[node]; of != nil {
		of[hca] = cableTo{f, device + " port " + port, at}
	}
}

// readable reports that there may be a fabric that can be read: one of
// InfiniBand, or none that is declared.
func (k *cabling) readable() bool { return k.infini > 0 || k.fabrics == 0 }

// unchecked are the declared values of the node's fabric that no part of this
// version can check: their verdict is not-run, and the node does not become ready.
func (k *cabling) unchecked(n *inventory.Node) []acceptance.Check {
	var out []acceptance.Check
	if FabricWindow(n) > 0 {
		out = k.overEthernet(n)
	}
	a := n.Acceptance
	if a == nil || a.Fabric == nil {
		return out
	}
	if want := a.Fabric.MinBandwidth.Text; a.Fabric.Pairwise || want != "" {
		if want == "" {
			want = "every pair measured"
		}
		out = append(out, acceptance.Check{Name: "fabric.pairwise", Verdict: acceptance.NotRun, Part: fabricPart,
			Reading: "this version does not measure bandwidth between nodes and the node will stop at provisioned", Threshold: want, Source: where(a.Range)})
	}
	return out
}

// onlyInfiniBand is the reading of what has another link layer.
const onlyInfiniBand = "this version validates InfiniBand only and the node will stop at provisioned"

// overEthernet are the adapters whose fabric is Ethernet.
func (k *cabling) overEthernet(n *inventory.Node) []acceptance.Check {
	if !k.readable() {
		return []acceptance.Check{{Name: "fabric", Verdict: acceptance.NotRun, Part: fabricPart,
			Reading: onlyInfiniBand, Threshold: fabricThreshold, Source: where(k.ethernet.Range)}}
	}
	var out []acceptance.Check
	for _, h := range n.Hardware.HCAs {
		if c := k.nodes[n.Name][h.Name]; c.fabric != nil && c.fabric.LinkLayer == "ethernet" {
			out = append(out, acceptance.Check{Name: "fabric." + h.Name, Verdict: acceptance.NotRun, Part: fmt.Sprintf("HCA %s (rail %d)", h.Name, h.Rail),
				Reading: onlyInfiniBand, Threshold: c.port, Source: where(c.at)})
		}
	}
	return out
}

// facets are the declared cables of a node: what is proven of them rests on where
// they are declared to go.
func (k *cabling) facets(n *inventory.Node, f *facetList) {
	if n.Hardware == nil {
		return
	}
	of := k.nodes[n.Name]
	for _, h := range n.Hardware.HCAs {
		if c, ok := of[h.Name]; ok {
			f.set("fabric.cable."+device(h), c.port, c.at)
		}
	}
}
