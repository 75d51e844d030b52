package main

import (
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"testing"

	"firstlight/internal/refbmc"
	"firstlight/internal/simrack"
	"firstlight/inventory"
	"firstlight/provision"
)

// deafPort is a UDP port on loopback that nobody listens on.
func deafPort(t *testing.T) uint16 {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return uint16(c.LocalAddr().(*net.UDPAddr).Port)
}

// pairSite has one more node, p1, whose BMC is declared by IPMI on a port and by
// Redfish on r2's.
func pairSite(t *testing.T, ipmi func(r *redfishSite) uint16) *redfishSite {
	t.Helper()
	r := newRedfishSite(t)
	port := r.serveRedfish("p1", true)
	text := redfishNode("p1", "ipmi", ipmi(r))
	text = strings.Replace(text, "credential = credential.bmc\n", fmt.Sprintf("credential = credential.bmc\n    redfish {\n      port = %d\n    }\n", port), 1)
	r.write("pair.hcl", text)
	return r
}

// TestPairFallsBack: IPMI is dead and Redfish is asked, which is said.
func TestPairFallsBack(t *testing.T) {
	deaf := deafPort(t)
	r := pairSite(t, func(*redfishSite) uint16 { return deaf })
	out, errs, code := inProcess(t, "power", "status", "-json", "-target", "p1,r1", r.dir)
	var rows struct{ Nodes []powerRow }
	if err := json.Unmarshal([]byte(out), &rows); err != nil || code != 0 || len(rows.Nodes) != 2 {
		t.Fatalf("power status exits %d: %v\n%s%s", code, err, out, errs)
	}
	if n := rows.Nodes[0]; n.Power != "on" || n.Error != "" || !strings.HasPrefix(n.Detour, "asked by redfish instead of ipmi: node p1: bmc 127.0.0.1:") {
		t.Errorf("p1 = %+v; want on, asked by redfish", n)
	}
	if n := rows.Nodes[1]; n.Detour != "" {
		t.Errorf("r1 = %+v; want no detour", n)
	}
	out, errs, code = inProcess(t, "power", "off", "-target", "p1", r.dir)
	if code != 0 || r.bmc["p1"].Machine.Powered() || r.seen("p1 power-off") != 1 {
		t.Errorf("power off exits %d, the BMC saw %d power-offs:\n%s%s", code, r.seen("p1 power-off"), out, errs)
	}
	wantText(t, "power off", errs, "p1: asked by redfish instead of ipmi: ", "pair.hcl:")
	r.noneOpen()

	// Dead by both.
	r.bmc["p1"].SetFaults(simrack.RedfishFaults{SessionsFull: true})
	if _, errs, code = inProcess(t, "power", "status", "-target", "p1", r.dir); code != 1 {
		t.Errorf("power status of a BMC that nobody can ask exits %d:\n%s", code, errs)
	}
	wantText(t, "power status", errs, "does not listen on that UDP port", "by redfish: node p1: ", "session table is full")
}

// TestPairAsksFirst: a BMC that answers by IPMI is not asked by Redfish, and a
// refused login is an answer: the other would lock the same account.
func TestPairAsksFirst(t *testing.T) {
	r := pairSite(t, func(r *redfishSite) uint16 {
		return r.serve(1, &refbmc.BMC{Listen: "127.0.0.1:0", Username: "admin", Password: redfishPassword, Serial: "S-p1", Machine: lamp{t, true}})
	})
	out, errs, code := inProcess(t, "power", "status", "-target", "p1", r.dir)
	if code != 0 || out != "on: p1\n" || errs != "" || r.seen("p1 login-attempt") != 0 {
		t.Errorf("power status exits %d, with %d Redfish logins:\n%s%s", code, r.seen("p1 login-attempt"), out, errs)
	}
	other := pairSite(t, func(r *redfishSite) uint16 {
		return r.serve(1, &refbmc.BMC{Listen: "127.0.0.1:0", Username: "admin", Password: "another", Serial: "S-p1", Machine: lamp{t, true}})
	})
	_, errs, code = inProcess(t, "power", "status", "-target", "p1", other.dir)
	if code != 1 || !strings.Contains(errs, `refused user "admin"`) || other.seen("p1 login-attempt") != 0 {
		t.Errorf("power status with a wrong password exits %d, with %d Redfish logins:\n%s", code, other.seen("p1 login-attempt"), errs)
	}
}

// TestPairDrift: that a protocol is not answered any more is drift.
func TestPairDrift(t *testing.T) {
	deaf := deafPort(t)
	r := pairSite(t, func(*redfishSite) uint16 { return deaf })
	s := loadSite(t, r.dir)
	want, err := s.want(s.key)
	if err != nil {
		t.Fatal(err)
	}
	writeReady(t, s, want, func(n *inventory.Node, st provision.State) string { return noEvidence(n, st) })
	nodes, text := r.report(0, "-json", "-target", "p1")
	if d := nodes["p1"].Drift; len(d) == 0 || d[0].What != "bmc" || d[0].Known != "answering by ipmi" || !strings.HasPrefix(d[0].Found, "asked by redfish instead of ipmi: node p1: ") {
		t.Errorf("the drift of p1 is %+v; want that it is asked by Redfish\n%s", d, text)
	}
}
