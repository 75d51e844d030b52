package burnin

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"firstlight/provision/acceptance"
)

// fleet is nodes with eight GPUs whose products take about 1,500 µs, a little
// more in the back slots; change makes one of them otherwise.
func fleet(nodes int, change func(node, gpu int, l *LoadRun)) []NodeBurn {
	var out []NodeBurn
	shape := Shape{M: 8192, N: 8192, K: 8192, TileM: 128, TileN: 256}
	for n := range nodes {
		s := &StageBurn{Stage: Stage{Name: StageSoak}, Done: 1, Phases: 1}
		b := &Burn{Engine: acceptance.EngineCUDA, Stages: []*StageBurn{s}}
		for g := range 8 {
			l := &LoadRun{Load: LoadGEMM, Type: BF16, Engine: acceptance.EngineCUDA, Shape: shape, Golden: 99, Cover: Coverage{FLOPs: 1e18, Seconds: 72 * 3600}}
			for i := range 200 {
				l.Micros.Add(uint32(1500 + 20*g + 3*n%7 + i%5))
			}
			if change != nil {
				change(n, g, l)
			}
			b.GPUs = append(b.GPUs, GPU{Index: g})
			s.GPUs = append(s.GPUs, &GPURun{GPU: GPU{Index: g}, Device: "NVIDIA H200", Loads: []*LoadRun{l}})
		}
		out = append(out, NodeBurn{Node: fmt.Sprintf("hnode%03d", n+1), Burns: []*Burn{b}})
	}
	return out
}

func TestJudge(t *testing.T) {
	tests := []struct {
		name        string
		change      func(node, gpu int, l *LoadRun)
		check, part string // that fails; "": none
	}{
		{name: "healthy"},
		{name: "a straggler", check: "burn-in.fleet.straggler", part: "hnode004 GPU 5", change: func(n, g int, l *LoadRun) {
			if n == 3 && g == 5 {
				l.Micros = Histogram{}
				for range 200 {
					l.Micros.Add(1700)
				}
			}
		}},
		{name: "stalls", check: "burn-in.fleet.iterations", part: "hnode002 GPU 1", change: func(n, g int, l *LoadRun) {
			if n == 1 && g == 1 {
				for range 20 {
					l.Micros.Add(6000)
				}
			}
		}},
		{name: "another result", check: "burn-in.fleet.golden", part: "hnode001 GPU 0", change: func(n, g int, l *LoadRun) {
			if n+g == 0 {
				l.Golden = 98
			}
		}},
	}
	for _, tt := range tests {
		f := Judge(fleet(16, tt.change))
		failed := f.Failed()
		if tt.check == "" {
			if len(failed) != 0 {
				t.Errorf("%s: %+v", tt.name, failed)
			}
			continue
		}
		if len(failed) == 0 || failed[0].Name != tt.check || failed[0].Part != tt.part || slices.ContainsFunc(failed, func(c acceptance.Check) bool { return c.Part != tt.part }) {
			t.Errorf("%s: %+v; want %s of %s alone", tt.name, failed, tt.check, tt.part)
		}
	}
	// One slow slot of every node is its place, not its fault: it is held
	// against its like.
	if f := Judge(fleet(8, func(_, g int, l *LoadRun) {
		if g == 7 {
			l.Micros = Histogram{}
			l.Micros.Add(1600)
		}
	})); len(f.Failed()) != 0 {
		t.Errorf("a slow slot: %+v", f.Failed())
	}
}

// Seven nodes say nothing of what is usual, whatever one of them does.
func TestJudgeRefusesToLearn(t *testing.T) {
	f := Judge(fleet(7, func(n, _ int, l *LoadRun) {
		if n == 0 {
			l.Micros = Histogram{}
			l.Micros.Add(4500)
		}
	}))
	i := slices.IndexFunc(f.Checks, func(c acceptance.Check) bool { return c.Name == "burn-in.fleet.peers" })
	if f.Checks[i].Verdict != acceptance.NotRun || !strings.Contains(f.Checks[i].Reading, "7 nodes of a kind: too few") || len(f.Failed()) != 0 {
		t.Errorf("%+v", f.Checks)
	}
	if Judge([]NodeBurn{{Node: "n1"}}) != nil {
		t.Error("a fleet that was not burned in is judged")
	}
}

// 1,024 GPUs for 72 hours: 1.45 faults are expected, four are within the bound,
// five are not.
func TestFaultsExpected(t *testing.T) {
	nodes := fleet(128, nil)
	for faults, want := range map[int]acceptance.Verdict{0: acceptance.Pass, 4: acceptance.Pass, 5: acceptance.Fail} {
		for i := range nodes {
			nodes[i].Bad = i < faults
		}
		f := Judge(nodes)
		if math.Abs(f.Expected-1.454) > 0.001 || f.GPUs != 1024 || f.Hours != 73728 || f.FLOPs != 1.024e21 || f.Checks[0].Verdict != want {
			t.Errorf("%d faults: %s; %+v", faults, f.Covered(), f.Checks[0])
		}
	}
	for expected, want := range map[float64]int{0: 0, 0.05: 0, 0.06: 1, 1.45: 4, 10: 15} {
		if got := poissonBound(expected); got != want {
			t.Errorf("bound of %v expected = %d; want %d", expected, got, want)
		}
	}
}

func TestDistance(t *testing.T) {
	var a, b Histogram
	for i := range uint32(100) {
		a.Add(1000 + i)
		b.Add(1100 + i)
	}
	if d := Distance(a, a); d != 0 {
		t.Errorf("distance of the same = %v", d)
	}
	if d := Distance(a, b); d < 0.08 || d > 0.095 {
		t.Errorf("100 µs of 1,150 apart = %v; want about 0.087", d)
	}
	if d := Distance(nil, b); d != 0 {
		t.Errorf("distance of none = %v", d)
	}
}
