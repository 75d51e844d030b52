package provision

import (
	"fmt"
	"maps"
	"time"
)

// Node is what the journal knows of one node: the fold of its events. It is a
// value: Next returns a changed copy and leaves its argument alone.
type Node struct {
	Name     string          `json:"name"`
	State    State           `json:"state"`
	Reason   string          `json:"reason"`           // why it failed, is quarantined or in maintenance; or what is being retried
	Since    time.Time       `json:"since"`            // when it entered State
	Active   bool            `json:"active"`           // a plan step is being carried out
	Power    string          `json:"power"`            // last confirmed: on, off, or "" when never read
	Drawn    *MeasuredData   `json:"drawn,omitempty"`  // what it was measured to draw while it starts; nil: it was not
	Waits    string          `json:"waits,omitempty"`  // for what, before it is switched on
	Detour   string          `json:"detour,omitempty"` // by which protocol its BMC was asked instead of the declared one, and why
	Proofs   map[State]Proof `json:"proofs"`
	Attempts map[State]int   `json:"attempts"`         // tries of each proof since the step started
	Limit    int             `json:"limit"`            // of one transition
	Ladder   []Rung          `json:"ladder,omitempty"` // what may be done to boot it in this step, in order
	Rung     int             `json:"rung"`             // place on the ladder, from 0
	Climb    *Climb          `json:"climb,omitempty"`  // what was done of the ladder last, before a boot
	Backoff  time.Duration   `json:"backoff_ns"`       // before the first retry
	Deadline time.Duration   `json:"deadline_ns"`      // of the current attempt
	Started  time.Time       `json:"started"`          // when the current attempt began
	Boot     *BootRecord     `json:"boot"`             // the boot under way, or the last one
	Previous *BootRecord     `json:"previous"`         // the one before it
	Adapters []Adapter       `json:"adapters"`         // that the last inspection found
	History  []Entry         `json:"history"`          // states entered since the step started, oldest first
	Burned   []BurnedPart    `json:"burned"`           // parts of the burn-in under way that are done
	Refused  *Refusal        `json:"refused"`          // what a failed or quarantined node rests on
}

// Proof is the evidence by which a state was entered.
type Proof struct {
	At       time.Time         `json:"at"`
	Evidence string            `json:"evidence"` // digest
	Facets   map[string]string `json:"facets"`   // declared values it rests on
}

// BurnedPart is a part of a burn-in that is done.
type BurnedPart struct {
	BurnedData
	At time.Time `json:"at"`
}

// Refusal is the proof of the contrary.
type Refusal struct {
	Proof    State             `json:"proof"`
	Person   bool              `json:"person"`
	Evidence string            `json:"evidence"`
	Facets   map[string]string `json:"facets"`
}

// Climb is what a rung asks for before the boot is tried again.
type Climb struct {
	Rung  Rung      `json:"rung"`
	At    time.Time `json:"at"`    // when it was announced
	Ended time.Time `json:"ended"` // when it was done, or had failed; zero before
}

func (c *Climb) begun(r Rung) bool { return c != nil && c.Rung == r }
func (c *Climb) ended(r Rung) bool { return c.begun(r) && !c.Ended.IsZero() }

// end is c, ended. It is a copy.
func (c *Climb) end(at time.Time) *Climb {
	if c == nil || !c.Ended.IsZero() {
		return c
	}
	return &Climb{Rung: c.Rung, At: c.At, Ended: at}
}

// BootRecord follows one boot.
type BootRecord struct {
	BootID
	Ordered time.Time  `json:"ordered"`
	Set     time.Time  `json:"set"`     // when the BMC read the boot override back; zero before
	Off     time.Time  `json:"off"`     // of a cold cycle: when the BMC confirmed that the power is off; zero before
	Powered time.Time  `json:"powered"` // when the BMC confirmed the power action; zero before
	Seen    []Sighting `json:"seen"`
	Home    *HelloData `json:"home"` // set once the agent was admitted
	HomeAt  time.Time  `json:"home_at"`
}

