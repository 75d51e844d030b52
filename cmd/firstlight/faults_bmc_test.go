package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"firstlight/internal/simrack"
	"firstlight/inventory"
	"firstlight/provision"
	"firstlight/provision/journal"
)

func testHealthy(t *testing.T) {
	r := newFaultRig(t, rackSpec{nodes: 4})
	o := r.cli("plan", "-detailed-exitcode")
	if o.code != 2 {
		t.Errorf("plan -detailed-exitcode before exits %d; want 2\n%s", o.code, o.stderr)
	}
	wantText(t, "plan", o.stdout, "node-[1-4]", "declared -> ready", "because declared, nothing proven yet",
		"Plan: 4 to bring up, 0 to change, 0 to remove. 4 power cycles, 0 disk erasures")

	o = r.apply(0)
	wantText(t, "apply", o.stdout, "4/4 ready. Report: "+filepath.Join(r.dir, ".firstlight", "report", "index.html"))
	r.wantStates(provision.Ready, provision.Ready, provision.Ready, provision.Ready)
	for i := 1; i <= 4; i++ {
		r.wantPower(i, 1, 0, 1)
	}
	for _, file := range []string{"report/index.html", "report/report.json", "report/junit.xml", "keys/record"} {
		if _, err := os.Stat(filepath.Join(r.dir, ".firstlight", file)); err != nil {
			t.Error(err)
		}
	}
	page, err := os.ReadFile(filepath.Join(r.dir, ".firstlight", "report", "index.html"))
	r.must(err)
	wantText(t, "report", string(page), "LAB", "node-4")
	records := 0
	for i := 1; i <= 4; i++ {
		o := r.cli("show", "-json", nodeName(i))
		var n provision.Node
		r.must(json.Unmarshal([]byte(o.stdout), &n))
		raw, err := journal.Evidence{Dir: filepath.Join(r.dir, ".firstlight", "evidence")}.Get(n.Proofs[provision.Ready].Evidence)
		if err == nil && strings.Contains(string(raw), nodeName(i)) {
			records++
		}
	}
	if records != 4 {
		t.Errorf("%d signed records are filed; want 4", records)
	}

	o = r.cli("plan", "-detailed-exitcode")
	if o.code != 0 {
		t.Errorf("plan -detailed-exitcode after exits %d; want 0", o.code)
	}
	wantText(t, "plan after", o.stdout, "No changes.")
	r.apply(0)
	for i := 1; i <= 4; i++ {
		r.wantPower(i, 1, 0, 1)
	}
}

func testWrongPassword(t *testing.T) {
	r := newFaultRig(t, rackSpec{nodes: 3}, simrack.Fault{Node: "node-2", Kind: simrack.BMCPassword})
	o := r.apply(1)
	wantText(t, "apply", o.stderr, "node-2: quarantined: ", "bmc 10.20.1.2:623 (", "nodes.hcl:", `refused user "admin"`,
		"it was tried once and is not tried again: correct the credential or the bmc's user")
	wantText(t, "apply", o.stdout, "2/3 ready")
	r.wantStates(provision.Ready, provision.Quarantined, provision.Ready)
	wantLogins := func(when string, want int) {
		if c := r.rack.Counters("node-2"); c.LoginAttempts != want {
			t.Errorf("%s the BMC of node-2 has seen %d login attempts; want %d", when, c.LoginAttempts, want)
		}
	}
	wantLogins("after one apply", 1)

	o = r.apply(1)
	wantText(t, "apply again", o.stdout, "left alone", "quarantined: ", "firstlight release node-2")
	wantText(t, "apply again", o.stderr, "1 node waits for a person and was left alone")
	wantLogins("after a second apply", 1)

	right := simrack.ActualPassword(inventory.Secret(rackPassword))
	r.spec.passwords = map[int]string{2: right}
	r.spec.write(t, r.dir)
	o = r.apply(0)
	wantText(t, "apply with the right password", o.stdout, "1 to bring up", "bmc.credential: fingerprint", "3/3 ready")
	r.wantStates(provision.Ready, provision.Ready, provision.Ready)
	r.wantPower(2, 1, 0, 1)
	r.wantPower(1, 1, 0, 1)
	wantNoSecret(t, r.dir, right, rackPassword)
}

