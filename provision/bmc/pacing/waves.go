package pacing

import "time"

// Wave is the machines that can start at the same time, beside each other.
type Wave struct {
	Nodes []string
	Watts int64  // that they draw together
	Draws []Draw // of the circuits that have a limit
}

// Waves lays out in which order machines are switched on if all take equally
// long to start: what a plan shows before any of them has. Those that can never
// be switched on are in no wave, and never says why.
func Waves(circuits []Circuit, loads []Load) (waves []Wave, never map[string]error) {
	s := New(circuits, 0)
	watts := map[string]int64{}
	for _, l := range loads {
		l.Settle = time.Hour
		if err := s.Ask(l); err != nil {
			if never == nil {
				never = map[string]error{}
			}
			never[l.Node] = err
			continue
		}
		watts[l.Node] = l.Watts
	}
	for now := (time.Time{}); ; now = now.Add(time.Second) {
		nodes, _ := s.Admit(now)
		if nodes == nil {
			return waves, never
		}
		w := Wave{Nodes: nodes, Draws: s.Draws()}
		for _, n := range nodes {
			w.Watts += watts[n]
			s.Settled(n)
		}
		waves = append(waves, w)
	}
}
