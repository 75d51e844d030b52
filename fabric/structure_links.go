package fabric

import (
	"fmt"
	"slices"
)

// uplinks finds switches whose cables to the tier above are not like those of
// the switches they share it with: fewer in all, or not equally many to each.
func uplinks(o *Observed, name func(*Node) PortRef) (out []Finding) {
	tier := tiers(o)
	for _, group := range sharing(o, tier) {
		uppers := map[*Node]bool{}
		totals := map[int]int{}
		up := map[*Node]map[*Node]int{}
		for _, n := range group {
			up[n] = upward(n, tier)
			total := 0
			for u, k := range up[n] {
				uppers[u] = true
				total += k
			}
			totals[total]++
		}
		usual := 0
		for total, n := range totals {
			if n > totals[usual] || n == totals[usual] && total > usual {
				usual = total
			}
		}
		if len(group) < 3 || totals[usual]*2 <= len(group) {
			continue // there is no usual
		}
		for _, n := range group {
			if f, ok := unbalanced(n, up[n], uppers, usual, name); ok {
				out = append(out, f)
			}
		}
	}
	return out
}

func upward(n *Node, tier map[*Node]int) map[*Node]int {
	out := map[*Node]int{}
	for _, p := range n.Ports {
		if p.Peer != nil && tier[p.Peer.Node] == tier[n]+1 {
			out[p.Peer.Node]++
		}
	}
	return out
}

// sharing are the switches of a tier that are cabled to the same ones above.
func sharing(o *Observed, tier map[*Node]int) (out [][]*Node) {
	seen := map[*Node]bool{}
	for _, first := range o.Nodes {
		if tier[first] == 0 || seen[first] || len(upward(first, tier)) == 0 {
			continue
		}
		group, queue := []*Node(nil), []*Node{first}
		seen[first] = true
		for len(queue) > 0 {
			n := queue[0]
			queue = queue[1:]
			if tier[n] == tier[first] {
				group = append(group, n)
			}
			for _, p := range n.Ports {
				q := p.Peer
				if q == nil || seen[q.Node] || tier[q.Node]+tier[n] != 2*tier[first]+1 || min(tier[q.Node], tier[n]) != tier[first] {
					continue
				}
				seen[q.Node] = true
				queue = append(queue, q.Node)
			}
		}
		// Those above are looked at for their own tier.
		for n := range seen {
			if tier[n] > tier[first] {
				delete(seen, n)
			}
		}
		out = append(out, group)
	}
	return out
}

// unbalanced holds a switch's uplinks against what is usual among its peers.
func unbalanced(n *Node, up map[*Node]int, uppers map[*Node]bool, usual int, name func(*Node) PortRef) (Finding, bool) {
	total, high, low := 0, 0, usual
	var crowded, bare []string
	even := usual / max(len(uppers), 1)
	for u := range uppers {
		k := up[u]
		total += k
		high, low = max(high, k), min(low, k)
		switch {
		case k > even+1 || k > even && usual%len(uppers) == 0:
			crowded = append(crowded, name(u).Name)
		case k < even:
			bare = append(bare, name(u).Name)
		}
	}
	if total >= usual && (high-low <= 1 && usual%len(uppers) != 0 || high == low) {
		return Finding{}, false
	}
	slices.Sort(crowded)
	slices.Sort(bare)
	r := name(n)
	f := Finding{Class: UnbalancedUplinks, Severity: Error, Node: r.Name, Ports: []PortRef{r},
		Declared: fmt.Sprintf("%d uplinks, as its peers have", usual), Found: fmt.Sprintf("%d uplinks", total)}
	for _, names := range []struct {
		what string
		list []string
	}{{"more than its share to", crowded}, {"less than its share to", bare}} {
		switch len(names.list) {
		case 0:
		case 1, 2, 3:
			f.Found += fmt.Sprintf(", %s %s", names.what, joinNames(names.list))
		default:
			f.Found += fmt.Sprintf(", %s %s and %d more", names.what, joinNames(names.list[:2]), len(names.list)-2)
		}
	}
	f.Message = fmt.Sprintf("%s: %s; its peers have %d, spread evenly", r.Name, f.Found, usual)
	f.Action = fmt.Sprintf("look at the uplinks of %s: plug in what is dark, and move what is doubled to where one is missing", r.Name)
	return f, true
}

func joinNames(names []string) string {
	text := names[0]
	for _, n := range names[1:] {
		text += ", " + n
	}
	return text
}

// unevenRates finds links that run slower than nine tenths of their tier.
func (s *structure) unevenRates() (out []Finding) {
	type group struct {
		tier int
		hca  string
	}
	links := map[group][]Link{}
	var order []group
	for _, l := range s.o.Links() {
		if l.A.Node.inner() || l.B.Node.inner() {
			continue
		}
		if s.tier[l.A.Node] > s.tier[l.B.Node] { // the lower end is A
			l.A, l.B = l.B, l.A
		}
		g := group{tier: min(s.tier[l.A.Node], s.tier[l.B.Node])}
		if _, hca := adapterName(l.A.Node.Description); l.A.Node.Kind != Switch && s.isRail(hca) {
			g.hca = "a rail"
		}
		if links[g] == nil {
			order = append(order, g)
		}
		links[g] = append(links[g], l)
	}
	for _, g := range order {
		count, known := map[lanes]int{}, 0
		for _, l := range links[g] {
			if r := slower(l.A, l.B); r.width > 0 && r.speed != "" {
				count[r]++
				known++
			}
		}
		for usual, n := range count {
			if n*10 < known*9 || known < 4 {
				continue
			}
			for _, l := range links[g] {
				if r := slower(l.A, l.B); r != usual && r.width > 0 && r.speed != "" {
					out = append(out, uneven(l, r, usual, n, known))
				}
			}
		}
	}
	return out
}

func uneven(l Link, runs, usual lanes, n, of int) Finding {
	ports := []PortRef{foundRef(plainName, l.B), foundRef(plainName, l.A)}
	f := Finding{Class: WrongWidth, Severity: Error, Node: ports[1].Name, Ports: ports,
		Declared: fmt.Sprintf("%s, as %d of %d such links", usual, n, of), Found: runs.String()}
	if runs.speed != usual.speed {
		f.Class = WrongSpeed
	}
	if runs.bandwidth() > usual.bandwidth() {
		f.Severity = Warning
	}
	f.Message = fmt.Sprintf("%s: the link to %s runs at %s; %d of %d such links run at %s", ports[1], ports[0], runs, n, of, usual)
	f.Action = fmt.Sprintf("reseat the cable from %s to %s at both ends, then replace it", ports[0], ports[1])
	return f
}
