package provision

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// class groups states that answer an event alike.
type class string

const (
	working   class = "working"   // declared to burned-in
	done      class = "ready"     //
	stopped   class = "failed"    //
	held      class = "held"      // quarantined
	untouched class = "untouched" // maintenance
)

func classOf(s State) class {
	switch s {
	case Ready:
		return done
	case Failed:
		return stopped
	case Quarantined:
		return held
	case Maintenance:
		return untouched
	}
	return working
}

// Rule is one row of the lifecycle: what an event does to nodes in some
// states. Where no rule names a pair, the event is recorded and changes
// nothing.
type Rule struct {
	Event string
	In    []class
	Does  string // for the document
	apply func(n *Node, ev Event, now time.Time) ([]Action, error)
}

// Rules are all rows. A pair of state and event is named at most once.
func Rules() []Rule { return rules }

var rules = []Rule{
	{EventStart, []class{working, done, stopped}, "drops the proofs to be sought anew, returns to the last state still proven, and seeks the first missing proof", onStart},
	{EventAttempt, []class{working}, "counts the attempt; a boot attempt becomes the node's current boot", onAttempt},
	{EventWaits, []class{working}, "notes what the node waits for before it is switched on, until anything but a step of a boot happens", onWaits},
	{EventPowered, []class{working, done, stopped, held, untouched}, "records the power state that was read back", onPowered},
	{EventMeasured, []class{working, done, stopped, held, untouched}, "keeps what its BMC has measured it to draw while it starts, the highest under one nameplate", onMeasured},
	{EventOverride, []class{working, done}, "notes that the current boot's override was read back", onOverride},
	{EventSeen, []class{working, done}, "adds a step to the current boot", onSeen},
	{EventHello, []class{working, done}, "admits the agent of the current boot, once", onHello},
	{EventRebooted, []class{working, done}, "gives a boot that nobody ordered an identity of its own; what was checked in the boot before it falls", onRebooted},
	{EventClimb, []class{working}, "notes what is about to be done to the node's BMC, or to its power at the PDU, before its boot is tried again", onClimb},
	{EventClimbed, []class{working}, "notes that it was done: it is not repeated in this step", onClimbed},
	{EventBurned, []class{working}, "notes that a part of the burn-in is done", onBurned},
	{EventPassed, []class{working}, "adds the proof, enters the last state now proven, and seeks the next proof", onPassed},
	{EventMissed, []class{working}, "tries again after a pause that doubles, from an earlier proof where the agent is gone; a boot from the next rung of the ladder; with no attempt left: failed", onMissed},
	{EventRefused, []class{working}, "failed, or quarantined when a person must act first", onRefused},
	{EventQuarantine, []class{working, done, stopped, untouched}, "quarantined", hold(Quarantined)},
	{EventRelease, []class{held}, "returns to the last state proven; after a person's quarantine nothing but the BMC counts as proven", onRelease},
	{EventMaintain, []class{working, done, stopped, held}, "maintenance", hold(Maintenance)},
	{EventReturn, []class{untouched}, "returns with nothing but the BMC proven: a person has worked on it", onRelease},
	{EventForget, []class{working, done, stopped, held, untouched}, "forgets every proof; touches nothing", onForget},
}

// Next is the lifecycle: what a node becomes by an event, and what is to be
// done about it. It is pure: the same arguments give the same answer, and its
// arguments are left alone. An error means that the event's data is damaged.
func Next(n Node, ev Event, now time.Time) (Node, []Action, error) {
	c := n.clone()
	acts, err := c.take(ev, now)
	if err != nil {
		return n, nil, err
	}
	return c, acts, nil
}

// take changes a node by an event. What the node holds must be its own: see
// clone.
func (n *Node) take(ev Event, now time.Time) ([]Action, error) {
	for i := range rules {
		if r := &rules[i]; r.Event == ev.Kind && slices.Contains(r.In, classOf(n.State)) {
			if ev.Kind != EventSeen { // what is seen of a machine does not end its wait
				n.Waits = ""
			}
			return r.apply(n, ev, now)
		}
	}
	return nil, nil
}

func onStart(n *Node, ev Event, now time.Time) ([]Action, error) {
	d, err := decode[StartData](ev)
	if err != nil {
		return nil, err
	}
	for _, s := range d.Redo {
		delete(n.Proofs, s)
	}
	n.Active, n.Limit, n.Backoff = true, max(d.Attempts, 1), d.Backoff.Duration()
	n.Attempts, n.Started, n.Refused, n.Burned = map[State]int{}, time.Time{}, nil, nil
	n.Ladder, n.Rung, n.Climb = d.Ladder, 0, nil
	n.State, n.History = "", nil // a bring-up's history starts with it
	n.enter(n.proven(), ev.Time, "", "")
	if n.wanted() == "" {
		n.Active = false
	}
	return n.next(now), nil
}

