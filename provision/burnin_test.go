package provision

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"firstlight/inventory"
	"firstlight/provision/acceptance"
	"firstlight/provision/agent/api"
)

// burnRig is a rig whose nodes burn in: quick, and a soak after it.
func burnRig(n int) rig {
	r := newRig(n)
	a := &inventory.Acceptance{Name: "gpus", Node: &inventory.NodeStage{GEMM: inventory.Duration{Duration: time.Minute, Text: "60s"}, HBMSweep: true},
		Rack: &inventory.RackStage{Soak: inventory.Duration{Duration: time.Hour, Text: "1h"}}}
	for _, node := range r.want.Cluster.Nodes {
		node.Acceptance = a
	}
	return r
}

func TestBurnIn(t *testing.T) {
	r := burnRig(2)
	known, plan, err := r.apply(t)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range plan.Nodes {
		if step.Disruption.PowerCycles != 2 || step.Disruption.BurnInS != 3660 {
			t.Errorf("plan: %+v; want 2 power cycles and 3660 s", step.Disruption)
		}
	}
	for name, m := range r.world.machines {
		n := known.Nodes[name]
		if n.State != Ready {
			t.Fatalf("%s; want ready", n)
		}
		if m.ons != 2 || m.offs != 1 || m.cycles != 0 || m.reboots != 1 {
			t.Errorf("%d on, %d off, %d cycles, %d reboots; want 2, 1, 0, 1", m.ons, m.offs, m.cycles, m.reboots)
		}
		if diff := cmp.Diff([]string{"gemm", "hbm_sweep", "soak"}, m.burned); diff != "" {
			t.Error(diff)
		}
		ev := r.evidenceOf(t, n.Proofs[BurnedIn].Evidence)
		var names []string
		for _, c := range ev.Checks {
			names = append(names, c.Name)
		}
		want := []string{"burn-in.gemm", "burn-in.hbm_sweep", "cold-cycle.image.digest", "cold-cycle.image.root", "cold-cycle.image.kernel",
			"cold-cycle.boot.override", "cold-cycle.boot.path", "cold-cycle.agent.token", "burn-in.soak"}
		if diff := cmp.Diff(want, names); diff != "" || ev.Engine != acceptance.EngineReference || len(ev.Data) != 2 {
			t.Errorf("evidence by the %s engine, data %v: %s", ev.Engine, ev.Data, diff)
		}
	}
}

// A soak alone needs no power cycle, and no stage at all no GPU.
func TestBurnInParts(t *testing.T) {
	r := burnRig(1)
	r.want.Cluster.Nodes[0].Acceptance.Node = nil
	known, _, err := r.apply(t)
	if m := r.world.machines["n1"]; err != nil || known.Nodes["n1"].State != Ready || m.offs != 0 || len(m.burned) != 1 {
		t.Errorf("a soak alone: %v, %s, %d times off, burned in %v", err, known.Nodes["n1"], m.offs, m.burned)
	}
}

