package provision

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"firstlight/inventory"
)

// TestRecipes holds the table itself.
func TestRecipes(t *testing.T) {
	all := []Rung{RungOnce, RungPersistent, RungOther, RungBMCReset, RungOutlet}
	for i, r := range Recipes() {
		if r.Source == "" || len(r.Ladder) == 0 || r.Ladder[0].prepared() {
			t.Errorf("recipe %d, %q, has no source, or does not begin with an override", i, r.Vendor)
		}
		last := -1
		for j, rung := range r.Ladder {
			if !slices.Contains(all, rung) || slices.Contains(r.Ladder[:j], rung) {
				t.Errorf("recipe of %q: rung %q is unknown or there twice", r.Vendor, rung)
			}
			if at := slices.Index(all, rung); rung.prepared() {
				if at < last {
					t.Errorf("recipe of %q: %q costs less than a rung before it", r.Vendor, rung)
				}
				last = at
			}
		}
	}
	if r := Recipes()[len(Recipes())-1]; r.Vendor+r.Product != "" {
		t.Errorf("the last recipe is of %q; want one that fits every machine", r.Vendor)
	}
	if r := RecipeOf(nil); r.Vendor != "" {
		t.Errorf("a machine of no class has the recipe of %q", r.Vendor)
	}
}

func TestLadderOf(t *testing.T) {
	one := []inventory.Outlet{{PDU: &inventory.PDU{Name: "a"}, ID: "1"}}
	tests := []struct {
		vendor   string
		both     bool
		settings inventory.Settings
		outlets  []inventory.Outlet
		want     string
	}{
		{"", false, inventory.Settings{Attempts: 3}, nil, "once, persistent, bmc-reset"},
		{"Acme", true, inventory.Settings{Attempts: 3}, nil, "once, persistent, other-protocol, bmc-reset"},
		{"Dell Inc.", true, inventory.Settings{Attempts: 3}, nil, "persistent, other-protocol, bmc-reset"},
		{"SUPERMICRO", true, inventory.Settings{}, nil, "once, other-protocol, persistent, bmc-reset"},
		{"Supermicro", false, inventory.Settings{}, nil, "once, persistent, bmc-reset"},
		{"OpenPOWER", false, inventory.Settings{}, nil, "once, persistent"},
		{"", true, inventory.Settings{Attempts: 2, AttemptsDeclared: true}, nil, "once, persistent"},
		{"", true, inventory.Settings{Attempts: 9, AttemptsDeclared: true}, nil, "once, persistent, other-protocol, bmc-reset"},
		{"Dell", false, inventory.Settings{Ladder: []string{"once", "other-protocol", "bmc-reset"}}, one, "once, bmc-reset"},
		{"", false, inventory.Settings{Attempts: 3}, one, "once, persistent, bmc-reset, outlet"},
		{"", false, inventory.Settings{Attempts: 3, AttemptsDeclared: true}, one, "once, persistent, bmc-reset"},
	}
	for _, tt := range tests {
		n := &inventory.Node{Hardware: &inventory.Hardware{Vendor: tt.vendor}, BMC: &inventory.BMC{}, Outlets: tt.outlets}
		if tt.both {
			n.BMC.Other = &inventory.BMC{}
		}
		got := Node{Ladder: LadderOf(n, tt.settings), Rung: 99}
		if got.tried() != tt.want {
			t.Errorf("LadderOf(%q, both %v, %+v) = %s; want %s", tt.vendor, tt.both, tt.settings, got.tried(), tt.want)
		}
	}
}

