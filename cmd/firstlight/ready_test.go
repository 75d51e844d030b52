package main

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"firstlight/inventory"
	"firstlight/provision"
	"firstlight/provision/agent/api"
	"firstlight/provision/journal"
)

// bringUp is what a journal holds of a node that was brought up without a
// hitch, with what netboot and the agent have to say in it. Evidence gives
// the digest of a state's evidence.
func bringUp(t testing.TB, want provision.Want, n *inventory.Node, at time.Time, evidence func(provision.State) string) []provision.Event {
	t.Helper()
	facets := want.Facets(n)
	var events []provision.Event
	add := func(kind string, data any) {
		raw, err := json.Marshal(data)
		if err != nil {
			t.Fatal(err)
		}
		at = at.Add(1700 * time.Millisecond)
		events = append(events, provision.Event{Time: at, Node: n.Name, Kind: kind, Data: raw})
	}
	boot := func(kind, image, via string) {
		id := provision.BootID{ID: fmt.Sprintf("%016x", len(events)+len(n.Name)*977), Kind: kind, Image: image, Via: via, Persistent: kind == api.BootImage}
		add(provision.EventAttempt, provision.AttemptData{Proof: provision.Enrolled, N: 1, Deadline: 1200, Boot: &id})
		add(provision.EventOverride, provision.OverrideData{BootID: id.ID})
		if via == "power-on" {
			add(provision.EventPowered, provision.PoweredData{Op: "on", Power: "on"})
		}
		for _, s := range []string{"dhcp-discover x64-uefi PXEClient:Arch:00007:UNDI:003001", "dhcp-ack x64-uefi PXEClient", "tftp-read snponly.efi 170 kB",
			"dhcp-discover x64-uefi PXEClient iPXE", "dhcp-ack x64-uefi iPXE", "script", "kernel 8.1 MB", "initrd 31 MB", "dhcp-discover firstlight-agent",
			"dhcp-ack firstlight-agent", "token"} {
			what, detail, _ := strings.Cut(s, " ")
			add(provision.EventSeen, provision.SeenData{What: what, BootID: id.ID, Detail: detail})
		}
		add(provision.EventHello, provision.HelloData{BootID: id.ID, Nonce: id.ID, Kind: kind, Image: image, RootDigest: image,
			Kernel: "6.1.0-56-amd64", Agent: "v1.0.0", Address: "10.10.0.11", Uptime: 21})
	}
	add(provision.EventStart, provision.StartData{Reasons: []string{"declared, nothing proven yet"}, Attempts: 3, Backoff: 30})
	for _, st := range provision.Chain[1:] {
		switch st.State {
		case provision.Enrolled:
			boot(api.BootBringUp, "sha256:"+strings.Repeat("b", 64), "power-on")
		case provision.Provisioned:
			boot(api.BootImage, "sha256:"+strings.Repeat("c", 64), "agent-reboot")
		default:
			add(provision.EventAttempt, provision.AttemptData{Proof: st.State, N: 1, Deadline: 60})
		}
		if st.State == provision.Reachable {
			add(provision.EventPowered, provision.PoweredData{Op: "status", Power: "off"})
		}
		passed := provision.PassedData{Proof: st.State, Evidence: evidence(st.State), Facets: map[string]string{}}
		for k, v := range facets {
			for _, p := range st.Facets {
				if strings.HasPrefix(k, p) {
					passed.Facets[k] = v
				}
			}
		}
		add(provision.EventPassed, passed)
	}
	return events
}

// writeReady writes a journal in which the nodes are ready, as if some were
// brought up beside each other, and returns how many events it holds.
func writeReady(t testing.TB, s *site, want provision.Want, evidence func(*inventory.Node, provision.State) string) int {
	t.Helper()
	j, err := journal.Open(t.Context(), journal.Options{Dir: s.path("etcd"), Cluster: s.Cluster.Name})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	unlock, err := j.Lock(t.Context(), "test")
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	last := int64(0)
	const beside = 32 // nodes whose events come in one write
	for i := 0; i < len(s.Cluster.Nodes); i += beside {
		var all [][]provision.Event
		for _, n := range s.Cluster.Nodes[i:min(i+beside, len(s.Cluster.Nodes))] {
			all = append(all, bringUp(t, want, n, time.Date(2026, 11, 3, 8, 0, 0, i, time.UTC), func(st provision.State) string { return evidence(n, st) }))
		}
		for step := range all[0] {
			var batch []provision.Event
			for _, events := range all {
				batch = append(batch, events[step])
			}
			if last, err = j.Append(t.Context(), last, batch...); err != nil {
				t.Fatal(err)
			}
		}
	}
	return int(last)
}

// noEvidence names evidence that nobody filed.
func noEvidence(n *inventory.Node, st provision.State) string {
	return fmt.Sprintf("sha256:%x", n.Name+string(st))
}

// loadSite reads an inventory for a test.
func loadSite(t testing.TB, dir string) *site {
	t.Helper()
	abs, err := filepath.Abs(dir)
	if err != nil {
		t.Fatal(err)
	}
	password := func(name string) (string, bool) { return "secret", name == "FIRSTLIGHT_VAR_bmc_password" }
	c, _, diags := inventory.Load(abs, inventory.Options{Env: password})
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	return &site{Cluster: c}
}