// Sighting is one step of a boot on the wire.
type Sighting struct {
	What   string    `json:"what"`
	Detail string    `json:"detail"`
	At     time.Time `json:"at"`
}

// Entry is one state entered.
type Entry struct {
	State    State     `json:"state"`
	At       time.Time `json:"at"`
	Reason   string    `json:"reason"`
	Evidence string    `json:"evidence"`
}

// Action is work that Next asks for.
type Action struct {
	Do        Activity
	Proof     State     // the state it seeks to enter
	Attempt   int       // from 1
	NotBefore time.Time // a retry waits until then
}

// NewNode returns a node that nothing is known of.
func NewNode(name string) Node {
	return Node{Name: name, State: Declared, Proofs: map[State]Proof{}, Attempts: map[State]int{}}
}

// clone copies what Next may change.
func (n Node) clone() Node {
	n.Proofs = maps.Clone(n.Proofs)
	n.Attempts = maps.Clone(n.Attempts)
	n.History = n.History[:len(n.History):len(n.History)]
	n.Boot = n.Boot.clone()
	n.Burned = n.Burned[:len(n.Burned):len(n.Burned)]
	return n
}

func (b *BootRecord) clone() *BootRecord {
	if b == nil {
		return nil
	}
	c := *b
	c.Seen = c.Seen[:len(c.Seen):len(c.Seen)]
	return &c
}

// proven is the last state of the chain's unbroken run of proofs.
func (n Node) proven() State {
	last := Declared
	for _, st := range Chain[1:] {
		if _, ok := n.Proofs[st.State]; !ok {
			break
		}
		last = st.State
	}
	return last
}

// Proven reports whether there is an unbroken run of proofs up to a state.
func (n Node) Proven(s State) bool { return position(n.proven()) >= position(s) }

// wanted is the first state of the chain without a proof; "" when all have one.
func (n Node) wanted() State {
	if i := position(n.proven()); i+1 < len(Chain) {
		return Chain[i+1].State
	}
	return ""
}

// enter moves the node to a state.
func (n *Node) enter(s State, at time.Time, reason, evidence string) {
	if n.State != s {
		n.Since = at
		n.History = append(n.History, Entry{State: s, At: at, Reason: reason, Evidence: evidence})
	}
	n.State, n.Reason = s, reason
}

// next is the action that seeks the node's first missing proof.
func (n Node) next(notBefore time.Time) []Action {
	w := n.wanted()
	if w == "" {
		return nil
	}
	st, _ := StageOf(w)
	return []Action{{Do: st.Activity, Proof: w, Attempt: n.Attempts[w] + 1, NotBefore: notBefore}}
}

// Pending is the action that a node with a started step waits for: what the
// engine takes up again after a restart. An attempt that was announced and has
// no outcome is resumed under its own number, not begun anew.
func (n Node) Pending(now time.Time) []Action {
	if !n.Active {
		return nil
	}
	acts := n.next(now)
	for i := range acts {
		if !n.Started.IsZero() && n.Attempts[acts[i].Proof] > 0 {
			acts[i].Attempt = n.Attempts[acts[i].Proof]
		}
	}
	return acts
}

// Runs reports that the node runs its image as far as is known, so that its
// adapters should have a link.
func (n Node) Runs() bool {
	return n.State != Quarantined && n.State != Maintenance && n.Power != "off" && position(n.proven()) >= position(Provisioned)
}

// Boots reports whether boot services may boot the node now.
func (n Node) Boots() bool {
	return n.Boot != nil && position(n.State) >= position(Reachable)
}

// Why is the reason for where the node stands, and what it waits for.
func (n Node) Why() string {
	switch {
	case n.Waits == "":
		return n.Reason
	case n.Reason == "":
		return "waits for power: " + n.Waits
	}
	return "waits for power: " + n.Waits + "; before: " + n.Reason
}

func (n Node) String() string {
	if n.Why() == "" {
		return fmt.Sprintf("%s %s", n.Name, n.State)
	}
	return fmt.Sprintf("%s %s (%s)", n.Name, n.State, n.Why())
}
