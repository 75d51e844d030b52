package provision

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"firstlight/inventory"
)

func TestApplyConverges(t *testing.T) {
	r := newRig(20)
	known, plan, err := r.apply(t)
	if err != nil {
		t.Fatal(err)
	}
	if plan.Summary.BringUp != 20 || plan.Summary.PowerCycles != 20 || plan.Summary.DiskErasures != 0 {
		t.Errorf("plan = %+v; want 20 to bring up with 20 power cycles", plan.Summary)
	}
	for name, n := range known.Nodes {
		if n.State != Ready {
			t.Errorf("%s; want ready", n)
		}
		if m := r.world.machines[name]; m.ons != 1 || m.cycles != 0 || m.reboots != 1 {
			t.Errorf("%s: %d power-ons, %d cycles, %d reboots; want 1, 0, 1", name, m.ons, m.cycles, m.reboots)
		}
	}
	again := MakePlan(r.want, known, nil, time.Now())
	if again.Changes() || again.Summary.NoChange != 20 {
		t.Errorf("plan after apply = %+v; want no changes", again.Summary)
	}
}

// TestCrashAfterEveryWrite kills the controller after each journal write of a
// bring-up, and holds that the next apply ends ready without a second power
// action of the same boot.
func TestCrashAfterEveryWrite(t *testing.T) {
	r := newRig(1)
	if _, _, err := r.apply(t); err != nil {
		t.Fatal(err)
	}
	writes := len(r.log.(*memory).events)
	if writes < 15 {
		t.Fatalf("a bring-up wrote %d events; want at least 15", writes)
	}
	for at := 1; at < writes; at++ {
		t.Run(fmt.Sprint("after write ", at), func(t *testing.T) {
			t.Parallel()
			r := newRig(1)
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
			if n := known.Nodes["n1"]; n.State != Ready {
				t.Errorf("%s; want ready", n)
			}
			mc := r.world.machines["n1"]
			if mc.ons != 1 || mc.cycles != 0 || mc.reboots != 1 {
				t.Errorf("%d power-ons, %d cycles, %d reboots; want 1, 0, 1", mc.ons, mc.cycles, mc.reboots)
			}
		})
	}
}

// TestFaults plays machines that misbehave; one never stops another.
func TestFaults(t *testing.T) {
	tests := []struct {
		name   string
		fault  func(*machine)
		state  State
		reason []string
		cycles int
	}{
		{"override ignored once", func(m *machine) { m.ignoreOnce = true }, Ready, nil, 1},
		{"override always ignored", func(m *machine) { m.ignoreAll = true }, Failed,
			[]string{"no DHCP from 52:54:00:00:00:01", "accepted the persistent PXE override", "attempt 3 of 3"}, 2},
		{"wrong password", func(m *machine) { m.refuse = &Refused{Reason: "password refused", Person: true} }, Quarantined, []string{"password refused"}, 0},
		{"disk missing", func(m *machine) { m.disksLess = 1 }, Failed, []string{"disks.root: found 1 (nvme0n1), declared 2 x 4GiB nvme"}, 0},
		{"BMC falls silent", func(m *machine) { m.muteAfter = 1 }, Failed, []string{"BMC did not answer", "attempt 3 of 3"}, 0},
		{"declared and never read", func(m *machine) {
			h := *m.node.Hardware
			m.oldAgent = true
			h.GPU = &inventory.GPU{Memory: inventory.Size{Bytes: 141e9, Text: "141GB"}, NVLinks: 18}
			m.node.Hardware = &h
		}, Failed, []string{"gpu.memory not run: the agent on the node did not read its GPUs", "gpu.nvlink.count not run"}, 0},
		{"no nic", func(m *machine) { m.node.NICs = nil }, Failed, []string{"no nic block is declared"}, 0},
		{"root digest", func(m *machine) { m.badRoot = true }, Failed, []string{"root file system digest is sha256:bad, manifest says sha256:root"}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(2)
			r.want.Cluster.Settings.Deadlines["enrolled"] = 300 * time.Millisecond
			tt.fault(r.world.machines["n1"])
			known, _, err := r.apply(t)
			if err != nil {
				t.Fatal(err)
			}
			n := known.Nodes["n1"]
			if n.State != tt.state {
				t.Errorf("%s; want %s", n, tt.state)
			}
			for _, want := range tt.reason {
				if !strings.Contains(n.Reason, want) {
					t.Errorf("reason %q; want it to contain %q", n.Reason, want)
				}
			}
			if got := r.world.machines["n1"].cycles; got != tt.cycles {
				t.Errorf("%d power cycles; want %d", got, tt.cycles)
			}
			if n := known.Nodes["n2"]; n.State != Ready {
				t.Errorf("healthy neighbour: %s; want ready", n)
			}
		})
	}
}

