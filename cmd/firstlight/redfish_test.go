package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"firstlight/internal/refbmc"
	"firstlight/internal/simrack"
	"firstlight/inventory"
	"firstlight/provision"
	"firstlight/provision/acceptance"
)

const redfishPassword = "planted-Secret-18"

// redfishSite is a site of two nodes, r1 off and r2 on, whose BMCs speak Redfish,
// and one, i1, whose BMC speaks IPMI.
type redfishSite struct {
	*driftSite
	bmc map[string]*simrack.Redfish

	mu     sync.Mutex
	events []string // "r1 power-on", logins as well
}

func newRedfishSite(t *testing.T) *redfishSite {
	t.Helper()
	dir, err := os.MkdirTemp("", "redfish-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	r := &redfishSite{driftSite: &driftSite{t: t, dir: dir}, bmc: map[string]*simrack.Redfish{}}
	text := strings.Replace(driftInventoryText, `"secret"`, fmt.Sprintf("%q", redfishPassword), 1)
	for i, name := range []string{"r1", "r2"} {
		text += redfishNode(name, "redfish", r.serveRedfish(name, i == 1))
	}
	text += redfishNode("i1", "ipmi", r.serve(1, &refbmc.BMC{Listen: "127.0.0.1:0", Username: "admin", Password: redfishPassword, Serial: "S-i1", Machine: lamp{t, true}}))
	r.write("site.hcl", text)
	if err := os.MkdirAll(filepath.Join(dir, "compute"), 0o755); err != nil {
		t.Fatal(err)
	}
	return r
}

func redfishNode(name, protocol string, port uint16) string {
	return fmt.Sprintf(`
node %q {
  rack = rack.a01
  serial = "S-%s"
  hardware = hardware.vm
  image = image.compute
  bmc {
    address = "127.0.0.1"
    port = %d
    protocol = %q
    credential = credential.bmc
  }
  nic "boot" {
    mac = "02:00:00:00:%02x:%02x"
    network = network.provision
    address = "10.10.0.%d"
  }
}
`, name, name, port, protocol, name[0], name[1], 10+name[0]%16*2+name[1]%2)
}

func (r *redfishSite) serveRedfish(name string, on bool) uint16 {
	r.t.Helper()
	ready, done := make(chan netip.AddrPort, 1), make(chan error, 1)
	b := &simrack.Redfish{Listen: "127.0.0.1:0", Username: "admin", Password: redfishPassword, Serial: "S-" + name, Machine: simrack.NewBulb(on),
		Ready: func(at netip.AddrPort) { ready <- at },
		Observe: func(e refbmc.Event) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.events = append(r.events, name+" "+e.Kind)
		}}
	r.bmc[name] = b
	ctx, cancel := context.WithCancel(context.Background())
	go func() { done <- b.Serve(ctx) }() // ends with ctx
	r.t.Cleanup(func() {
		cancel()
		<-done
	})
	select {
	case at := <-ready:
		return at.Port()
	case err := <-done:
		done <- nil
		r.t.Fatal(err)
	}
	return 0
}

func (r *redfishSite) seen(event string) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.events {
		if e == event {
			n++
		}
	}
	return n
}

// noneOpen holds that no session was left at a BMC.
func (r *redfishSite) noneOpen() {
	r.t.Helper()
	for name, b := range r.bmc {
		if n := b.Sessions(); n != 0 {
			r.t.Errorf("%d sessions are left at the BMC of %s", n, name)
		}
	}
}

// noSecret holds that the password is in nothing that was written but the
// inventory itself.
func (r *redfishSite) noSecret(texts ...string) {
	r.t.Helper()
	for _, text := range texts {
		if strings.Contains(text, redfishPassword) {
			r.t.Errorf("the password is in the output:\n%s", text)
		}
	}
	err := filepath.WalkDir(filepath.Join(r.dir, ".firstlight"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		raw, err := os.ReadFile(path)
		if bytes.Contains(raw, []byte(redfishPassword)) {
			r.t.Errorf("the password is in %s", path)
		}
		return err
	})
	if err != nil {
		r.t.Error(err)
	}
}

