package provision

import (
	"encoding/json"
	"fmt"
	"time"

	fastjson "github.com/segmentio/encoding/json"
)

// Kinds of event. What each carries is the Data type beside it.
const (
	EventStart      = "start"      // StartData: a recorded plan step begins
	EventAttempt    = "attempt"    // AttemptData: an activity is about to act
	EventWaits      = "waits"      // WaitsData: the node is not switched on yet, for want of power
	EventPowered    = "powered"    // PoweredData: a power action was carried out and read back
	EventMeasured   = "measured"   // MeasuredData: the most that the node drew while it started
	EventOverride   = "override"   // OverrideData: a boot override was set and read back
	EventSeen       = "seen"       // SeenData: a step of the boot path was seen on the wire
	EventHello      = "hello"      // HelloData: the agent of the current boot used its token
	EventRebooted   = "rebooted"   // AttemptData: the node boots again without having been told to
	EventClimb      = "climb"      // ClimbData: a rung of the ladder is about to be taken
	EventClimbed    = "climbed"    // ClimbData: what that rung asks for was done
	EventBurned     = "burned"     // BurnedData: a part of the burn-in is done, passed or not
	EventPassed     = "passed"     // PassedData: a proof is in
	EventMissed     = "missed"     // MissedData: no proof came; may be tried again
	EventRefused    = "refused"    // RefusedData: proof of the contrary; trying again is no use
	EventQuarantine = "quarantine" // ReasonData
	EventRelease    = "release"    // ReasonData
	EventMaintain   = "maintain"   // ReasonData
	EventReturn     = "return"     // ReasonData
	EventForget     = "forget"     // ReasonData: no longer in the inventory
	EventDiscovered = "discovered" // DiscoveredData: an undeclared MAC asked for a boot; about the cluster
	EventApply      = "apply"      // ApplyData: an apply began; about the cluster
)

// NodeEvents lists the kinds that are about one node.
func NodeEvents() []string {
	return []string{EventStart, EventAttempt, EventWaits, EventPowered, EventMeasured, EventOverride, EventSeen, EventHello, EventRebooted, EventClimb, EventClimbed, EventBurned, EventPassed,
		EventMissed, EventRefused, EventQuarantine, EventRelease, EventMaintain, EventReturn, EventForget}
}

// StartData is a plan's step for one node.
type StartData struct {
	Redo     []State  `json:"redo,omitempty"` // proofs to seek anew
	Reasons  []string `json:"reasons,omitempty"`
	Attempts int      `json:"attempts"`         // of one transition
	Backoff  Seconds  `json:"backoff"`          // before the first retry; doubles
	Ladder   []Rung   `json:"ladder,omitempty"` // what may be done to boot it, in this order
}

// AttemptData announces an attempt before it acts.
type AttemptData struct {
	Proof    State   `json:"proof"`    // the state it seeks to enter
	N        int     `json:"n"`        // from 1
	Deadline Seconds `json:"deadline"` // allowed
	Boot     *BootID `json:"boot,omitempty"`
}

// BootID is one boot of a node that the controller ordered or admitted.
type BootID struct {
	ID         string `json:"id"`
	Kind       string `json:"kind"`       // api.BootBringUp or api.BootImage
	Image      string `json:"image"`      // digest of the manifest to boot
	Via        string `json:"via"`        // power-on, power-cycle, agent-reboot, itself
	Persistent bool   `json:"persistent"` // boot override asked for
	Rung       Rung   `json:"rung,omitempty"`
}

// WaitsData is why a node has to wait before it is switched on.
type WaitsData struct {
	For string `json:"for"` // as it was when it began to wait
}

// ClimbData is what a rung asks for before the boot is tried again.
type ClimbData struct {
	Rung Rung `json:"rung"`
}

// PoweredData is a power action that the BMC confirmed.
type PoweredData struct {
	Op    string `json:"op"`    // on, off, cycle, soft, reset
	Power string `json:"power"` // read back: on, off
	// Detour, of a status, says by which protocol the BMC was asked instead of the
	// declared one, and why.
	Detour string `json:"detour,omitempty"`
}

