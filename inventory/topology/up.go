package topology

import (
	"fmt"
	"slices"
)

// findPods deals the leaves to pods: one pod of all with two tiers.
func (l *layout) findPods() {
	if l.spec.Core == nil {
		l.pods = [][]*device{l.leaves}
		return
	}
	if l.spec.PodUnits == 0 {
		l.spec.PodUnits = min(max(l.spineDown()/l.perUnit, 1), l.units)
	}
	for _, d := range l.leaves {
		d.Pod = (d.Unit-1)/l.spec.PodUnits + 1
		if d.Pod > len(l.pods) {
			l.pods = append(l.pods, nil)
		}
		l.pods[d.Pod-1] = append(l.pods[d.Pod-1], d)
	}
}

// spineDown are the ports of a spine that leaves may take.
func (l *layout) spineDown() int {
	switch {
	case l.spec.Core == nil:
		return l.spec.Spine.Ports
	case l.spec.Spine.Uplinks > 0:
		return l.spec.Spine.Ports - l.spec.Spine.Uplinks
	}
	return l.spec.Spine.Ports / 2
}

// fullPod are the leaves of a pod with all its units.
func (l *layout) fullPod() int {
	if l.spec.Core == nil {
		return len(l.leaves)
	}
	return l.spec.PodUnits * l.perUnit
}

// spineTier counts the spines and cables every leaf to every spine of its pod.
func (l *layout) spineTier() {
	l.perPod = l.spinesOfPod()
	l.bound("leaf", len(l.leaves), l.leafUp)
	if len(l.problems) > 0 {
		return
	}
	l.middle = slices.Grow(l.middle, len(l.leaves)*l.leafUp)
	for p, leaves := range l.pods {
		spines := make([]*device, l.perPod)
		for i := range spines {
			spines[i] = &device{Switch: Switch{Role: Spine}}
			if l.spec.Core != nil {
				spines[i].Pod = p + 1
			}
		}
		l.spines = append(l.spines, spines...)
		l.middle = deal(l.middle, leaves, spines, l.leafUp, firstUplink(l.spec.Leaf.Ports, l.leafDown, l.leafUp))
	}
}

// spinesOfPod is the least number of spines that carries every uplink of a
// full pod, and of those the least that gives each leaf equally many cables to
// each spine; or the declared number, if that carries the uplinks there are.
func (l *layout) spinesOfPod() int {
	t, down, full := l.spec.Spine, l.spineDown(), l.fullPod()
	need := (full*l.leafUp + down - 1) / down
	switch {
	case t.Count > 0:
		return l.declaredSpines()
	case full > down:
		l.tooWide(full, down)
		return 0
	case need > l.leafUp:
		l.problem("spine", "%d leaves × %d uplinks need %d spines of %d ports, and a leaf with %d uplinks reaches no more than %d", full, l.leafUp, need, down, l.leafUp, l.leafUp)
		return 0
	}
	for n := need; n <= l.leafUp; n++ {
		if l.leafUp%n == 0 {
			return n
		}
	}
	return need
}

// tooWide says what to do when a spine has fewer ports than there are leaves.
func (l *layout) tooWide(leaves, ports int) {
	part, in, next := "spine", "", "a core tier joins more leaves, and so do switches with more ports"
	if l.spec.Core != nil {
		part, in, next = "pod_units", " of a pod", "switches with more ports are needed"
		if l.spec.PodUnits > 1 {
			next = fmt.Sprintf("with %d leaves in a unit, %d units fit a pod", l.perUnit, ports/l.perUnit)
		}
	}
	l.problem(part, "%d leaves%s each reach every spine, and a spine has %d ports for them: %s", leaves, in, ports, next)
}

func (l *layout) declaredSpines() int {
	t, down, pods := l.spec.Spine, l.spineDown(), len(l.pods)
	most := 0
	for _, p := range l.pods {
		most = max(most, len(p))
	}
	n, in := t.Count/pods, ""
	if l.spec.Core != nil {
		in = " of a pod"
	}
	switch {
	case t.Count%pods != 0:
		l.problem("spine.count", "%d spines cannot be shared equally by %d pods", t.Count, pods)
	case n > l.leafUp:
		l.problem("spine.count", "a leaf with %d uplinks cannot reach all %d spines%s", l.leafUp, n, in)
	case most*l.leafUp > n*down:
		l.problem("spine.count", "%d leaves × %d uplinks need %d spine ports%s; %d × %d = %d", most, l.leafUp, most*l.leafUp, in, n, down, n*down)
	}
	return n
}

