// Package acceptance holds the evidence by which a node becomes ready: checks
// with a reading, a threshold, its source and a verdict, the signed record
// made of them, and the reports that show it.
package acceptance

import "time"

// Verdict is the outcome of one check.
type Verdict string

// The verdicts. NotRun is never Pass.
const (
	Pass          Verdict = "pass"
	Fail          Verdict = "fail"
	NotRun        Verdict = "not-run"
	NotApplicable Verdict = "not-applicable"
)

// Engine says what produced a reading.
type Engine string

// The engines. A record for metal refuses Reference and Simulated.
const (
	EngineNode      Engine = "node"      // read from the machine itself, its BMC or the wire
	EngineCUDA      Engine = "cuda"      // computed on a GPU
	EngineReference Engine = "reference" // computed on a CPU in place of a GPU
	EngineSimulated Engine = "simulated" // made up by a simulator
)

// Check is one reading held against one threshold.
type Check struct {
	Name      string  `json:"name"`      // "memory.dimms"
	Verdict   Verdict `json:"verdict"`   //
	Reading   string  `json:"reading"`   // what was found, with unit
	Threshold string  `json:"threshold"` // what was declared or required, with unit
	Source    string  `json:"source"`    // where the threshold comes from: "nodes.hcl:12", a datasheet, an RFC
	Part      string  `json:"part"`      // the part to look at: "DIMM A1", "boot NIC 52:54:00:…"
}

// Evidence is the proof for entering one lifecycle state.
type Evidence struct {
	Node   string    `json:"node"`
	State  string    `json:"state"` // the state it proves
	Time   time.Time `json:"time"`
	Engine Engine    `json:"engine"`
	Lab    bool      `json:"lab,omitempty"` // read from a virtual or simulated machine
	Checks []Check   `json:"checks"`
	Data   []string  `json:"data,omitempty"` // digests of what was measured beside the checks: samples of a burn-in
}

// Verdict is Fail if any check failed, else NotRun if any was not run or
// there is no check at all, else Pass.
func (e Evidence) Verdict() Verdict {
	worst := NotRun
	for _, c := range e.Checks {
		switch c.Verdict {
		case Fail:
			return Fail
		case Pass, NotApplicable:
			if worst == NotRun {
				worst = Pass
			}
		}
	}
	for _, c := range e.Checks {
		if c.Verdict != Pass && c.Verdict != NotApplicable {
			return NotRun
		}
	}
	return worst
}
