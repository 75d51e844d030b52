package fabric

import (
	"fmt"
	"math/bits"
	"slices"

	"firstlight/fabric/mad"
	"firstlight/inventory"
	"firstlight/provision/acceptance"
)

// sourcePortInfo is where the thresholds of what a port says of itself come from.
const sourcePortInfo = "IBTA §14.2.5.6, PortInfo"

// JudgeLink holds what the two ends of a link say of it against each other:
// whether it carries traffic, at one rate, and at the best that both can do.
func JudgeLink(link Link, names Names) []LinkCheck {
	checks := []LinkCheck{linkState(link, names), linkSymmetry(link, names), linkBest(link, names)}
	ports, part := names.both(link)
	for i := range checks {
		checks[i].Ports, checks[i].Part, checks[i].Source = ports, part, sourcePortInfo
	}
	return checks
}

func linkState(l Link, names Names) LinkCheck {
	c := LinkCheck{Check: acceptance.Check{Name: "link-state", Verdict: acceptance.Pass, Threshold: "Active at both ends"}}
	c.Reading = names.each(l, func(p *Port) string {
		switch {
		case p.Info == nil:
			return "not read"
		case p.Info.State != mad.PortDown:
			return p.Info.State.String()
		}
		return fmt.Sprintf("%v (%v)", p.Info.State, p.Info.PhysState)
	})
	for _, p := range []*Port{l.A, l.B} {
		switch {
		case p.Info == nil:
			if c.Verdict == acceptance.Pass {
				c.Verdict = acceptance.NotRun
			}
		case p.Info.State != mad.PortActive:
			c.Verdict = acceptance.Fail
			if p.Info.State == mad.PortInit || p.Info.State == mad.PortArmed {
				c.Suspect = "the subnet manager: the link is up, and it has not configured the port"
			}
		}
	}
	return c
}

// linkSymmetry finds ends that disagree on their common width and speed.
func linkSymmetry(l Link, names Names) LinkCheck {
	c := LinkCheck{Check: acceptance.Check{Name: "link-symmetry", Verdict: acceptance.Pass, Threshold: "one width and speed at both ends"}}
	c.Reading = names.each(l, laneText)
	switch {
	case !tellsRate(l.A) || !tellsRate(l.B):
		c.Verdict = acceptance.NotRun
	case l.A.Width != l.B.Width || l.A.Speed != l.B.Speed:
		c.Verdict = acceptance.Fail
		c.Suspect = "a link that is training anew, or one whose lanes are down in one direction: the cable or the module at either end"
	}
	return c
}

// tellsRate reports that a port tells its rate.
func tellsRate(p *Port) bool { return p.Width > 0 && p.Speed != "" }

// laneText is "4xNDR".
func laneText(p *Port) string {
	if !tellsRate(p) {
		return "not known"
	}
	return fmt.Sprintf("%dx%s", p.Width, p.Speed)
}

// linkBest finds links that run below what both ends can do and may.
func linkBest(l Link, names Names) LinkCheck {
	c := LinkCheck{Check: acceptance.Check{Name: "link-rate", Verdict: acceptance.NotRun, Threshold: "the best that both ends have enabled"}}
	c.Reading = names.each(l, laneText)
	if l.A.Info == nil || l.B.Info == nil || !tellsRate(l.A) || !tellsRate(l.B) {
		return c
	}
	a, b := enabled(*l.A.Info), enabled(*l.B.Info)
	width := 0
	for both := a.WidthSupported & b.WidthSupported; both != 0; both &= both - 1 {
		width = max(width, mad.Lanes(1<<bits.TrailingZeros8(both)))
	}
	_, speed := a.Best()
	if _, other := b.Best(); inventory.LaneSpeed(other) < inventory.LaneSpeed(speed) {
		speed = other
	}
	if width == 0 || speed == "" {
		return c
	}
	c.Threshold = fmt.Sprintf("%dx%s, the best that both ends have enabled", width, speed)
	if slower := inventory.LaneSpeed(l.A.Speed) < inventory.LaneSpeed(speed) || inventory.LaneSpeed(l.B.Speed) < inventory.LaneSpeed(speed); slower || min(l.A.Width, l.B.Width) < width {
		c.Verdict = acceptance.Fail
		c.Suspect = "the cable or the module at either end, which trained to less"
	} else {
		c.Verdict = acceptance.Pass
	}
	return c
}

// noExtended is the LinkSpeedExtEnabled of a port that may use none of the
// extended speeds.
const noExtended = 30

// enabled takes from what a port supports what it is not allowed: to be held to
// less is no fault of the link.
func enabled(p mad.PortInfo) mad.PortInfo {
	if p.SpeedExtOn == noExtended {
		p.SpeedExtCap, p.SpeedExt2Cap = 0, 0
	}
	for _, mask := range []struct {
		can *uint8
		may uint8
	}{{&p.WidthSupported, p.WidthEnabled}, {&p.SpeedSupported, p.SpeedEnabled}, {&p.SpeedExtCap, p.SpeedExtOn}, {&p.SpeedExt2Cap, p.SpeedExt2On}} {
		if mask.may != 0 {
			*mask.can &= mask.may
		}
	}
	return p
}

// GoneCheck is the check of a link that was there at an earlier reading and is
// not now.
func GoneCheck(l Link, names Names) LinkCheck {
	ports, part := names.both(l)
	return LinkCheck{Ports: ports, Suspect: "the cable, the module at either end, or the power of either device", Check: acceptance.Check{Name: "link-state", Verdict: acceptance.Fail,
		Reading: "gone: it was there at the reading before", Threshold: "Active at both ends", Source: sourcePortInfo, Part: part}}
}

// Gone are links of an earlier reading that a newer one does not have between
// the same ports.
func Gone(before, after *Observed) []Link {
	there := map[[2]PortID]bool{}
	for _, l := range after.Links() {
		there[l.id()] = true
	}
	return slices.DeleteFunc(before.Links(), func(l Link) bool { return there[l.id()] })
}

// Dark reports that neither end of a link of an earlier reading has anything
// behind it now.
func (l Link) Dark(now *Observed) bool {
	a, b := l.A.ID(), l.B.ID()
	for _, n := range now.Nodes {
		if n.GUID != a.GUID && n.GUID != b.GUID {
			continue
		}
		for _, p := range n.Ports {
			if id := p.ID(); p.Peer != nil && (id == a || id == b) {
				return false
			}
		}
	}
	return true
}

// id tells links of two readings apart, whichever end comes first.
func (l Link) id() [2]PortID {
	a, b := l.A.ID(), l.B.ID()
	if b.less(a) {
		a, b = b, a
	}
	return [2]PortID{a, b}
}

// PortID names a port in readings at different times.
type PortID struct {
	GUID uint64 // of its node
	Port int
}

// ID names the port.
func (p *Port) ID() PortID { return PortID{GUID: p.Node.GUID, Port: p.Num} }

func (p PortID) less(q PortID) bool {
	return p.GUID < q.GUID || p.GUID == q.GUID && p.Port < q.Port
}