func onAttempt(n *Node, ev Event, now time.Time) ([]Action, error) {
	d, err := decode[AttemptData](ev)
	if err != nil {
		return nil, err
	}
	if d.Proof != "" {
		n.Attempts[d.Proof] = d.N
		n.Started, n.Deadline = ev.Time, d.Deadline.Duration()
	}
	if d.Boot != nil {
		n.Previous = n.Boot
		n.Boot = &BootRecord{BootID: *d.Boot, Ordered: ev.Time}
	}
	return nil, nil
}

func onWaits(n *Node, ev Event, _ time.Time) ([]Action, error) {
	d, err := decode[WaitsData](ev)
	n.Waits = d.For
	return nil, err
}

// onRebooted takes up a boot that nobody ordered. What the node checks found
// was true of the boot before it.
func onRebooted(n *Node, ev Event, now time.Time) ([]Action, error) {
	acts, err := onAttempt(n, ev, now)
	if err != nil || n.proven() != n.State {
		return acts, err
	}
	delete(n.Proofs, Validated)
	delete(n.Proofs, Ready)
	n.Burned = nil
	if n.proven() != n.State {
		n.enter(n.proven(), ev.Time, "booted again by itself; to be checked anew", "")
	}
	return nil, nil
}

func onOverride(n *Node, ev Event, now time.Time) ([]Action, error) {
	d, err := decode[OverrideData](ev)
	if err != nil {
		return nil, err
	}
	if n.Boot != nil && n.Boot.ID == d.BootID {
		n.Boot.Set = ev.Time
	}
	return nil, nil
}

func onPowered(n *Node, ev Event, now time.Time) ([]Action, error) {
	d, err := decode[PoweredData](ev)
	if err != nil {
		return nil, err
	}
	n.Power = d.Power
	if d.Op == opStatus {
		n.Detour = d.Detour
	}
	if n.Boot != nil && (d.Op == "on" || d.Op == "cycle" || d.Op == "reset") && n.Boot.Powered.IsZero() {
		n.Boot.Powered = ev.Time
	}
	if n.Boot != nil && d.Op == "off" && n.Boot.Via == viaColdCycle {
		n.Boot.Off = ev.Time
	}
	return nil, nil
}

func onMeasured(n *Node, ev Event, _ time.Time) ([]Action, error) {
	d, err := decode[MeasuredData](ev)
	if err == nil && (n.Drawn == nil || n.Drawn.Nameplate != d.Nameplate || n.Drawn.Watts < d.Watts) {
		n.Drawn = &d
	}
	return nil, err
}

func onSeen(n *Node, ev Event, now time.Time) ([]Action, error) {
	d, err := decode[SeenData](ev)
	if err != nil {
		return nil, err
	}
	if n.Boot != nil && (d.BootID == "" || d.BootID == n.Boot.ID) {
		n.Boot.Seen = append(n.Boot.Seen, Sighting{What: d.What, Detail: d.Detail, At: ev.Time})
	}
	return nil, nil
}

func onHello(n *Node, ev Event, now time.Time) ([]Action, error) {
	d, err := decode[HelloData](ev)
	if err != nil {
		return nil, err
	}
	if n.Boot != nil && n.Boot.ID == d.BootID && n.Boot.Home == nil {
		n.Boot.Home, n.Boot.HomeAt = &d, ev.Time
		n.Power = "on"
	}
	return nil, nil
}

func onBurned(n *Node, ev Event, _ time.Time) ([]Action, error) {
	d, err := decode[BurnedData](ev)
	if err == nil && n.wanted() == BurnedIn {
		n.Burned = append(n.Burned, BurnedPart{d, ev.Time})
	}
	return nil, err
}

func onPassed(n *Node, ev Event, now time.Time) ([]Action, error) {
	d, err := decode[PassedData](ev)
	if err != nil {
		return nil, err
	}
	if d.Evidence == "" || n.wanted() != d.Proof {
		// Without evidence it is no proof; and one that is not sought any more
		// (the node booted again while it was found) proves nothing now. What
		// is missing is sought.
		n.Started = time.Time{}
		return n.next(now), nil
	}
	// The decoder makes its maps for many entries: a large site has 100,000 of
	// these, each with a few.
	facets := make(map[string]string, len(d.Facets))
	maps.Copy(facets, d.Facets)
	n.inspected(d.Proof, d.Adapters)
	n.Proofs[d.Proof] = Proof{At: ev.Time, Evidence: d.Evidence, Facets: facets}
	n.Started = time.Time{}
	n.enter(n.proven(), ev.Time, "", d.Evidence)
	if n.wanted() == "" {
		n.Active = false
	}
	return n.next(now), nil
}

