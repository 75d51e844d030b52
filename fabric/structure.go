package fabric

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"firstlight/inventory"
)

// Structural judges a fabric by itself, without a declaration: what most of it
// does, the rest should do. Hosts reach as many leaves as the others do, one
// for each rail; switches have as many uplinks as their peers; links of a tier
// run alike; and GUIDs and names are there once.
func Structural(o *Observed) Verdict {
	v := structural(o)
	v.NotRead = append(v.NotRead, "wrong-partition: it takes declared partitions")
	return v
}

func structural(o *Observed) Verdict {
	v := newVerdict(o)
	o = o.inOrder()
	s := &structure{o: o, tier: tiers(o)}
	s.findRails()
	v.Findings = append(v.Findings, twice{o: o, name: plainName}.findings()...)
	v.Findings = append(v.Findings, s.offRail()...)
	v.Findings = append(v.Findings, s.fewAdapters()...)
	v.Findings = append(v.Findings, uplinks(o, plainName)...)
	v.Findings = append(v.Findings, s.unevenRates()...)
	sortFindings(v.Findings)
	return v
}

// plainName is what a node calls itself, or its GUID.
func plainName(n *Node) PortRef {
	name := switchName(n.Description)
	if n.Kind != Switch {
		name, _ = adapterName(n.Description)
	}
	if name == "" {
		name = fmt.Sprintf("%s 0x%016x", n.Kind, cmp.Or(n.GUID, n.PortGUID))
	}
	return PortRef{Name: name}
}

// foundRef names a found port: an adapter's by what the host calls it.
func foundRef(name func(*Node) PortRef, p *Port) PortRef {
	r := name(p.Node)
	r.Port = strconv.Itoa(p.Num)
	if _, hca := adapterName(p.Node.Description); p.Node.Kind != Switch && hca != "" {
		r.Port = hca
	}
	r.Label = r.Port
	return r
}

// structure is a fabric with what most of it does.
type structure struct {
	o    *Observed
	tier map[*Node]int    // of switches: 1 leaf, 2 spine, 3 core
	rail map[*Node]string // of leaves: what hosts call the adapter that most have there
}

// tiers measures how far switches are from hosts. A switch of which hosts are a
// few of the links only is no leaf for them.
func tiers(o *Observed) map[*Node]int {
	tier := map[*Node]int{}
	var queue []*Node
	for _, least := range []int{10, 1 << 20} {
		for _, n := range o.Nodes {
			if hosts := hostsOf(n); n.Kind == Switch && hosts > 0 && hosts*least >= linked(n) {
				tier[n] = 1
				queue = append(queue, n)
			}
		}
		if len(queue) > 0 {
			break
		}
	}
	for len(queue) > 0 {
		n := queue[0]
		queue = queue[1:]
		for _, p := range n.Ports {
			if p.Peer != nil && p.Peer.Node.Kind == Switch && tier[p.Peer.Node] == 0 {
				tier[p.Peer.Node] = tier[n] + 1
				queue = append(queue, p.Peer.Node)
			}
		}
	}
	return tier
}

func hostsOf(n *Node) int {
	count := 0
	for _, p := range n.Ports {
		if p.Peer != nil && p.Peer.Node.Kind != Switch && !p.Peer.Node.inner() {
			count++
		}
	}
	return count
}

// findRails looks whether leaves take one adapter of every host each. A leaf
// two thirds of whose named hosts agree is one of that rail.
func (s *structure) findRails() {
	s.rail = map[*Node]string{}
	rails := map[string]bool{}
	for _, n := range s.o.Nodes {
		if s.tier[n] != 1 {
			continue
		}
		count, total := map[string]int{}, 0
		for _, p := range n.Ports {
			if p.Peer == nil {
				continue
			}
			if host, hca := adapterName(p.Peer.Node.Description); p.Peer.Node.Kind != Switch && host != "" && hca != "" {
				count[hca]++
				total++
			}
		}
		best := most(count)
		if total == 0 {
			continue
		}
		if count[best]*3 < total*2 || total < 3 {
			s.rail = map[*Node]string{} // leaves take what comes
			return
		}
		s.rail[n] = best
		rails[best] = true
	}
	if len(rails) < 2 {
		s.rail = map[*Node]string{}
	}
}

// most is the key that counts most; of equal ones the first by name.
func most(count map[string]int) string {
	best := ""
	for k, n := range count {
		if best == "" || n > count[best] || n == count[best] && inventory.CompareNames(k, best) < 0 {
			best = k
		}
	}
	return best
}

