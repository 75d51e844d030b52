package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"firstlight/internal/refbmc"
	"firstlight/inventory"
	"firstlight/provision"
	"firstlight/provision/acceptance"
)

// lamp is a machine that is on or off and does not like to be touched.
type lamp struct {
	t  *testing.T
	on bool
}

func (m lamp) PowerOn(context.Context, refbmc.Boot) error { m.t.Error("powered on"); return nil }
func (m lamp) PowerOff(context.Context) error             { m.t.Error("powered off"); return nil }
func (m lamp) SoftOff(context.Context) error              { m.t.Error("shut down"); return nil }
func (m lamp) Powered() bool                              { return m.on }

// driftSite is a site of six nodes with BMCs on loopback, all ready in the
// journal.
type driftSite struct {
	t     *testing.T
	dir   string
	board [7]*refbmc.BMC // from 1

	mu     sync.Mutex
	events []string // what the BMCs saw but logins
}

const driftInventoryText = `
cluster "drift" {}
controller {
  bmc_concurrency = 3
  deadlines = { reachable = "2s" }
}
credential "bmc" {
  username = "admin"
  password = "secret"
}
network "provision" {
  cidr = "10.10.0.0/24"
  gateway = "10.10.0.1"
  dhcp = "full"
  interface = "eth1"
}
image "compute" { source = "./compute" }
hardware "vm" {
  memory { total = "2TiB" }
}
rack "a01" {}
rack "a02" {}
`