// TestLadderIsTaken: each fault ends in the rung that gets past it, or in failed
// with what was tried.
func TestLadderIsTaken(t *testing.T) {
	tests := []struct {
		name        string
		both        bool
		attempts    int // declared; 0: not
		fault       func(*machine)
		state       State
		rung        Rung
		reason      []string
		ons, cycles int
		resets      int
	}{
		{"healthy", true, 0, func(m *machine) {}, Ready, RungOnce, nil, 1, 0, 0},
		{"once ignored", true, 0, func(m *machine) { m.ignoreOnce = true }, Ready, RungPersistent, nil, 1, 1, 0},
		{"reverted until the BMC is reset", false, 0, func(m *machine) { m.reverts = true }, Ready, RungBMCReset, nil, 1, 0, 1},
		{"reverted by one protocol", true, 0, func(m *machine) { m.revertsHere = true }, Ready, RungOther, nil, 1, 0, 0},
		{"reverted by the only protocol", false, 0, func(m *machine) { m.revertsHere = true }, Failed, RungBMCReset,
			[]string{"did not keep it (attempt 3 of 3); tried in order: once, persistent, bmc-reset"}, 0, 0, 1},
		{"always ignored", true, 0, func(m *machine) { m.ignoreAll = true }, Failed, RungBMCReset,
			[]string{"no DHCP from", "(attempt 4 of 4); tried in order: once, persistent, other-protocol, bmc-reset"}, 1, 3, 1},
		{"always ignored, two attempts declared", true, 2, func(m *machine) { m.ignoreAll = true }, Failed, RungPersistent,
			[]string{"(attempt 2 of 2); tried in order: once, persistent"}, 1, 1, 0},
		{"BMC stays away", false, 0, func(m *machine) { m.reverts, m.stays = true, true }, Failed, RungBMCReset,
			[]string{"a restart of its BMC: restarted, and not back 5m later (attempt 3 of 3)"}, 0, 0, 1},
		{"kept once its power was cut", false, 0, func(m *machine) { m.revertsUntilCut = true; outlet(m) }, Ready, RungOutlet, nil, 1, 0, 1},
		{"frozen until its power was cut", false, 0, func(m *machine) { m.muteAfter = 1; outlet(m) }, Ready, RungOutlet, nil, 1, 0, 1},
		{"nothing helps", true, 0, func(m *machine) { m.ignoreAll = true; outlet(m) }, Failed, RungOutlet,
			[]string{"(attempt 5 of 5); tried in order: once, persistent, other-protocol, bmc-reset, outlet"}, 2, 3, 1},
		{"not the BMC's fault", true, 0, func(m *machine) { m.hangs = true }, Failed, RungPersistent,
			[]string{"the agent did not call home in", "(attempt 3 of 3)"}, 1, 2, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(2)
			r.want.Cluster.Settings.Deadlines["enrolled"] = 1500 * time.Millisecond
			if tt.attempts > 0 {
				r.want.Cluster.Settings.Attempts, r.want.Cluster.Settings.AttemptsDeclared = tt.attempts, true
			}
			if tt.both {
				r.want.Cluster.Nodes[0].BMC.Other = &inventory.BMC{Protocol: "redfish", Credential: r.want.Cluster.Nodes[0].BMC.Credential}
			}
			m := r.world.machines["n1"]
			tt.fault(m)
			known, plan, err := r.apply(t)
			if err != nil {
				t.Fatal(err)
			}
			n := known.Nodes["n1"]
			if n.State != tt.state || n.rung() != tt.rung {
				t.Errorf("%s on rung %s; want %s on %s", n, n.rung(), tt.state, tt.rung)
			}
			for _, want := range tt.reason {
				if !strings.Contains(n.Reason, want) {
					t.Errorf("reason %q; want it to contain %q", n.Reason, want)
				}
			}
			if m.ons != tt.ons || m.cycles != tt.cycles || m.resets != tt.resets {
				t.Errorf("%d power-ons, %d cycles, %d restarts of the BMC; want %d, %d, %d", m.ons, m.cycles, m.resets, tt.ons, tt.cycles, tt.resets)
			}
			if !slices.Contains(plan.Nodes[0].Ladder, tt.rung) {
				t.Errorf("the plan's ladder is %v; want %s in it", plan.Nodes[0].Ladder, tt.rung)
			}
			if n := known.Nodes["n2"]; n.State != Ready || n.Rung != 0 {
				t.Errorf("healthy neighbour: %s on rung %s; want ready on the first", n, n.rung())
			}
			replayed := NewKnown()
			events, _, _ := r.log.Read(t.Context(), 0)
			if _, err := replayed.Fold(events); err != nil || cmp.Diff(known.Nodes["n1"], replayed.Nodes["n1"]) != "" {
				t.Errorf("replay gives another node: %v\n%s", err, cmp.Diff(known.Nodes["n1"], replayed.Nodes["n1"]))
			}
		})
	}
}

// outlet gives a machine an outlet of a PDU.
func outlet(m *machine) {
	m.node.Outlets = []inventory.Outlet{{PDU: &inventory.PDU{Name: "a"}, ID: m.node.Name}}
}

// TestFailedBootQuotesConsole: what the console showed last is in the reason, cut
// and quoted.
func TestFailedBootQuotesConsole(t *testing.T) {
	r := newRig(2)
	r.want.Cluster.Settings.Deadlines["enrolled"] = time.Second
	r.want.Cluster.Settings.Attempts, r.want.Cluster.Settings.AttemptsDeclared = 1, true
	r.world.machines["n1"].hangs = true
	r.console = func(node string) []string {
		return []string{"Kernel panic on " + node, strings.Repeat("y", 200)}
	}
	known, _, err := r.apply(t)
	if err != nil {
		t.Fatal(err)
	}
	n := known.Nodes["n1"]
	want := fmt.Sprintf("; its console showed last: %q, %q", "Kernel panic on n1", strings.Repeat("y", 160)+"…")
	if n.State != Failed || !strings.Contains(n.Reason, want) {
		t.Errorf("%s: %q; want it failed, with %q", n.State, n.Reason, want)
	}
	if n := known.Nodes["n2"]; n.State != Ready {
		t.Errorf("healthy neighbour: %s", n)
	}
}

