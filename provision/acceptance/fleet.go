package acceptance

import (
	"fmt"
	"time"
)

// FleetBurnIn is what the burn-ins of all nodes say together: what was really
// done, and which GPU is not like its peers.
type FleetBurnIn struct {
	Nodes    int      `json:"nodes"` // that were burned in
	GPUs     int      `json:"gpus"`
	Engines  []Engine `json:"engines"`
	FLOPs    float64  `json:"flops"` // verified bit for bit
	Bytes    float64  `json:"bytes"` // of memory written and verified
	Hours    float64  `json:"gpu_hours"`
	Faults   int      `json:"faults"`   // nodes whose last burn-in did not pass
	Expected float64  `json:"expected"` // faults, at the rate of a healthy fleet
	Bound    int      `json:"bound"`    // the most that a healthy fleet has
	Checks   []Check  `json:"checks"`
	NotRun   []string `json:"not_run,omitempty"`
}

// FaultCheck holds the faults against what is to be expected. A long soak of many
// GPUs without one is luck and no rule; each is mended and soaked again.
func (f *FleetBurnIn) FaultCheck() Check {
	c := Check{Name: "burn-in.fleet.faults", Verdict: Pass, Part: "nodes", Reading: fmt.Sprintf("%d in %.4g GPU-hours", f.Faults, f.Hours),
		Threshold: fmt.Sprintf("at most %d, where %.3g are expected (95 %% of healthy fleets); each mended and burned in again", f.Bound, f.Expected),
		Source:    "Poisson bound; one interruption per 50,700 GPU-hours (The Llama 3 Herd of Models, 3.3.4)"}
	if f.Faults > f.Bound {
		c.Verdict = Fail
	}
	return c
}

// Failed lists the checks that failed.
func (f *FleetBurnIn) Failed() (out []Check) {
	if f == nil {
		return nil
	}
	for _, c := range f.Checks {
		if c.Verdict == Fail {
			out = append(out, c)
		}
	}
	return out
}

// Covered says what was done, in words.
func (f *FleetBurnIn) Covered() string {
	return fmt.Sprintf("%d GPUs of %d nodes: %.4g FLOP verified bit for bit, %.4g bytes of memory swept, %.4g GPU-hours", f.GPUs, f.Nodes, f.FLOPs, f.Bytes, f.Hours)
}

func (f *FleetBurnIn) junit(at time.Time) junitSuite {
	s := junitSuite{Name: "burn-in of the fleet", Time: "0.000", Timestamp: at.UTC().Format("2006-01-02T15:04:05")}
	for _, c := range f.Checks {
		s.Cases = append(s.Cases, c.junit("burn-in.fleet"))
	}
	s.count()
	return s
}
