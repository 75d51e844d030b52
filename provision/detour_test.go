package provision

import (
	"strings"
	"testing"
	"time"

	"firstlight/inventory"
)

// TestDetourIsSaid: that a BMC was asked by its other protocol is known of the
// node, is in the evidence, and is forgotten when it is so no more.
func TestDetourIsSaid(t *testing.T) {
	r := newRig(1)
	r.world.machines["n1"].detour = "asked by redfish instead of ipmi: silent"
	known, _, err := r.apply(t)
	n := known.Nodes["n1"]
	if err != nil || n.State != Ready || n.Detour != r.world.machines["n1"].detour {
		t.Fatalf("%s, detour %q, %v; want ready and the detour", n, n.Detour, err)
	}
	if got := r.evidenceOf(t, n.Proofs[Reachable].Evidence).Checks[0].Reading; !strings.HasSuffix(got, "; asked by redfish instead of ipmi: silent") {
		t.Errorf("the evidence says %q; want it to end with the detour", got)
	}
	r.world.machines["n1"].detour = ""
	r.want.Replace = map[string]bool{"n1": true}
	known, _, err = r.apply(t)
	if n := known.Nodes["n1"]; err != nil || n.State != Ready || n.Detour != "" {
		t.Errorf("%s, detour %q, %v; want ready and none", n, n.Detour, err)
	}
}

// TestSecondProtocolIsAFacet: declaring one has the BMC read anew, and nothing
// booted.
func TestSecondProtocolIsAFacet(t *testing.T) {
	r := newRig(1)
	known, _, err := r.apply(t)
	if err != nil {
		t.Fatal(err)
	}
	b := *r.want.Cluster.Nodes[0].BMC
	b.Other = &inventory.BMC{Protocol: "redfish", Address: b.Address, Port: 443, Credential: &inventory.Credential{Name: "other", Username: "root"}}
	r.want.Cluster.Nodes[0].BMC = &b
	step := MakePlan(r.want, known, nil, time.Now()).Nodes[0]
	reasons := strings.Join(step.Reasons, "; ")
	for _, want := range []string{"bmc.other.redfish is now declared", "bmc.other.username is now declared"} {
		if !strings.Contains(reasons, want) {
			t.Errorf("reasons %q; want %q", reasons, want)
		}
	}
	if step.Disruption != (Disruption{}) {
		t.Errorf("it costs %+v; want nothing", step.Disruption)
	}
}