// TestCrashOnTheLadder kills the controller after each write of a bring-up that
// takes a restart of the BMC: it is restarted once, and the node ends ready.
func TestCrashOnTheLadder(t *testing.T) {
	r := newRig(1)
	r.world.machines["n1"].reverts = true
	if _, _, err := r.apply(t); err != nil {
		t.Fatal(err)
	}
	for at := 1; at < len(r.log.(*memory).events); at++ {
		t.Run(fmt.Sprint("after write ", at), func(t *testing.T) {
			t.Parallel()
			r := newRig(1)
			mc := r.world.machines["n1"]
			mc.reverts = true
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
			if n := known.Nodes["n1"]; n.State != Ready || mc.resets != 1 || mc.ons != 1 || mc.cycles != 0 {
				t.Errorf("%s after %d restarts of its BMC, %d power-ons, %d cycles; want ready, 1, 1, 0", n, mc.resets, mc.ons, mc.cycles)
			}
		})
	}
}

// TestNoActionUnnamed plays random faults with random crashes: every power action
// and every restart of a BMC was journalled before it was done, is one that the
// plan's ladder names, and is done to a node of the plan.
func TestNoActionUnnamed(t *testing.T) {
	for seed := range uint64(30) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(seed, 4))
			r := newRig(4)
			s := &r.want.Cluster.Settings
			s.Deadlines["enrolled"], s.Deadlines["provisioned"] = 150*time.Millisecond, 150*time.Millisecond
			s.Attempts, s.AttemptsDeclared = 1+rng.IntN(4), rng.IntN(3) == 0
			for i, n := range r.want.Cluster.Nodes {
				if rng.IntN(2) == 0 {
					n.BMC.Other = &inventory.BMC{Protocol: "redfish", Credential: n.BMC.Credential}
				}
				if rng.IntN(2) == 0 {
					n.Outlets = []inventory.Outlet{{PDU: &inventory.PDU{Name: "a"}, ID: n.Name}}
				}
				spoil(r.world.machines[n.Name], rng.IntN(10))
				if i == 3 {
					n.Hardware = &inventory.Hardware{Vendor: []string{"Dell", "Supermicro", "OpenPOWER"}[rng.IntN(3)]}
				}
			}
			log := r.log.(*memory)
			var done []deed
			r.world.done = func(node, what string) {
				log.mu.Lock()
				defer log.mu.Unlock()
				done = append(done, deed{node, what, len(log.events)})
			}
			log.after = 1 + rng.IntN(60)
			targets := r.want.Cluster.Nodes[:3]
			ladders := map[string][]Rung{}
			for range 2 {
				e, known := r.engine(t)
				p := MakePlan(r.want, known, targets, time.Now())
				for _, step := range p.Nodes {
					if len(step.Ladder) > 0 {
						ladders[step.Name] = step.Ladder
					}
				}
				if _, err := e.Run(t.Context(), p); err != nil && !errors.Is(err, errKilled) {
					t.Fatal(err)
				}
				r.world.mu.Lock()
				r.world.engine = nil
				r.world.mu.Unlock()
				log.mu.Lock()
				log.full, log.after = nil, 0
				log.mu.Unlock()
			}
			r.world.mu.Lock()
			defer r.world.mu.Unlock()
			holdNamed(t, log.events, done, ladders)
		})
	}
}

// spoil gives a machine one of the faults.
func spoil(m *machine, which int) {
	switch which {
	case 0:
		m.ignoreOnce = true
	case 1:
		m.ignoreAll = true
	case 2:
		m.reverts = true
	case 3:
		m.revertsHere = true
	case 4:
		m.reverts, m.stays = true, true
	case 5:
		m.mute = true
	case 6:
		m.hangs = true
	case 7:
		m.revertsUntilCut = true
	case 8:
		m.muteAfter = 1 // its BMC is frozen
	}
}

// deed is something that was done to a machine, and how many events were in the
// journal by then.
type deed struct {
	node, what string
	events     int
}

// holdNamed holds every deed against what was journalled before it.
func holdNamed(t *testing.T, events []Event, done []deed, ladders map[string][]Rung) {
	t.Helper()
	used := map[string]int{} // deeds by node and the announcement they need
	for _, d := range done {
		ladder, planned := ladders[d.node]
		if !planned {
			t.Errorf("%s: %s, and no plan names the node", d.node, d.what)
			continue
		}
		need := EventAttempt
		if d.what == "bmc-reset" || d.what == "outlet" {
			need = EventClimb
		}
		announced := 0
		for _, ev := range events[:d.events] {
			if ev.Node != d.node || ev.Kind != need {
				continue
			}
			var data struct {
				Rung Rung
				Boot *BootID
			}
			if err := json.Unmarshal(ev.Data, &data); err != nil {
				t.Fatal(err)
			}
			switch {
			case data.Boot != nil:
				announced++
				if !slices.Contains(ladder, data.Boot.Rung) {
					t.Errorf("%s: a boot on rung %q, and its ladder is %v", d.node, data.Boot.Rung, ladder)
				}
			case data.Rung != "":
				announced++
				if !slices.Contains(ladder, data.Rung) {
					t.Errorf("%s: rung %q, and its ladder is %v", d.node, data.Rung, ladder)
				}
			}
		}
		key := d.node + " " + need
		if used[key]++; used[key] > announced {
			t.Errorf("%s: %s is number %d of its kind, and %d were announced in the journal by then", d.node, d.what, used[key], announced)
		}
	}
}