// TestRedfishPower: one verb, two protocols.
func TestRedfishPower(t *testing.T) {
	r := newRedfishSite(t)
	out, errs, code := inProcess(t, "power", "status", r.dir)
	if code != 0 || out != "on: i1,r2; off: r1\n" {
		t.Fatalf("power status exits %d:\n%s%s", code, out, errs)
	}
	info, err := os.Stat(filepath.Join(r.dir, ".firstlight", pinsFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file of certificates: %v, %v; want it to be there with mode 0600", info, err)
	}
	r.noneOpen()

	out, errs, code = inProcess(t, "power", "on", "-json", "-target", "r1", r.dir)
	var rows struct{ Nodes []powerRow }
	if err := json.Unmarshal([]byte(out), &rows); err != nil || code != 0 || len(rows.Nodes) != 1 || rows.Nodes[0].Power != "on" {
		t.Fatalf("power on exits %d: %v\n%s%s", code, err, out, errs)
	}
	if !r.bmc["r1"].Machine.Powered() || r.seen("r1 power-on") != 1 || r.seen("r2 power-on") != 0 {
		t.Errorf("after power on of r1 its machine is on: %v; the BMCs saw %q", r.bmc["r1"].Machine.Powered(), r.events)
	}
	if _, errs, code := inProcess(t, "power", "soft", "-target", "r[1-2]", r.dir); code != 0 || r.bmc["r2"].Machine.Powered() {
		t.Errorf("power soft exits %d: %s", code, errs)
	}
	r.noneOpen()
	r.noSecret(out, errs)
}

// TestRedfishCertificate: a BMC with another certificate gets no password until a
// person has accepted it.
func TestRedfishCertificate(t *testing.T) {
	r := newRedfishSite(t)
	if _, errs, code := inProcess(t, "power", "status", r.dir); code != 0 {
		t.Fatal(errs)
	}
	was := r.bmc["r1"].Fingerprint()
	if err := r.bmc["r1"].NewCertificate(); err != nil {
		t.Fatal(err)
	}
	logins := r.seen("r1 login-attempt")
	out, errs, code := inProcess(t, "power", "cycle", "-target", "r[1-2]", r.dir)
	if code != 1 || !strings.Contains(out, "on: r2") {
		t.Errorf("power cycle exits %d:\n%s%s", code, out, errs)
	}
	file := filepath.Join(r.dir, ".firstlight", pinsFile)
	wantText(t, "the refusal", errs, "node r1: bmc 127.0.0.1:", "site.hcl:", "another certificate", was, r.bmc["r1"].Fingerprint(), "nothing was sent", file)
	if got := r.seen("r1 login-attempt"); got != logins {
		t.Errorf("%d logins were attempted at the BMC with another certificate", got-logins)
	}

	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := slices.DeleteFunc(strings.SplitAfter(string(raw), "\n"), func(line string) bool { return strings.Contains(line, was) })
	if err := os.WriteFile(file, []byte(strings.Join(lines, "")), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, errs, code := inProcess(t, "power", "status", "-target", "r1", r.dir); code != 0 {
		t.Errorf("power status after the line was removed exits %d:\n%s%s", code, out, errs)
	}
}

// TestRedfishDrift: plan -refresh-only reads BMCs of both protocols.
func TestRedfishDrift(t *testing.T) {
	r := newRedfishSite(t)
	s := loadSite(t, r.dir)
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
	nodes, text := r.report(0, "-json")
	if d := nodes["r1"].Drift; len(d) != 1 || d[0] != (driftItem{What: "power", Known: "on", Found: "off", In: "bmc"}) || len(nodes["r2"].Drift)+len(nodes["i1"].Drift) != 0 {
		t.Errorf("r1 is off and nothing else has drifted:\n%s", text)
	}
	if a, b := r.seen("r1 login-attempt"), r.seen("r2 login-attempt"); a != 1 || b != 1 {
		t.Errorf("%d and %d logins were attempted; want 1 each", a, b)
	}
	r.noneOpen()

	// r2 wants another password; r1 is another machine, with its own certificate.
	r.bmc["r2"].Password = "changed"
	if err := r.bmc["r1"].NewCertificate(); err != nil {
		t.Fatal(err)
	}
	nodes, text = r.report(2, "-json", "-detailed-exitcode")
	if d := nodes["r1"].Drift; len(d) != 1 || d[0].What != "bmc.certificate" || !strings.Contains(d[0].Found, r.bmc["r1"].Fingerprint()) {
		t.Errorf("r1: %+v; want the other certificate", d)
	}
	if d := nodes["r2"].Drift; len(d) != 1 || d[0].What != "bmc.credential" || !strings.Contains(d[0].Found, `refused user "admin"`) {
		t.Errorf("r2: %+v; want the refused login", d)
	}
	if n := r.seen("r2 login-attempt"); n != 2 {
		t.Errorf("%d logins were attempted at r2; want one more than before", n)
	}
	r.noSecret(text)
}

// TestRedfishInterrupted: Ctrl-C in the middle of a power action leaves no
// session at the BMC.
func TestRedfishInterrupted(t *testing.T) {
	r := newRedfishSite(t)
	r.bmc["r1"].SetFaults(simrack.RedfishFaults{Lie: true}) // it is waited for
	ctx, cancel := context.WithCancel(t.Context())
	var out, errs lockedBuffer
	ended := make(chan int, 1)
	go func() { // ends with ctx
		ended <- run(ctx, []string{"power", "on", "-target", "r1", r.dir}, strings.NewReader(""), &out, &errs)
	}()
	deadline := time.Now().Add(10 * time.Second)
	for r.seen("r1 power-on") == 0 && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
	if n := r.bmc["r1"].Sessions(); n != 1 {
		t.Errorf("%d sessions are open during the action; want 1", n)
	}
	cancel()
	select {
	case code := <-ended:
		if code == 0 {
			t.Error("an interrupted power action exits 0")
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the verb does not end")
	}
	r.noneOpen()
}
