package importer

import (
	"fmt"
	"maps"
	"slices"

	"firstlight/inventory"
)

// roles of switches, by their distance from the hosts.
var roles = []string{"leaf", "spine", "core"}

// place finds the role of every switch, the rail of every adapter and leaf, and
// the rate of the fabric.
func (w *wiring) place() {
	w.findRoles()
	w.findRails()
	count := map[string]int{}
	for _, c := range w.cables {
		count[c.rate]++
	}
	w.rate = commonest(count)
}

// findRoles measures how far switches are from hosts. A switch that hosts are
// a few of the links of is no leaf for them: a subnet manager's host or a
// gateway may be cabled to a spine.
func (w *wiring) findRoles() {
	distance := map[*device]int{}
	var queue []*device
	begin := func(least int) {
		for _, s := range w.switches {
			if s.hosts > 0 && s.hosts*least >= len(s.links) {
				distance[s] = 1
				queue = append(queue, s)
			}
		}
	}
	if begin(10); len(queue) == 0 {
		begin(1 << 20)
	}
	for len(queue) > 0 {
		s := queue[0]
		queue = queue[1:]
		if d := distance[s]; d <= len(roles) {
			s.role = roles[d-1]
		}
		for _, c := range s.links {
			for _, e := range []end{c.a, c.b} {
				if e.sw != nil && distance[e.sw] == 0 {
					distance[e.sw] = distance[s] + 1
					queue = append(queue, e.sw)
				}
			}
		}
	}
}

// findRails looks whether leaves take one adapter of every host each: mlx5_0
// of all hosts on some leaves, mlx5_1 on others. A leaf nine tenths of whose
// hosts agree is a leaf of that rail; the others are told of.
func (w *wiring) findRails() {
	w.rails, w.odd = 0, nil
	for _, a := range w.adapters {
		a.rail = 0
	}
	for _, s := range w.switches {
		s.rail = 0
	}
	ofLeaf := map[*device]map[string]int{}
	for _, a := range w.adapters {
		for _, c := range a.cables {
			for _, e := range []end{c.a, c.b} {
				if e.sw == nil || e.sw.role != "leaf" || !a.host.named {
					continue
				}
				if ofLeaf[e.sw] == nil {
					ofLeaf[e.sw] = map[string]int{}
				}
				ofLeaf[e.sw][a.label]++
			}
		}
	}
	main := map[*device]string{}
	for s, count := range ofLeaf {
		label, total := commonest(count), 0
		for _, n := range count {
			total += n
		}
		if count[label]*10 < total*9 {
			return // leaves take what comes
		}
		main[s] = label
	}
	used := map[string]bool{}
	for _, label := range main {
		used[label] = true
	}
	if len(used) < 2 {
		return // one adapter a host, or one leaf: no rails to tell apart
	}
	rail := map[string]int{}
	for i, label := range slices.SortedFunc(maps.Keys(used), inventory.CompareNames) {
		rail[label] = i + 1
	}
	w.rails = len(rail)
	for s, label := range main {
		s.rail = rail[label]
	}
	w.setRails(rail)
}

func (w *wiring) setRails(rail map[string]int) {
	for _, a := range w.adapters {
		r := rail[a.label]
		for _, c := range a.cables {
			for _, e := range []end{c.a, c.b} {
				if e.sw == nil || e.sw.rail == 0 || r == 0 || !a.host.named {
					continue
				}
				if e.sw.rail == r {
					a.rail = r
					continue
				}
				w.odd = append(w.odd, fmt.Sprintf("%s %s is cabled to %s port %d, a leaf of rail %d, and %s of the other hosts is on rail %d: look whether the cable is where it should be",
					a.host.name, a.label, e.sw.name, e.port, e.sw.rail, a.label, r))
			}
		}
	}
	slices.SortFunc(w.odd, inventory.CompareNames)
}

// commonest is the key that counts most; of equal ones the first by name. An
// empty key counts only where there is no other.
func commonest(count map[string]int) string {
	best := ""
	for _, k := range slices.SortedFunc(maps.Keys(count), inventory.CompareNames) {
		if k != "" && (best == "" || count[k] > count[best]) {
			best = k
		}
	}
	return best
}
