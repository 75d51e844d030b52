package main

import (
	"encoding/json"
	"testing"
	"time"

	"firstlight/internal/simrack"
	"firstlight/provision"
)

// testLadder: each fault of a BMC that is declared by one protocol ends on the
// rung that gets past it, or is failed with what was tried.
func testLadder(t *testing.T) {
	r := newFaultRig(t, rackSpec{nodes: 5, deadlines: map[string]string{"enrolled": "8s"}},
		simrack.Fault{Node: "node-1", Kind: simrack.RevertUntilReset},
		simrack.Fault{Node: "node-2", Kind: simrack.IgnoreEFIFlag},
		simrack.Fault{Node: "node-3", Kind: simrack.LyingBMC},
		simrack.Fault{Node: "node-4", Kind: simrack.FrozenBMC, After: 5})
	o := r.apply(1)
	r.wantStates(provision.Ready, provision.Failed, provision.Failed, provision.Failed, provision.Ready)
	const spent = "(attempt 3 of 3); tried in order: once, persistent, bmc-reset"
	wantText(t, "apply", o.stderr, "node-1: reachable: ", "did not keep it", "trying again (attempt 2 of 3 failed); next: a restart of its BMC",
		"node-1: a restart of its BMC begins", "node-1: a restart of its BMC done")
	wantText(t, "node-2", lineOf(o.stderr, "node-2: failed: "), `reads back "pxe bios persistent"`, spent)
	wantText(t, "node-3", lineOf(o.stderr, "node-3: failed: "), "accepted power on, and", "the power is off", spent)
	wantText(t, "node-4", lineOf(o.stderr, "node-4: failed: "), "did not answer for", spent)
	wantText(t, "show", r.cli("show", "node-1").stdout, "a restart of its BMC was tried last, of once, persistent, bmc-reset", "boot.override: found persistent PXE, read back; boot by power-on, after a restart of its BMC")
	for i, want := range []int{1, 1, 1, 0, 0} {
		if c := r.rack.Counters(nodeName(i + 1)); c.BMCResets != want {
			t.Errorf("the BMC of %s was restarted %d times; want %d", nodeName(i+1), c.BMCResets, want)
		}
	}
	r.wantPower(1, 1, 0, 1)
	r.wantPower(2, 0, 0, 0)
	r.wantRung(1, provision.RungBMCReset)
	r.wantRung(3, provision.RungBMCReset)
}

// testLadderOfTwo: where IPMI fails, Redfish is the next rung; where IPMI is
// silent, Redfish is asked at once, and that is said.
func testLadderOfTwo(t *testing.T) {
	r := newFaultRig(t, rackSpec{nodes: 6, attempts: 4, both: true, deadlines: map[string]string{"enrolled": "15s"}},
		simrack.Fault{Node: "node-1", Kind: simrack.RevertBootOverride, Protocol: "ipmi"},
		simrack.Fault{Node: "node-2", Kind: simrack.FrozenBMC, After: 5, Protocol: "ipmi"},
		simrack.Fault{Node: "node-3", Kind: simrack.IgnoreEFIFlag, Protocol: "ipmi"},
		simrack.Fault{Node: "node-4", Kind: simrack.LyingBMC, Protocol: "ipmi"},
		simrack.Fault{Node: "node-5", Kind: simrack.DeadBMC, Protocol: "ipmi"})
	o := r.apply(0)
	wantText(t, "apply", o.stderr, "node-1: reachable: ", "trying again (attempt 2 of 4 failed); next: its BMC's other protocol")
	for i := 1; i <= 6; i++ {
		if c := r.rack.Counters(nodeName(i)); c.BMCResets != 0 || c.NetworkBoots != 2 || c.DiskBoots != 0 {
			t.Errorf("%s: %d restarts of the BMC, %d network and %d disk boots; want 0, 2, 0", nodeName(i), c.BMCResets, c.NetworkBoots, c.DiskBoots)
		}
	}
	r.wantPower(1, 1, 0, 1)
	r.wantRung(1, provision.RungOther)
	r.wantRung(2, provision.RungOnce)
	r.wantRung(3, provision.RungOther)
	r.wantRung(4, provision.RungOther)
	r.wantRung(5, provision.RungOnce)
	r.wantRung(6, provision.RungOnce)
	wantText(t, "status", r.cli("status", "-target", "node-5").stdout, "its BMC was asked by redfish instead of ipmi: node node-5: bmc 10.20.1.5:623 (")
	if s := r.cli("status", "-target", "node-6").stdout; containsBytes([]byte(s), "asked by") {
		t.Errorf("status tells of a detour to a healthy BMC:\n%s", s)
	}
}