// TestChangeRedoesOnlyWhatItMust changes the declaration of ready nodes.
func TestChangeRedoesOnlyWhatItMust(t *testing.T) {
	tests := []struct {
		name   string
		change func(*Want)
		action string
		redo   []State
		reason string
		cost   Disruption
	}{
		{"rack label", func(w *Want) { w.Cluster.Nodes[0].Rack = &inventory.Rack{Name: "b02"} }, ActionNone, nil, "every proof is in", Disruption{}},
		{"image digest", func(w *Want) { w.Images = map[string]string{"compute": "sha256:image2"} }, ActionChange,
			[]State{Provisioned, Validated, Ready}, "image.digest: sha256:image1 -> sha256:image2", Disruption{PowerCycles: 1}},
		{"disk count", func(w *Want) {
			h := *w.Cluster.Nodes[0].Hardware
			h.Disks = []inventory.Disk{{Name: "root", Count: 1, Size: h.Disks[0].Size, Transport: "nvme"}}
			w.Cluster.Nodes[0].Hardware = &h
		}, ActionChange, []State{Enrolled, Matched, Provisioned, Validated, BurnedIn, Ready}, "hardware.disk.root: 2 x 4GiB nvme -> 1 x 4GiB nvme", Disruption{PowerCycles: 1, Reboots: 1}},
		{"password", func(w *Want) {
			b := *w.Cluster.Nodes[0].BMC
			b.Credential = &inventory.Credential{Username: "admin", Password: "other"}
			w.Cluster.Nodes[0].BMC = &b
		}, ActionChange, []State{Reachable, Ready}, "bmc.credential: fingerprint", Disruption{}},
		{"password from elsewhere", func(w *Want) {
			b := *w.Cluster.Nodes[0].BMC
			c := *b.Credential
			c.PasswordCommand = []string{"false"} // planning does not run it
			b.Credential = &c
			w.Cluster.Nodes[0].BMC = &b
		}, ActionChange, []State{Reachable, Ready}, "bmc.credential: fingerprint", Disruption{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(1)
			known, _, err := r.apply(t)
			if err != nil {
				t.Fatal(err)
			}
			tt.change(&r.want)
			step := MakePlan(r.want, known, nil, time.Now()).Nodes[0]
			if step.Action != tt.action || !slices.Equal(step.Redo, tt.redo) || step.Disruption != tt.cost {
				t.Errorf("step = %s %v %+v; want %s %v %+v", step.Action, step.Redo, step.Disruption, tt.action, tt.redo, tt.cost)
			}
			if !strings.Contains(strings.Join(step.Reasons, "; "), tt.reason) {
				t.Errorf("reasons = %q; want %q", step.Reasons, tt.reason)
			}
		})
	}
}

