package provision

import (
	"fmt"
	"strings"
	"testing"

	"firstlight/inventory"
)

// budgeted gives the nodes of a cluster a draw of 10 kW each and their rack a
// budget for those that start.
func budgeted(c *inventory.Cluster, budget string) *inventory.Cluster {
	p, err := inventory.ParsePower(budget)
	if err != nil {
		panic(err)
	}
	for _, n := range c.Nodes {
		n.Hardware.Power = inventory.Power{Watts: 10000, Text: "10kW"}
		n.Rack.PowerOnBudget = p
	}
	return c
}

// TestPlanWaves: only nodes that will be switched on are in a wave, and targets
// make their own.
func TestPlanWaves(t *testing.T) {
	want := Want{Cluster: budgeted(testCluster(5), "25kW"), Images: map[string]string{}}
	known := NewKnown()
	known.Nodes["n2"] = proven(want, want.Cluster.Node("n2"))
	waves := func(p Plan) string {
		var out []string
		for _, w := range p.Waves {
			out = append(out, fmt.Sprint(w.Nodes, w.Watts))
		}
		for _, s := range p.Nodes {
			out = append(out, fmt.Sprintf("%s:%d", s.Name, s.Wave))
		}
		return strings.Join(out, " ")
	}
	if got := waves(MakePlan(want, known, nil, epoch)); got != "[n1 n3] 20000 [n4 n5] 20000 n1:1 n2:0 n3:1 n4:2 n5:2" {
		t.Error(got)
	}
	if got := waves(MakePlan(want, known, want.Cluster.Nodes[1:4], epoch)); got != "[n3 n4] 20000 n2:0 n3:1 n4:1" {
		t.Error(got)
	}
	calm := MakePlan(want, known, nil, epoch).Summary.DurationS
	want.Cluster.Settings.PowerOnRate = 0.001
	if slow := MakePlan(want, known, nil, epoch).Summary.DurationS; slow <= calm {
		t.Errorf("a plan of four nodes at one each 1,000 s takes %g s; without that %g s", slow, calm)
	}
	want.Cluster.Nodes[0].Rack.PowerOnBudget.Watts = 0
	if p := MakePlan(want, known, nil, epoch); p.Waves != nil || p.Summary.DurationS >= 10000 {
		t.Errorf("without a budget: waves %v", p.Waves)
	}
	// The inventory refuses this one; a cluster made by hand does not.
	want.Cluster.Nodes[0].Rack.PowerOnBudget.Watts = 9000
	if p := MakePlan(want, known, nil, epoch); p.Waves != nil || !strings.Contains(fmt.Sprint(p.Nodes[0].Reasons), "it will not be switched on: n1 draws 10000 W") {
		t.Errorf("waves %v, reasons %q", p.Waves, p.Nodes[0].Reasons)
	}
}
