package main

import (
	"encoding/json"

	"firstlight/provision/acceptance"
	"firstlight/provision/burnin"
)

// mostCharted is how many nodes a report has charts of: more make a page that no
// browser opens. The failed ones come first.
const mostCharted = 32

// burns are the burn-ins that evidence rests on. What cannot be read any more is
// left out: the evidence says what was found.
func (s *site) burns(ev *acceptance.Evidence) []*burnin.Burn {
	if ev == nil {
		return nil
	}
	var out []*burnin.Burn
	for _, digest := range ev.Data {
		raw, err := s.evidence().Get(digest)
		if err != nil {
			continue
		}
		var b burnin.Burn
		if json.Unmarshal(raw, &b) == nil && b.Engine != "" {
			out = append(out, &b)
		}
	}
	return out
}

// judgeBurnIns compares the last burn-ins of all nodes.
func (s *site) judgeBurnIns(r *acceptance.Report) {
	var all []burnin.NodeBurn
	for _, n := range r.Nodes {
		b := burnin.NodeBurn{Node: n.Name}
		for _, span := range n.History {
			if burns := s.burns(span.Proof); burns != nil {
				b.Burns, b.Bad = burns, span.Proof.Verdict() == acceptance.Fail
			}
		}
		all = append(all, b)
	}
	r.BurnIn = burnin.Judge(all)
}

// addCharts plots what the nodes' last burn-ins sampled.
func (s *site) addCharts(r *acceptance.Report) {
	left := mostCharted
	for _, failed := range []bool{true, false} {
		for i := range r.Nodes {
			n := &r.Nodes[i]
			if n.Failed() != failed || left == 0 {
				continue
			}
			for _, span := range n.History {
				for _, b := range s.burns(span.Proof) {
					if charts, err := b.Charts(); err == nil {
						n.Charts = append(n.Charts, charts...)
					}
				}
			}
			if n.Charts != nil {
				left--
			}
		}
	}
}