// MeasuredData is the highest reading of what a node drew between its power-on and
// its agent's call.
type MeasuredData struct {
	Watts     int64 `json:"watts"`
	Nameplate int64 `json:"nameplate"` // that was declared then
}

// OverrideData is a boot override that the BMC read back as set.
type OverrideData struct {
	BootID string `json:"boot"`
}

// SeenData is one step of a boot as the boot services saw it.
type SeenData struct {
	What   string `json:"what"` // dhcp-discover, tftp-read, script, kernel, …
	BootID string `json:"boot,omitempty"`
	Detail string `json:"detail,omitempty"`
}

// HelloData is an agent's admission.
type HelloData struct {
	BootID     string  `json:"boot"`
	Nonce      string  `json:"nonce"`
	Kind       string  `json:"kind"`
	Image      string  `json:"image,omitempty"`
	RootDigest string  `json:"root,omitempty"`
	Kernel     string  `json:"kernel"`
	Agent      string  `json:"agent"`
	Address    string  `json:"address"`
	Uptime     Seconds `json:"uptime"`
	ClockSkew  Seconds `json:"clock_skew"` // node's clock less the controller's
}

// BurnedData records a part of the burn-in, so that it is not done twice.
type BurnedData struct {
	Part     string `json:"part"`     // quick, soak
	Evidence string `json:"evidence"` // digest
}

// PassedData records a proof.
type PassedData struct {
	Proof    State             `json:"proof"`
	Evidence string            `json:"evidence"`           // digest
	Facets   map[string]string `json:"facets,omitempty"`   // the declared values it rests on
	Adapters []Adapter         `json:"adapters,omitempty"` // of an inspection: what it found
}

// MissedData records an attempt without an answer.
type MissedData struct {
	Proof  State  `json:"proof"`
	Reason string `json:"reason"`
	Stuck  bool   `json:"stuck,omitempty"` // a boot that did not get past the BMC or the firmware
}

// RefusedData records proof of the contrary.
type RefusedData struct {
	Proof    State             `json:"proof"`
	Reason   string            `json:"reason"`
	Person   bool              `json:"person"` // a person must act before anything is tried again
	Evidence string            `json:"evidence,omitempty"`
	Facets   map[string]string `json:"facets,omitempty"`
	Adapters []Adapter         `json:"adapters,omitempty"` // of an inspection: what it found
}

// ReasonData carries a person's words.
type ReasonData struct {
	Reason string `json:"reason,omitempty"`
}

// DiscoveredData is a machine that asked for a boot and is not declared.
type DiscoveredData struct {
	MAC    string `json:"mac"`
	Detail string `json:"detail,omitempty"` // architecture, vendor class
}

// ApplyData names who applies what.
type ApplyData struct {
	Inventory string   `json:"inventory"` // digest of the declaration
	By        string   `json:"by"`
	Targets   []string `json:"targets,omitempty"`
}

// Seconds is a duration that is stored as a number of seconds.
type Seconds float64

// Duration converts to the standard type.
func (s Seconds) Duration() time.Duration { return time.Duration(float64(s) * float64(time.Second)) }

// secondsOf converts from the standard type.
func secondsOf(d time.Duration) Seconds { return Seconds(d.Seconds()) }

// newEvent makes an event; its serial is given by the journal.
func newEvent(now time.Time, node, kind string, data any) (Event, error) {
	raw, err := json.Marshal(data)
	if err != nil {
		return Event{}, fmt.Errorf("encode %s event of %s: %w", kind, node, err)
	}
	return Event{Time: now.UTC(), Node: node, Kind: kind, Data: raw}, nil
}

func decode[T any](ev Event) (T, error) {
	var v T
	if len(ev.Data) == 0 {
		return v, nil
	}
	if err := fastjson.Unmarshal(ev.Data, &v); err != nil {
		return v, fmt.Errorf("journal event %d (%s of %s): %w", ev.Serial, ev.Kind, ev.Node, err)
	}
	return v, nil
}