// coreTier counts the cores and cables the spines to them. The spines of one
// place in their pods share a group of cores, so that a core reaches every pod;
// where the cores are no multiple of the spines of a pod, so do spines of a few
// places.
func (l *layout) coreTier() {
	l.spineUp = l.spec.Spine.Uplinks
	if l.spineUp == 0 {
		l.spineUp = (l.fullPod()*l.leafUp + l.perPod - 1) / l.perPod
		l.spineUp = min(l.spineUp, l.spec.Spine.Ports-l.spineDown())
	}
	count := l.coreCount()
	l.bound("spine", len(l.spines), l.spineUp)
	if len(l.problems) > 0 {
		return
	}
	l.top = slices.Grow(l.top, len(l.spines)*l.spineUp)
	groups := gcd(count, l.perPod)
	from := firstUplink(l.spec.Spine.Ports, l.spineDown(), l.spineUp)
	for g := range groups {
		cores := make([]*device, count/groups)
		for i := range cores {
			cores[i] = &device{Switch: Switch{Role: Core}}
		}
		l.cores = append(l.cores, cores...)
		var spines []*device
		for pod := range l.pods {
			places := l.spines[pod*l.perPod : (pod+1)*l.perPod]
			spines = append(spines, places[g*l.perPod/groups:(g+1)*l.perPod/groups]...)
		}
		l.top = deal(l.top, spines, cores, l.spineUp, from)
	}
}

// coreCount is the least number of cores that carries every uplink, a multiple
// or a divisor of the spines of a pod; or the declared number, if it does.
func (l *layout) coreCount() int {
	t := l.spec.Core
	cables := len(l.spines) * l.spineUp
	if n := t.Count; n > 0 {
		groups := gcd(n, l.perPod)
		switch {
		case n/groups > l.spineUp:
			l.problem("core.count", "%d cores and %d spines of a pod make %d groups, and a spine with %d uplinks cannot reach all %d cores of its group", n, l.perPod, groups, l.spineUp, n/groups)
		case cables > n*t.Ports:
			l.problem("core.count", "%d spines × %d uplinks need %d core ports; %d × %d = %d", len(l.spines), l.spineUp, cables, n, t.Ports, n*t.Ports)
		}
		return n
	}
	need := (cables + t.Ports - 1) / t.Ports
	for n := need; n <= l.perPod; n++ {
		if l.perPod%n == 0 {
			return n
		}
	}
	per := (need + l.perPod - 1) / l.perPod
	if per > l.spineUp {
		l.problem("core", "%d spines × %d uplinks need %d cores of %d ports in a group, and a spine reaches no more than %d", len(l.spines), l.spineUp, per, t.Ports, l.spineUp)
	}
	return per * l.perPod
}

// bound refuses a tier of more cables than any fabric has: a slip in a number
// must not take all memory.
func (l *layout) bound(part string, switches, uplinks int) {
	if switches*uplinks > maxCables {
		l.problem(part, "%d switches × %d uplinks are %d cables, and %d are the most of a tier", switches, uplinks, switches*uplinks, maxCables)
	}
}

// maxCables is more than three tiers of switches with 128 ports can have.
const maxCables = 1 << 20

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// deal cables each lower switch to all upper ones: equally many to each, and
// what does not divide goes round, so that the loads of the upper ones differ by
// one at most. A switch's cables to one peer are side by side at both ends.
func deal(out []link, lower, upper []*device, uplinks, from int) []link {
	base, extra := uplinks/len(upper), uplinks%len(upper)
	start := 0
	for _, a := range lower {
		port := from
		for i, b := range upper {
			n := base
			if (i-start+len(upper))%len(upper) < extra {
				n++
			}
			for range n {
				port++
				b.used++
				out = append(out, link{a: a, b: b, aPort: port, bPort: b.used})
			}
		}
		start = (start + extra) % len(upper)
	}
	return out
}