// testLadderWithOutlets: a BMC that hangs is got back by cutting its power, both
// outlets of it; what that does not mend is failed, with every outlet on.
func testLadderWithOutlets(t *testing.T) {
	r := newFaultRig(t, rackSpec{nodes: 4, attempts: -1, outlets: true, deadlines: map[string]string{"enrolled": "8s"}},
		simrack.Fault{Node: "node-1", Kind: simrack.FrozenBMC, After: 5},
		simrack.Fault{Node: "node-2", Kind: simrack.IgnoreBootOverride},
		simrack.Fault{Node: "node-3", Kind: simrack.RevertBootOverride},
		simrack.Fault{Node: "node-3", Kind: simrack.MissingOutlet})
	wantText(t, "plan", r.cli("plan").stdout, "because its PDU outlets are switched off and on if nothing else gets its BMC to obey")
	o := r.apply(1)
	r.wantStates(provision.Ready, provision.Ready, provision.Failed, provision.Ready)
	wantText(t, "apply", o.stderr, "node-1: reachable: ", "did not answer for", "trying again (attempt 3 of 4 failed); next: its PDU outlets off and on")
	wantText(t, "node-3", lineOf(o.stderr, "node-3: failed: "), "its PDU outlets off and on: node node-3: pdu left 10.20.2.1:443 (", "nodes.hcl:", `it has no outlet "3"`,
		"(attempt 4 of 4); tried in order: once, persistent, bmc-reset, outlet")
	for i, want := range []int{1, 1, 0, 0} {
		if c := r.rack.Counters(nodeName(i + 1)); c.PowerCuts != want {
			t.Errorf("the power of %s was cut %d times; want %d", nodeName(i+1), c.PowerCuts, want)
		}
	}
	r.wantPower(1, 1, 0, 1)
	r.wantPower(3, 0, 0, 0)
	r.wantPower(4, 1, 0, 1)
	r.wantRung(1, provision.RungOutlet)
	wantNoSecret(t, r.dir, rackPassword)
}

// testKillOnLadder kills the controller as each rung is begun and done, at the
// outlets while they are off: the next one takes it up, and the power is cut once.
func testKillOnLadder(t *testing.T) {
	r := newFaultRig(t, rackSpec{nodes: 1, attempts: -1, outlets: true}, simrack.Fault{Node: "node-1", Kind: simrack.RevertBootOverride})
	cuts := func() int { return r.rack.Counters("node-1").PowerCuts }
	for _, at := range []killPoint{
		{name: "restart announced", kind: provision.EventClimb, part: `"bmc-reset"`},
		{name: "restart done", kind: provision.EventClimbed, part: `"bmc-reset"`},
		{name: "outlets off", kind: provision.EventClimb, part: `"outlet"`},
		{name: "outlets on", kind: provision.EventClimbed, part: `"outlet"`},
	} {
		p := r.begin("apply", "-auto-approve", "-json")
		if !p.until(at.is) {
			t.Fatalf("%s: apply ended: %+v", at.name, p.end())
		}
		for deadline := time.Now().Add(30 * time.Second); at.name == "outlets off" && cuts() == 0 && time.Now().Before(deadline); {
			time.Sleep(2 * time.Millisecond)
		}
		p.kill()
	}
	r.apply(0)
	r.wantStates(provision.Ready)
	r.wantPower(1, 1, 0, 1)
	r.wantRung(1, provision.RungOutlet)
	if c := r.rack.Counters("node-1"); c.PowerCuts != 1 || c.BMCResets < 1 || c.BMCResets > 2 {
		t.Errorf("its power was cut %d times and its BMC restarted %d times; want 1, and 1 or 2", c.PowerCuts, c.BMCResets)
	}
}

// wantRung holds on which rung of its ladder a node came to rest, and that its last
// boot was ordered there.
func (r *faultRig) wantRung(i int, want provision.Rung) {
	r.Helper()
	o := r.cli("show", "-json", nodeName(i))
	var n provision.Node
	r.must(json.Unmarshal([]byte(o.stdout), &n))
	if got := n.Ladder[n.Rung]; got != want || n.Boot == nil || n.Boot.Rung != want {
		r.Errorf("%s ended on rung %s of %v, its last boot is %+v; want %s", nodeName(i), got, n.Ladder, n.Boot, want)
	}
}
