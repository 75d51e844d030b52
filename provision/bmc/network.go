package bmc

import (
	"time"

	"firstlight/provision/bmc/pacing"
)

// lan is the BMCs that one out-of-band network leads to. How many of them are
// spoken to at once follows from what that network loses.
type lan struct {
	level   *pacing.Level
	waiting []*conversation // for one of the slots, in order
	talking int             // those that hold a slot
	fastest time.Duration   // round trip that was ever measured
}

// crowded is by how much a round trip exceeds the fastest where what is sent waits
// in queues; it is a matter of queues only above crowdedLeast, for a BMC's own
// processor takes up to that.
const (
	crowded      = 4
	crowdedLeast = 400 * time.Millisecond
)

// lanOf finds the network of a BMC, or makes it.
func (e *engine) lanOf(name string) *lan {
	for i, n := range e.names {
		if n == name {
			return e.lans[i]
		}
	}
	n := &lan{level: pacing.NewLevel(e.concurrency)}
	e.names, e.lans = append(e.names, name), append(e.lans, n)
	return n
}

// admit starts conversations while there are slots: of each network and over all.
func (e *engine) admit() {
	e.turn++ // no network is always first
	for i := range e.lans {
		n := e.lans[(i+e.turn)%len(e.lans)]
		for e.talking < e.concurrency && n.talking < n.level.Now() && len(n.waiting) > 0 {
			v := n.waiting[0]
			n.waiting[0] = nil
			n.waiting = n.waiting[1:]
			if v.phase == phaseWaiting {
				v.login()
			}
		}
	}
}

// era is that of what is sent now. While those whom a higher level let in are not
// done, what is lost among them says nothing about the level.
func (n *lan) era() int {
	if n.level.Careful() && n.talking > n.level.Now() {
		return -1
	}
	return n.level.Era()
}

// patientSends is how often something is sent on a crowded network before its
// silent BMC gives its slot to others.
const patientSends = 4

// keepsSlot says that a silent BMC keeps its slot: what was lost on a crowded
// network will be sent again, and room must be there for it. On others a silent
// BMC is most likely frozen, and must not hold up the fleet.
func (v *conversation) keepsSlot() bool {
	return v.t.lan.level.Careful() && v.sent < patientSends
}

// heard takes the first answer to a message of the key exchange, of which each
// transmission is told from the others. again says that the one answered was not
// the first: that was lost, or its answer was. A BMC that is slow answers the
// first, late; a network that is crowded makes all late. era is that of the first
// transmission.
func (n *lan) heard(era int, roundTrip time.Duration, again bool) {
	if n.fastest == 0 || roundTrip < n.fastest {
		n.fastest = max(roundTrip, 1)
	}
	n.level.Heard(era, again || roundTrip > crowdedLeast && roundTrip > crowded*n.fastest)
}
