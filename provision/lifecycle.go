package provision

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

//go:generate go test -run TestLifecycleDocument -update .

// State is where a node stands in its lifecycle. Its text is what is stored.
type State string

// The states. Declared to Ready form a chain, each entered by a proof; the
// last three stand beside it.
const (
	Declared    State = "declared"
	Reachable   State = "reachable"
	Enrolled    State = "enrolled"
	Matched     State = "matched"
	Provisioned State = "provisioned"
	Validated   State = "validated"
	BurnedIn    State = "burned-in"
	Ready       State = "ready"

	Failed      State = "failed"
	Quarantined State = "quarantined"
	Maintenance State = "maintenance"
)

// Activity is the work that seeks the proof for one state.
type Activity string

// The activities.
const (
	Identify  Activity = "identify"   // read the identity over the BMC
	Boot      Activity = "boot"       // boot the bring-up agent
	Inspect   Activity = "inspect"    // hold the hardware found against the declared
	BootImage Activity = "boot-image" // boot the declared image
	CheckNode Activity = "check"      // node and fabric checks in the image
	BurnIn    Activity = "burn-in"    // every burn-in stage declared
	Sign      Activity = "sign"       // sign the acceptance record
)

// Stage is one link of the chain: a state, the proof it takes to enter it, and
// the work that seeks it from the state before.
type Stage struct {
	State    State
	Means    string
	Proof    string
	Activity Activity      // seeks the proof; empty for the first
	Deadline time.Duration // of one attempt, unless the inventory says otherwise
	Estimate time.Duration // what a plan counts for it on metal
	InLab    time.Duration // what a plan counts for it where firmware and self test are a virtual machine's
	FallBack State         // proof to seek anew when the activity got no answer; empty: try the same again
	Facets   []string      // prefixes of the declared values that the proof rests on
	Redo     []State       // later proofs that fall when this one's declared values change
}

// Chain is the lifecycle of a node, in order. Deadlines: POST of an 8-GPU
// server takes 5 to 10 minutes and more; 15 to 20 minutes are used in the
// field for a network boot.
var Chain = []Stage{
	{State: Declared, Means: "in the inventory, nothing proven", Proof: "none"},
	{State: Reachable, Means: "the BMC answers with the declared credential and is the declared machine",
		Proof: "identity read over the BMC", Activity: Identify, Deadline: time.Minute, Estimate: 5 * time.Second, InLab: time.Second,
		Facets: []string{"bmc.", "node.serial"}, Redo: []State{Ready}},
	{State: Enrolled, Means: "the bring-up agent runs on the node and called home",
		Proof: "boot path seen on the wire, agent's token", Activity: Boot, Deadline: 20 * time.Minute, Estimate: 10 * time.Minute, InLab: 20 * time.Second,
		Facets: []string{"nic."}, Redo: []State{Matched, Provisioned, Validated, Ready}},
	{State: Matched, Means: "the hardware found is the hardware declared",
		Proof: "inspection evidence", Activity: Inspect, Deadline: 2 * time.Minute, Estimate: 10 * time.Second, InLab: time.Second, FallBack: Enrolled,
		Facets: []string{"hardware.", "node.serial"}, Redo: []State{Enrolled, Provisioned, Validated, BurnedIn, Ready}},
	{State: Provisioned, Means: "the declared image runs on the node",
		Proof: "image digest reported from the node", Activity: BootImage, Deadline: 25 * time.Minute, Estimate: 12 * time.Minute, InLab: 25 * time.Second,
		Facets: []string{"image."}, Redo: []State{Validated, Ready}},
	{State: Validated, Means: "node checks and fabric checks pass",
		Proof: "check evidence", Activity: CheckNode, Deadline: 5 * time.Minute, Estimate: 30 * time.Second, InLab: time.Second, FallBack: Provisioned,
		Facets: []string{"fabric."}, Redo: []State{Ready}},
	{State: BurnedIn, Means: "every burn-in stage declared for it passes",
		Proof: "burn-in evidence", Activity: BurnIn, Deadline: 72 * time.Hour, FallBack: Provisioned,
		Facets: []string{"burnin."}, Redo: []State{Ready}},
	{State: Ready, Means: "all acceptance satisfied; record signed",
		Proof: "the record", Activity: Sign, Deadline: time.Minute, Estimate: time.Second, InLab: time.Second},
}

// Beside are the states outside the chain.
var Beside = []Stage{
	{State: Failed, Means: "an attempt budget is spent or a check failed; the reason says which part", Proof: "none"},
	{State: Quarantined, Means: "a person must release it, or change what it waits for", Proof: "none"},
	{State: Maintenance, Means: "a person works on it; nothing touches it", Proof: "none"},
}

// ParseState returns the state of that name.
func ParseState(s string) (State, error) {
	for _, st := range States() {
		if string(st) == s {
			return st, nil
		}
	}
	return "", fmt.Errorf("unknown lifecycle state %q: one of %s", s, joinStates(States()))
}

// States lists every state, the chain first.
func States() []State {
	var all []State
	for _, s := range Chain {
		all = append(all, s.State)
	}
	for _, s := range Beside {
		all = append(all, s.State)
	}
	return all
}

func joinStates(states []State) string {
	var b strings.Builder
	for i, s := range states {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(string(s))
	}
	return b.String()
}

// position is the index of a state in the chain, or -1.
func position(s State) int {
	return slices.IndexFunc(Chain, func(st Stage) bool { return st.State == s })
}

// StageOf returns the chain's row for a state.
func StageOf(s State) (Stage, bool) {
	if i := position(s); i >= 0 {
		return Chain[i], true
	}
	return Stage{}, false
}