func newDriftSite(t *testing.T) *driftSite {
	t.Helper()
	// A short path: the journal's socket lies below it.
	dir, err := os.MkdirTemp("", "drift-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	d := &driftSite{t: t, dir: dir}
	text := driftInventoryText
	for i := 1; i <= 6; i++ {
		port := d.serve(i, &refbmc.BMC{Listen: "127.0.0.1:0", Username: "admin", Password: "secret", Manufacturer: "ACME", Product: "X", Serial: fmt.Sprintf("S%d", i), Machine: lamp{t, i != 2}})
		text += fmt.Sprintf(`
node "n%d" {
  rack = rack.a0%d
  serial = "S%d"
  hardware = hardware.vm
  image = image.compute
  bmc {
    address = "127.0.0.1"
    port = %d
    protocol = "ipmi"
    credential = credential.bmc
  }
  nic "boot" {
    mac = "02:00:00:00:00:0%d"
    network = network.provision
    address = "10.10.0.1%d"
  }
}
`, i, 1+i/4, i, port, i, i)
	}
	d.write("drift.hcl", text)
	if err := os.MkdirAll(filepath.Join(dir, "compute"), 0o755); err != nil {
		t.Fatal(err)
	}
	s := loadSite(t, dir)
	want, err := s.want(s.key)
	if err != nil {
		t.Fatal(err)
	}
	writeReady(t, s, want, func(n *inventory.Node, st provision.State) string {
		if st != provision.Reachable {
			return noEvidence(n, st)
		}
		raw, _ := json.Marshal(acceptance.Evidence{Node: n.Name, State: string(st), Checks: []acceptance.Check{{Name: provision.CheckSerial, Reading: n.Serial}}})
		digest, err := s.evidence().Put(raw)
		if err != nil {
			t.Fatal(err)
		}
		return digest
	})
	return d
}

// serve starts a board and returns its port.
func (d *driftSite) serve(i int, b *refbmc.BMC) uint16 {
	d.t.Helper()
	ready, done := make(chan netip.AddrPort, 1), make(chan error, 1)
	b.Ready = func(at netip.AddrPort) { ready <- at }
	b.Observe = func(e refbmc.Event) {
		if !strings.HasPrefix(e.Kind, "login") {
			d.mu.Lock()
			d.events = append(d.events, e.Kind)
			d.mu.Unlock()
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() { done <- b.Serve(ctx) }()
	d.t.Cleanup(func() {
		cancel()
		<-done
	})
	d.board[i] = b
	select {
	case at := <-ready:
		return at.Port()
	case err := <-done:
		d.t.Fatal(err)
	}
	return 0
}

func (d *driftSite) write(name, text string) {
	d.t.Helper()
	if err := os.WriteFile(filepath.Join(d.dir, name), []byte(text), 0o644); err != nil {
		d.t.Fatal(err)
	}
}

// edit replaces text in the inventory.
func (d *driftSite) edit(from, to string) {
	d.t.Helper()
	raw, err := os.ReadFile(filepath.Join(d.dir, "drift.hcl"))
	if err != nil {
		d.t.Fatal(err)
	}
	if !strings.Contains(string(raw), from) {
		d.t.Fatalf("no %q to replace", from)
	}
	d.write("drift.hcl", strings.ReplaceAll(string(raw), from, to))
}

// report runs plan -refresh-only.
func (d *driftSite) report(code int, args ...string) (nodes map[string]driftNode, text string) {
	d.t.Helper()
	args = append([]string{"plan", "-refresh-only"}, append(args, d.dir)...)
	out, errs, got := inProcess(d.t, args...)
	if got != code {
		d.t.Fatalf("%q exits %d; want %d\n%s%s", args, got, code, out, errs)
	}
	var report struct{ Nodes []driftNode }
	if err := json.Unmarshal([]byte(out), &report); err == nil {
		nodes = map[string]driftNode{}
		for _, n := range report.Nodes {
			nodes[n.Name] = n
		}
	}
	return nodes, out + errs
}

// TestDrift makes machines and declarations differ from what is known, and
// holds that the report says so, and touches nothing.
func TestDrift(t *testing.T) {
	d := newDriftSite(t)
	serial := func() string {
		out, _, _ := inProcess(t, "status", "-json", d.dir)
		var st struct{ Serial int64 }
		if err := json.Unmarshal([]byte(out), &st); err != nil || st.Serial == 0 {
			t.Fatalf("status: %v, serial %d\n%s", err, st.Serial, out)
		}
		return fmt.Sprint(st.Serial)
	}
	before := serial()

	_, text := d.report(0, "-target", "n1", "-target", "n3", "-detailed-exitcode")
	if text != "No drift. 2 BMCs were read; nothing was changed.\n" {
		t.Errorf("report of what is as it is known:\n%s", text)
	}

	if nodes, _ := d.report(0, "-json", "-target", "n1"); nodes["n1"].Drift == nil || len(nodes["n1"].Drift) > 0 {
		t.Errorf("n1's drift is %v; want a list without elements, not null", nodes["n1"].Drift)
	}

	d.board[3].SetFaults(refbmc.Faults{Silent: true})
	d.edit(`serial = "S4"`, `serial = "S9"`)
	d.edit(`"2TiB"`, `"1TiB"`)
	if _, errs, code := inProcess(t, "quarantine", "-maintenance", "-reason", "DIMM", "n5", d.dir); code != 0 {
		t.Fatal(errs)
	}
	before2 := serial()
	nodes, _ := d.report(2, "-json", "-detailed-exitcode", "-exclude", "n6")
	memory := driftItem{What: "hardware.memory.total", Known: "2TiB", Found: "1TiB", In: "inventory", At: "drift.hcl:19"}
	want := map[string][]driftItem{
		"n1": {memory},
		"n2": {{What: "power", Known: "on", Found: "off", In: "bmc"}, memory},
		"n3": {{What: "bmc", Known: "answering", Found: "", In: "bmc"}, memory},
		"n4": {{What: "node.serial", Known: "S4", Found: "S9", In: "inventory", At: "drift.hcl:78"}, memory},
		"n5": {memory},
	}
	if got := nodes["n3"].Drift; len(got) != 2 || !strings.Contains(got[0].Found, "127.0.0.1:") || !strings.Contains(got[0].Found, "did not answer") && !strings.Contains(got[0].Found, "deadline") {
		t.Errorf("n3, whose BMC is silent: %+v", got)
	} else {
		got[0].Found = ""
	}
	got := map[string][]driftItem{}
	for name, n := range nodes {
		got[name] = n.Drift
		if n.Read != (name != "n5") {
			t.Errorf("%s was read: %v (%s)", name, n.Read, n.NotRead)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("drift (-want +got):\n%s", diff)
	}

	_, text = d.report(2, "-detailed-exitcode")
	for _, line := range []string{"~ n[1,6] (racks a[01-02]): ready\n    hardware.memory.total: proven with 2TiB, declared 1TiB (drift.hcl:19)\n",
		"~ n2 (rack a01): ready\n    power: known on, found off\n", "6 of 6 nodes have drifted. 5 BMCs were read; nothing was changed.\n", "Not read: n5 (in maintenance)\n"} {
		if !strings.Contains(text, line) {
			t.Errorf("the report lacks %q:\n%s", line, text)
		}
	}
	d.report(0) // without -detailed-exitcode drift is no failure
	if after := serial(); before == before2 || after != before2 {
		t.Errorf("the journal is at %s after the reports; want %s", after, before2)
	}
	if len(d.events) > 0 {
		t.Errorf("the BMCs were told %v; want them only read", d.events)
	}
}

// TestDriftOtherMachine: the BMC at the address is another machine's now, or
// does not take the credential any more.
func TestDriftOtherMachine(t *testing.T) {
	d := newDriftSite(t)
	ports := map[int]uint16{}
	ports[1] = d.serve(1, &refbmc.BMC{Listen: "127.0.0.1:0", Username: "admin", Password: "secret", Serial: "OTHER", Machine: lamp{t, true}})
	ports[2] = d.serve(2, &refbmc.BMC{Listen: "127.0.0.1:0", Username: "admin", Password: "changed", Serial: "S2", Machine: lamp{t, true}})
	s := loadSite(t, d.dir)
	for i, port := range ports {
		d.edit(fmt.Sprintf("port = %d\n", s.Cluster.Nodes[i-1].BMC.Port), fmt.Sprintf("port = %d\n", port))
	}
	nodes, _ := d.report(0, "-json", "-target", "n[1-2]")
	if diff := cmp.Diff([]driftItem{{What: "node.serial", Known: "S1", Found: "OTHER", In: "bmc"}}, nodes["n1"].Drift); diff != "" {
		t.Errorf("n1 (-want +got):\n%s", diff)
	}
	if got := nodes["n2"].Drift; len(got) != 1 || got[0].What != "bmc.credential" || !strings.Contains(got[0].Found, `refused user "admin"`) {
		t.Errorf("n2: %+v; want the refused login", got)
	}
	d.edit(`node "n6"`, `node "n7"`)
	if nodes, _ = d.report(2, "-json", "-detailed-exitcode"); nodes["n6"].Drift == nil || nodes["n6"].Drift[0].Found != "not declared" || nodes["n7"].NotRead != "nothing of it is proven" {
		t.Errorf("n6, no longer declared: %+v; n7, new: %+v", nodes["n6"], nodes["n7"])
	}
	for _, args := range [][]string{{"-out", "x"}, {"-replace", "n1"}} {
		if _, text := d.report(1, args...); !strings.Contains(text, "leave -out and -replace out") {
			t.Errorf("%q: %s", args, text)
		}
	}
}