// wantNoSecret looks for passwords in everything that was written beside the
// inventory.
func wantNoSecret(t *testing.T, dir string, secrets ...string) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(dir, ".firstlight"), func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		raw, err := os.ReadFile(path)
		for _, s := range secrets {
			if containsBytes(raw, s) {
				t.Errorf("%s holds a BMC's password", path)
			}
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func testSilentBMC(t *testing.T) {
	r := newFaultRig(t, rackSpec{nodes: 4, attempts: 2, deadlines: map[string]string{"reachable": "2s"}},
		simrack.Fault{Node: "node-1", Kind: simrack.DeadBMC},
		simrack.Fault{Node: "node-2", Kind: simrack.FrozenBMC},
		simrack.Fault{Node: "node-3", Kind: simrack.FrozenBMC, After: 3})
	o := r.apply(1)
	for i := 1; i <= 3; i++ {
		line := lineOf(o.stderr, nodeName(i)+": failed: ")
		wantText(t, "apply", line, bmcAddr(i), "nodes.hcl:", "did not answer for ", "check that the bmc has power and its network cable", "(attempt 2 of 2)")
		if !regexp.MustCompile(`did not answer for [0-9.]+m?s`).MatchString(line) {
			t.Errorf("apply does not say how long: %s", line)
		}
	}
	wantText(t, "apply", o.stdout, "1/4 ready")
	r.wantStates(provision.Failed, provision.Failed, provision.Failed, provision.Ready)
	for i := 1; i <= 3; i++ {
		r.wantPower(i, 0, 0, 0)
	}
	o = r.cli("power", "status", "-json")
	if o.code != 1 {
		t.Errorf("power status exits %d; want 1", o.code)
	}
	wantText(t, "power status", o.stdout, `"power": "on"`, "10.20.1.1")
}

func testOverrideIgnored(t *testing.T) {
	r := newFaultRig(t, rackSpec{nodes: 2, attempts: 2, deadlines: map[string]string{"enrolled": "4s"}},
		simrack.Fault{Node: "node-1", Kind: simrack.IgnoreBootOverride})
	o := r.apply(1)
	wantText(t, "apply while it runs", o.stderr, "node-1: reachable: no DHCP from 52:54:00:10:00:01 (nic \"boot\", nodes.hcl:",
		"in 4s since power-on: the BMC at 10.20.1.1 accepted the one-time PXE override, and the machine booted something else",
		"trying again (attempt 1 of 2 failed)")
	wantText(t, "apply", lineOf(o.stderr, "node-1: failed: "), "accepted the persistent PXE override", "(attempt 2 of 2)")
	r.wantStates(provision.Failed, provision.Ready)
	r.wantPower(1, 1, 1, 0)
	if c := r.rack.Counters("node-1"); c.DiskBoots != 2 || c.NetworkBoots != 0 {
		t.Errorf("node-1 booted its disk %d times and the network %d times; want 2, 0", c.DiskBoots, c.NetworkBoots)
	}
}

func testOneTimeOverrideIgnored(t *testing.T) {
	r := newFaultRig(t, rackSpec{nodes: 1, deadlines: map[string]string{"enrolled": "4s"}},
		simrack.Fault{Node: "node-1", Kind: simrack.IgnoreOneTimeOverride})
	o := r.apply(0)
	wantText(t, "apply", o.stderr, "accepted the one-time PXE override", "trying again (attempt 1 of 3 failed)")
	r.wantStates(provision.Ready)
	r.wantPower(1, 1, 1, 1)
	if c := r.rack.Counters("node-1"); c.DiskBoots != 1 || c.NetworkBoots != 2 {
		t.Errorf("node-1 booted its disk %d times and the network %d times; want 1, 2", c.DiskBoots, c.NetworkBoots)
	}
}

func testOverrideReverted(t *testing.T) {
	r := newFaultRig(t, rackSpec{nodes: 1, attempts: 2}, simrack.Fault{Node: "node-1", Kind: simrack.RevertBootOverride})
	o := r.apply(1)
	wantText(t, "apply", lineOf(o.stderr, "node-1: failed: "), "bmc 10.20.1.1:623 (", "nodes.hcl:", "accepted the boot override", "and reads back", "did not keep it")
	r.wantStates(provision.Failed)
	r.wantPower(1, 0, 0, 0)
}
