package fabric

import (
	"fmt"

	"firstlight/inventory"
)

// lanes are the width and speed that the name of a rate stands for.
type lanes struct {
	width int
	speed string
}

func (l lanes) String() string {
	if name := RateName(l.width, l.speed); name != "" {
		return fmt.Sprintf("%s (%dx %s)", name, l.width, l.speed)
	}
	return fmt.Sprintf("%dx %s", l.width, l.speed)
}

// lanesOf are the lanes that the name of a rate stands for.
func lanesOf(r inventory.LinkRate) (lanes, bool) {
	width, speed, ok := r.Lanes()
	return lanes{width, speed}, ok
}

// tierRate is a group of links that should run alike.
type tierRate struct {
	tier string
	rate inventory.LinkRate
}

// rated is a link that is where it should be.
type rated struct {
	cable *cable
	runs  lanes
}

// rates holds what links run at against what is declared. Where most of a tier
// run at one other rate, that is one finding, and the rest is held against it.
func (c *check) rates() {
	groups := map[tierRate][]rated{}
	var order []tierRate
	for _, k := range c.d.cables {
		p := c.ports[k.a.id]
		if c.found(k.a) != k.b || p == nil || p.Peer == nil || k.run.Rate.Text == "" {
			continue
		}
		runs := slower(p, p.Peer)
		if runs.width == 0 || runs.speed == "" {
			continue
		}
		g := tierRate{k.run.Tier, k.run.Rate}
		if groups[g] == nil {
			order = append(order, g)
		}
		groups[g] = append(groups[g], rated{k, runs})
	}
	for _, g := range order {
		c.rateGroup(g, groups[g])
	}
}

// slower is what a link runs at; where its ends differ, the worse of both.
func slower(p, q *Port) lanes {
	l := lanes{p.Width, p.Speed}
	if q.Width > 0 && q.Width < l.width {
		l.width = q.Width
	}
	if q.Speed != "" && inventory.LaneSpeed(q.Speed) < inventory.LaneSpeed(l.speed) {
		l.speed = q.Speed
	}
	return l
}

// bandwidth is in Gb/s.
func (l lanes) bandwidth() float64 { return float64(l.width) * inventory.LaneSpeed(l.speed) / 1e9 }

func (c *check) rateGroup(g tierRate, all []rated) {
	want, named := lanesOf(g.rate)
	right := func(l lanes) bool {
		if named {
			return l == want
		}
		return l.bandwidth() >= g.rate.BitsPerSecond/1e9
	}
	count := map[lanes]int{}
	for _, r := range all {
		count[r.runs]++
	}
	for l, n := range count {
		if !right(l) && n >= 4 && n*2 > len(all) {
			c.add(c.otherRate(g, all, l, n, want))
			want, named = l, true
			break
		}
	}
	for _, r := range all {
		if !right(r.runs) {
			c.add(c.wrongRate(r, want, named))
		}
	}
}

// otherRate is the finding of a whole tier at another rate than is declared.
func (c *check) otherRate(g tierRate, all []rated, runs lanes, n int, want lanes) Finding {
	f := Finding{Class: WrongSpeed, Severity: Error, DeclaredAt: c.at(all[0].cable), Declared: g.rate.Text, Found: runs.String()}
	if runs.speed == want.speed {
		f.Class = WrongWidth
	}
	if runs.bandwidth()*1e9 >= g.rate.BitsPerSecond {
		f.Severity = Warning
	}
	for _, r := range all {
		if r.runs == runs {
			low, high := c.turned(r.cable.a, r.cable.b)
			f.Node, f.Ports = low.dev.name, refs(high, low)
			break
		}
	}
	what := "links"
	if g.tier != "" {
		what = g.tier + " links"
	}
	f.Message = fmt.Sprintf("%d of %d %s declared at %s run at %s%s", n, len(all), what, g.rate.Text, runs, declaredAs(f.DeclaredAt))
	f.Action = "no cable is the cause where all are alike: look at the subnet manager's limits, the ports' split and firmware, or correct the declared rate"
	return f
}

func (c *check) wrongRate(r rated, want lanes, named bool) Finding {
	low, high := c.turned(r.cable.a, r.cable.b)
	f := Finding{Class: WrongWidth, Severity: Error, Node: low.dev.name, Ports: refs(high, low), DeclaredAt: c.at(r.cable),
		Declared: r.cable.run.Rate.Text, Found: r.runs.String()}
	if !named || r.runs.speed != want.speed {
		f.Class = WrongSpeed
	}
	if named {
		f.Declared = want.String()
	}
	if r.runs.bandwidth() > want.bandwidth() && named {
		f.Severity = Warning
	}
	f.Message = fmt.Sprintf("%s: the link to %s runs at %s, not %s%s", low, high, f.Found, f.Declared, declaredAs(f.DeclaredAt))
	f.Action = fmt.Sprintf("reseat the cable from %s to %s at both ends, then replace it", high, low)
	return f
}