func TestCredentialChangeReappliedWithoutDisruption(t *testing.T) {
	r := newRig(1)
	if _, _, err := r.apply(t); err != nil {
		t.Fatal(err)
	}
	b := *r.want.Cluster.Nodes[0].BMC
	b.Credential = &inventory.Credential{Username: "admin", Password: "other"}
	r.want.Cluster.Nodes[0].BMC = &b
	known, _, err := r.apply(t)
	if err != nil || known.Nodes["n1"].State != Ready {
		t.Fatalf("apply = %s, %v; want ready", known.Nodes["n1"], err)
	}
	if m := r.world.machines["n1"]; m.ons+m.cycles+m.reboots != 2 {
		t.Errorf("%d power-ons, %d cycles, %d reboots; want none beyond the bring-up's 1 and 1", m.ons, m.cycles, m.reboots)
	}
}

// TestMendedNodeIsReadAnew: the agent of a failed node still runs, and what it
// found before the mending must not be taken for what is there now.
func TestMendedNodeIsReadAnew(t *testing.T) {
	r := newRig(1)
	m := r.world.machines["n1"]
	m.disksLess = 1
	known, _, err := r.apply(t)
	if err != nil || known.Nodes["n1"].State != Failed {
		t.Fatalf("apply with a disk missing = %s, %v; want failed", known.Nodes["n1"], err)
	}
	m.disksLess = 0 // plugged in while the node runs
	known, _, err = r.apply(t)
	if err != nil || known.Nodes["n1"].State != Ready {
		t.Errorf("apply after it was mended = %s, %v; want ready", known.Nodes["n1"], err)
	}
}

func TestQuarantineWaitsForAPersonOrAChange(t *testing.T) {
	t.Run("identity", func(t *testing.T) { quarantineAndMend(t, func(m *machine, r *Refused) { m.refuse = r }) })
	t.Run("boot override", func(t *testing.T) { quarantineAndMend(t, func(m *machine, r *Refused) { m.refuseBoot = r }) })
}

func quarantineAndMend(t *testing.T, refuse func(*machine, *Refused)) {
	r := newRig(1)
	refuse(r.world.machines["n1"], &Refused{Reason: "password refused", Person: true})
	known, _, err := r.apply(t)
	if err != nil {
		t.Fatal(err)
	}
	if p := MakePlan(r.want, known, nil, time.Now()); p.Changes() || p.Summary.Held != 1 {
		t.Errorf("plan = %+v; want the node held", p.Summary)
	}
	b := *r.want.Cluster.Nodes[0].BMC
	b.Credential = &inventory.Credential{Username: "admin", Password: "right"}
	r.want.Cluster.Nodes[0].BMC = &b
	refuse(r.world.machines["n1"], nil)
	known, plan, err := r.apply(t)
	if err != nil || known.Nodes["n1"].State != Ready {
		t.Errorf("after the password was mended: %s, %v (plan %+v); want ready", known.Nodes["n1"], err, plan.Nodes)
	}
}

func TestRemovedNodeIsForgottenNotTouched(t *testing.T) {
	r := newRig(2)
	known, _, err := r.apply(t)
	if err != nil {
		t.Fatal(err)
	}
	r.want.Cluster.Nodes = r.want.Cluster.Nodes[:1]
	before := *r.world.machines["n2"]
	known, plan, err := r.apply(t)
	if err != nil || plan.Summary.Remove != 1 {
		t.Fatalf("apply = %+v, %v; want one removal", plan.Summary, err)
	}
	if _, ok := known.Nodes["n2"]; ok {
		t.Error("n2 is still known after its removal")
	}
	after := r.world.machines["n2"]
	if after.ons != before.ons || after.cycles != before.cycles || after.reboots != before.reboots {
		t.Error("a removed node was touched")
	}
}

func TestStalePlanIsRefused(t *testing.T) {
	r := newRig(1)
	e, known := r.engine(t)
	p := MakePlan(r.want, known, nil, time.Now())
	p.Serial++
	if _, err := e.Run(t.Context(), p); !errors.Is(err, ErrConflict) || !strings.Contains(err.Error(), "stale") {
		t.Errorf("Run of a stale plan = %v; want it refused as stale", err)
	}
}