// offRail finds adapters on the leaf of another rail. Two of one host, each on
// the other's, are one finding.
func (s *structure) offRail() (out []Finding) {
	type stray struct {
		port      *Port
		hca, rail string
	}
	byHost := map[string][]stray{}
	for _, n := range s.o.Nodes {
		host, hca := adapterName(n.Description)
		if n.Kind == Switch || n.inner() || host == "" {
			continue
		}
		for _, p := range n.Ports {
			if p.Peer == nil {
				continue
			}
			if rail := s.rail[p.Peer.Node]; rail != "" && rail != hca && s.isRail(hca) {
				byHost[host] = append(byHost[host], stray{p, hca, rail})
			}
		}
	}
	for _, host := range sortedKeys(byHost) {
		all := byHost[host]
		slices.SortFunc(all, func(a, b stray) int { return inventory.CompareNames(a.hca, b.hca) })
		for len(all) > 0 {
			a := all[0]
			all = all[1:]
			f := Finding{Class: RailViolation, Severity: Error, Node: host, Ports: []PortRef{foundRef(plainName, a.port.Peer), foundRef(plainName, a.port)},
				Declared: "the rail of the other hosts' " + a.hca, Found: "the rail of " + a.rail}
			f.Message = fmt.Sprintf("%s %s: cabled to %s, a leaf of %s; %s of the other hosts is on another", host, a.hca, f.Ports[0], a.rail, a.hca)
			f.Action = fmt.Sprintf("move the cable of %s at %s to the leaf that takes %s", f.Ports[1], f.Ports[0], a.hca)
			if i := slices.IndexFunc(all, func(b stray) bool { return b.hca == a.rail && b.rail == a.hca }); i >= 0 {
				b := all[i]
				all = slices.Delete(all, i, i+1)
				f.Class = SwappedRails
				f.Ports = append(f.Ports, foundRef(plainName, b.port.Peer), foundRef(plainName, b.port))
				f.Message = fmt.Sprintf("%s: %s is cabled to %s and %s to %s: each is on the other's rail", host, f.Ports[1].Port, f.Ports[0], f.Ports[3].Port, f.Ports[2])
				f.Action = fmt.Sprintf("swap the cables at %s and %s", f.Ports[1], f.Ports[3])
			}
			out = append(out, f)
		}
	}
	return out
}

func (s *structure) isRail(hca string) bool {
	for _, r := range s.rail {
		if r == hca {
			return true
		}
	}
	return false
}

// fewAdapters finds hosts of which fewer adapters are linked than of their
// like. A host with less than half of what most have is of another kind.
func (s *structure) fewAdapters() (out []Finding) {
	have := map[string]map[string]bool{}
	for _, n := range s.o.Nodes {
		host, hca := adapterName(n.Description)
		if n.Kind == Switch || n.inner() || host == "" || hca == "" || linked(n) == 0 {
			continue
		}
		if have[host] == nil {
			have[host] = map[string]bool{}
		}
		have[host][hca] = true
	}
	count := func() map[string]int {
		usual := map[string]int{}
		for _, hcas := range have {
			for hca := range hcas {
				usual[hca]++
			}
		}
		maps.DeleteFunc(usual, func(_ string, n int) bool { return n*2 <= len(have) })
		return usual
	}
	usual := count()
	maps.DeleteFunc(have, func(_ string, hcas map[string]bool) bool {
		n := 0
		for hca := range usual {
			if hcas[hca] {
				n++
			}
		}
		return n*2 < len(usual)
	})
	usual = count()
	if len(have) < 4 {
		return nil
	}
	for _, host := range sortedKeys(have) {
		for _, hca := range sortedKeys(usual) {
			if have[host][hca] || usual[hca]*10 < len(have)*9 && len(have)-usual[hca] > 1 {
				continue
			}
			out = append(out, Finding{Class: MissingCable, Severity: Error, Node: host, Ports: []PortRef{{Name: host, Port: hca, Label: hca}},
				Declared: fmt.Sprintf("%d of %d hosts have %s linked", usual[hca], len(have), hca), Found: "no link of " + hca,
				Message: fmt.Sprintf("%s %s: no link, as %d of %d hosts have", host, hca, usual[hca], len(have)),
				Action:  fmt.Sprintf("plug in, reseat or replace the cable of %s %s; look whether the host has the adapter", host, hca)})
		}
	}
	return out
}

func sortedKeys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.SortFunc(out, inventory.CompareNames)
	return out
}