// onMissed retries. The pause doubles with each attempt, up to 16 times.
func onMissed(n *Node, ev Event, now time.Time) ([]Action, error) {
	d, err := decode[MissedData](ev)
	if err != nil {
		return nil, err
	}
	if n.Started.IsZero() {
		// It ended before it was announced, as when the BMC did not say whether
		// the machine is on: it counts all the same, or it is retried for ever.
		n.Attempts[d.Proof]++
	}
	n.Climb = n.Climb.end(ev.Time) // what failed is not repeated
	n.Started = time.Time{}
	n.Burned = nil // what is tried again is burned in anew
	tries, limit, next := n.Attempts[d.Proof], n.Limit, ""
	if d.Proof == Enrolled || d.Proof == Provisioned {
		if d.Stuck {
			limit = max(limit, tries+len(n.ladder())-1-n.Rung) // as long as there are rungs
		}
		if tries < limit && n.climbs(d.Stuck) && n.rung() != RungPersistent {
			next = "; next: " + n.rung().Does()
		}
	}
	if tries >= limit {
		ladder := ""
		if d.Stuck {
			ladder = "; tried in order: " + n.tried()
		}
		n.Active = false
		n.Refused = &Refusal{Proof: d.Proof}
		n.enter(Failed, ev.Time, fmt.Sprintf("%s (attempt %d of %d)%s", d.Reason, tries, limit, ladder), "")
		return nil, nil
	}
	if st, ok := StageOf(d.Proof); ok && st.FallBack != "" {
		for i := position(st.FallBack); i < position(d.Proof); i++ {
			delete(n.Proofs, Chain[i].State)
		}
	}
	n.enter(n.proven(), ev.Time, fmt.Sprintf("%s; trying again (attempt %d of %d failed)%s", d.Reason, tries, limit, next), "")
	pause := n.Backoff << min(max(tries-1, 0), 4)
	return n.next(now.Add(pause)), nil
}

func onClimb(n *Node, ev Event, now time.Time) ([]Action, error) {
	d, err := decode[ClimbData](ev)
	if err != nil {
		return nil, err
	}
	n.Climb = &Climb{Rung: d.Rung, At: ev.Time}
	return nil, nil
}

func onClimbed(n *Node, ev Event, now time.Time) ([]Action, error) {
	d, err := decode[ClimbData](ev)
	if err != nil {
		return nil, err
	}
	if n.Climb.begun(d.Rung) {
		n.Climb = n.Climb.end(ev.Time)
	}
	return nil, nil
}

func onRefused(n *Node, ev Event, now time.Time) ([]Action, error) {
	d, err := decode[RefusedData](ev)
	if err != nil {
		return nil, err
	}
	to := Failed
	if d.Person {
		to = Quarantined
	}
	n.inspected(d.Proof, d.Adapters)
	n.Active, n.Started = false, time.Time{}
	n.Refused = &Refusal{Proof: d.Proof, Person: d.Person, Evidence: d.Evidence, Facets: d.Facets}
	n.enter(to, ev.Time, d.Reason, d.Evidence)
	return nil, nil
}

// hold makes the rule by which a person takes a node out.
func hold(to State) func(*Node, Event, time.Time) ([]Action, error) {
	return func(n *Node, ev Event, now time.Time) ([]Action, error) {
		d, err := decode[ReasonData](ev)
		if err != nil {
			return nil, err
		}
		n.Active, n.Started = false, time.Time{}
		n.Refused = nil
		n.enter(to, ev.Time, d.Reason, "")
		return nil, nil
	}
}

func onRelease(n *Node, ev Event, now time.Time) ([]Action, error) {
	if n.Refused == nil || n.Refused.Proof == BurnedIn {
		// A person took it out or changed a part, and may have had it open.
		for _, st := range Chain[position(Enrolled):] {
			delete(n.Proofs, st.State)
		}
	}
	n.Active, n.Started, n.Refused = false, time.Time{}, nil
	n.enter(n.proven(), ev.Time, "", "")
	return nil, nil
}

func onForget(n *Node, ev Event, now time.Time) ([]Action, error) {
	c := NewNode(n.Name)
	c.Power = n.Power
	*n = c
	return nil, nil
}
