package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"firstlight/internal/simrack"
	"firstlight/inventory"
	"firstlight/provision"
)

// testRedfish is a bring-up over BMCs that speak Redfish: one node is healthy,
// one's BMC forgets the override, one's wants another password, one's ignores
// an override that is for one boot only.
func testRedfish(t *testing.T) {
	r := newFaultRig(t, rackSpec{nodes: 4, protocol: "redfish", deadlines: map[string]string{"enrolled": "12s"}},
		simrack.Fault{Node: "node-2", Kind: simrack.RevertBootOverride},
		simrack.Fault{Node: "node-3", Kind: simrack.BMCPassword},
		simrack.Fault{Node: "node-4", Kind: simrack.IgnoreOneTimeOverride})
	o := r.apply(1)
	wantText(t, "apply", o.stdout, "2/4 ready")
	wantText(t, "apply", o.stderr, "node-2: failed: ", "bmc 10.20.1.2:443 (", "nodes.hcl:", `accepted the boot override "pxe uefi`, `reads back "none"`,
		"node-3: quarantined: ", `refused user "admin"`, "it was tried once and is not tried again")
	r.wantStates(provision.Ready, provision.Failed, provision.Quarantined, provision.Ready)
	r.wantPower(1, 1, 0, 1)
	r.wantPower(2, 0, 0, 0)
	r.wantPower(3, 0, 0, 0)
	if c := r.rack.Counters("node-3"); c.LoginAttempts != 1 {
		t.Errorf("the BMC of node-3 has seen %d login attempts; want 1", c.LoginAttempts)
	}
	wantText(t, "show", r.cli("show", "node-1").stdout, "boot.override: found one-time PXE, read back", "DMTF DSP0268")

	o = r.cli("power", "status", "-target", "node-[1-2]")
	wantText(t, "power status", o.stdout, "on: node-1; off: node-2")
	o = r.cli("plan", "-refresh-only", "-target", "node-1")
	wantText(t, "plan -refresh-only", o.stdout, "No drift. 1 BMC was read")

	// No password is in anything that was written.
	secrets := [][]byte{[]byte(rackPassword), []byte(simrack.ActualPassword(inventory.Secret(rackPassword)))}
	r.must(filepath.WalkDir(filepath.Join(r.dir, ".firstlight"), func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		raw, err := os.ReadFile(path)
		for _, secret := range secrets {
			if bytes.Contains(raw, secret) {
				t.Errorf("a password is in %s", path)
			}
		}
		return err
	}))
}