// TestBurnInCrashes kills the controller after every write: no stage is burned
// in twice, and no power action repeated.
func TestBurnInCrashes(t *testing.T) {
	r := burnRig(1)
	if _, _, err := r.apply(t); err != nil {
		t.Fatal(err)
	}
	writes := len(r.log.(*memory).events)
	for at := 1; at < writes; at++ {
		t.Run(fmt.Sprint("after write ", at), func(t *testing.T) {
			t.Parallel()
			r := burnRig(1)
			m := r.log.(*memory)
			m.after = at
			if _, _, err := r.apply(t); !errors.Is(err, errKilled) {
				t.Fatalf("Run = %v; want the crash", err)
			}
			r.world.mu.Lock()
			r.world.engine = nil
			r.world.mu.Unlock()
			m.full, m.after = nil, 0
			known, _, err := r.apply(t)
			if err != nil {
				t.Fatal(err)
			}
			mc := r.world.machines["n1"]
			if n := known.Nodes["n1"]; n.State != Ready || mc.ons != 2 || mc.offs != 1 || mc.cycles != 0 || mc.reboots != 1 {
				t.Errorf("%s; %d on, %d off, %d cycles, %d reboots; want 2, 1, 0, 1", n, mc.ons, mc.offs, mc.cycles, mc.reboots)
			}
			if diff := cmp.Diff([]string{"gemm", "hbm_sweep", "soak"}, mc.burned); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func failing(check api.Check) func(*machine, api.Job) api.Result {
	return func(_ *machine, job api.Job) api.Result {
		return api.Result{JobID: job.ID, Kind: job.Kind, Checks: []api.Check{check}, BurnIn: &api.BurnInResult{Engine: "reference", Data: []byte(`{}`)}}
	}
}

func TestBurnInFaults(t *testing.T) {
	wrong := api.Check{Name: "burn-in.gemm.exact", Verdict: "fail", Reading: "1 wrong (XOR 00000010)", Threshold: "0 wrong", Source: "exact", Part: "GPU 3, SM 17"}
	tests := []struct {
		name   string
		fault  func(*machine)
		state  State
		reason []string
	}{
		{"a wrong result", func(m *machine) { m.burn = failing(wrong) }, Quarantined, []string{"burn-in.gemm.exact: found 1 wrong (XOR 00000010)", "look at GPU 3, SM 17", "burn-in.soak not run: not begun"}},
		{"nothing said", func(m *machine) {
			m.burn = func(_ *machine, job api.Job) api.Result { return api.Result{JobID: job.ID, Kind: job.Kind} }
		}, Failed, []string{"burn-in.gemm not run: the agent does not say"}},
		{"no driver program", func(m *machine) {
			m.burn = func(_ *machine, job api.Job) api.Result {
				return api.Result{JobID: job.ID, Kind: job.Kind, Error: "firstlight-gpu is not on this node"}
			}
		}, Failed, []string{"burn-in.gemm not run: firstlight-gpu is not on this node"}},
		{"the node stops under load", func(m *machine) { m.crash = true }, Quarantined, []string{"burn-in.uptime", "booted again by itself under load"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := burnRig(2)
			m := r.world.machines["n1"]
			tt.fault(m)
			known, _, err := r.apply(t)
			if err != nil {
				t.Fatal(err)
			}
			n := known.Nodes["n1"]
			for _, want := range tt.reason {
				if !strings.Contains(n.Reason, want) {
					t.Errorf("reason %q; want it to contain %q", n.Reason, want)
				}
			}
			if n.State != tt.state || known.Nodes["n2"].State != Ready {
				t.Errorf("%s, %s; want %s and ready", n, known.Nodes["n2"], tt.state)
			}
			if n.State != Quarantined {
				return
			}
			// It stays until a person releases it, and is then proven from the BMC up.
			if p := MakePlan(r.want, known, nil, time.Now()); p.Nodes[0].Action != ActionHeld {
				t.Errorf("plan of it: %s; want it held", p.Nodes[0].Action)
			}
			released, _, err := Next(n, event(t, known.Serial+1, EventRelease, ReasonData{}), epoch)
			if err != nil || released.State != Reachable {
				t.Errorf("released: %s, %v; want reachable", released, err)
			}
		})
	}
}

// On metal a CPU is no GPU: the engine asks for cuda, and what another computed
// is no proof there.
func TestBurnInOfMetal(t *testing.T) {
	r := burnRig(1)
	e, _ := r.engine(t)
	if e.burnEngine() != acceptance.EngineReference {
		t.Errorf("a lab burns in by the %s engine", e.burnEngine())
	}
	e.Lab = false
	if e.burnEngine() != acceptance.EngineCUDA {
		t.Errorf("metal burns in by the %s engine", e.burnEngine())
	}
}

// A node that is burned in by request proves nothing else anew.
func TestBurnInAgain(t *testing.T) {
	r := burnRig(2)
	known, _, err := r.apply(t)
	if err != nil {
		t.Fatal(err)
	}
	first := known.Nodes["n1"].Proofs
	r.want.Burn = map[string]bool{"n1": true}
	p := MakePlan(r.want, known, r.want.Cluster.Nodes[:1], time.Now())
	if s := p.Nodes[0]; !s.Burn || s.Action != ActionChange || cmp.Diff([]State{BurnedIn, Ready}, s.Redo) != "" {
		t.Fatalf("plan: %+v", s)
	}
	e, _ := r.engine(t)
	if known, err = e.Run(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	m, n := r.world.machines["n1"], known.Nodes["n1"]
	if n.State != Ready || len(m.burned) != 6 || m.offs != 2 || m.reboots != 1 || m.cycles != 0 {
		t.Errorf("%s, burned in %v, %d times off, %d reboots, %d cycles", n, m.burned, m.offs, m.reboots, m.cycles)
	}
	for s, p := range n.Proofs {
		if again := s == BurnedIn || s == Ready; again == p.At.Equal(first[s].At) {
			t.Errorf("proof of %s: anew %v; want %v", s, !p.At.Equal(first[s].At), again)
		}
	}
	if len(r.world.machines["n2"].burned) != 3 {
		t.Error("the other node was burned in, too")
	}
}