// TestFullJournalStopsEverything: without a journal nothing may be done.
func TestFullJournalStopsEverything(t *testing.T) {
	r := newRig(3)
	m := r.log.(*memory)
	m.full = errors.New("no space left on device")
	if _, _, err := r.apply(t); err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("Run = %v; want the journal's error", err)
	}
	for name, m := range r.world.machines {
		if m.ons+m.cycles > 0 {
			t.Errorf("%s was powered on without a journal", name)
		}
	}
}

// TestRebootedNodeIsNotReady: what was checked was true of the boot before.
func TestRebootedNodeIsNotReady(t *testing.T) {
	r := newRig(2)
	r.world.machines["n2"].ignoreAll = true // keeps the engine running for a moment
	r.want.Cluster.Settings.Deadlines["enrolled"] = 500 * time.Millisecond
	r.want.Cluster.Settings.Attempts = 1
	var once sync.Once
	e, known := r.engine(t)
	e.Watch = func(u Update) {
		if u.Node.Name == "n1" && u.Node.State == Ready {
			once.Do(func() {
				r.world.mu.Lock()
				r.world.start(r.world.machines["n1"]) // a crash: nobody ordered it
				r.world.mu.Unlock()
			})
		}
	}
	known, err := e.Run(t.Context(), MakePlan(r.want, known, nil, time.Now()))
	if err != nil {
		t.Fatal(err)
	}
	if n := known.Nodes["n1"]; n.State != Provisioned || !strings.Contains(n.Reason, "booted again by itself") {
		t.Fatalf("%s; want provisioned, because it booted again by itself", n)
	}
	r.world.machines["n2"].ignoreAll = false
	known, _, err = r.apply(t)
	if n := known.Nodes["n1"]; err != nil || n.State != Ready {
		t.Errorf("after the next apply: %s, %v; want ready", n, err)
	}
	if m := r.world.machines["n1"]; m.ons != 1 || m.cycles != 0 {
		t.Errorf("%d power-ons, %d cycles; want 1, 0: it only had to be checked", m.ons, m.cycles)
	}
}

// TestMaintenanceProvesAnew: a person may have had the node open.
func TestMaintenanceProvesAnew(t *testing.T) {
	for _, hold := range []struct{ take, give string }{{EventMaintain, EventReturn}, {EventQuarantine, EventRelease}} {
		n := inState(t, Ready)
		n, _, _ = Next(n, event(t, 20, hold.take, ReasonData{Reason: "DIMM swap"}), epoch)
		n, _, _ = Next(n, event(t, 21, hold.give, ReasonData{}), epoch)
		if n.State != Reachable {
			t.Errorf("after %s and %s: %s; want reachable", hold.take, hold.give, n)
		}
	}
}

func TestHeldNodeIsNotForgotten(t *testing.T) {
	r := newRig(1)
	known := NewKnown()
	n := inState(t, Quarantined)
	n.Name = "gone"
	known.Nodes["gone"] = n
	p := MakePlan(r.want, known, nil, time.Now())
	if p.Summary.Remove != 0 || p.Summary.Held != 1 {
		t.Errorf("plan = %+v; want the quarantined node held, not removed", p.Summary)
	}
}

// TestUnconfirmedPowerIsNotRepeated: an answer was lost, not the action.
func TestUnconfirmedPowerIsNotRepeated(t *testing.T) {
	for _, power := range []string{"off", "on"} {
		r := newRig(1)
		m := r.world.machines["n1"]
		m.mute, m.power = true, power
		known, _, err := r.apply(t)
		if n := known.Nodes["n1"]; err != nil || n.State != Ready {
			t.Fatalf("from %s: %s, %v; want ready", power, n, err)
		}
		if m.ons+m.cycles != 1 {
			t.Errorf("from %s: %d power-ons, %d cycles; want one of them", power, m.ons, m.cycles)
		}
	}
}
