package secrets

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"firstlight/internal/refbmc"
	"firstlight/internal/simrack"
	"firstlight/inventory"
	"firstlight/provision/bmc"
	"firstlight/provision/bmc/redfish"
)

// declared is what every BMC of a fleet has at first.
const declared = "declared-pw-1"

// peer is a BMC of a fleet, of either kind.
type peer interface {
	Accepts(password string) bool
	MostFailed() int
	EndSessions()
}

// fleet is BMCs that lock their account at the third failed login in a row.
type fleet struct {
	*testing.T
	Members []member
	peers   []peer
	log     *slog.Logger // of the clients; nil for none
}

// member is what a child process must know of a BMC.
type member struct {
	Node    string
	Address netip.AddrPort
	Redfish bool
}

func newFleet(t *testing.T, ipmi, overRedfish int) *fleet {
	f := &fleet{T: t}
	for i := range ipmi {
		b := &refbmc.BMC{Listen: fmt.Sprintf("127.0.72.%d:0", i+1), Username: "admin", Password: declared, Machine: simrack.NewBulb(true), Faults: refbmc.Faults{LockAfter: 3}}
		f.add(b, false, func(ready func(netip.AddrPort)) { b.Ready = ready }, b.Serve)
	}
	for i := range overRedfish {
		b := &simrack.Redfish{Listen: fmt.Sprintf("127.0.73.%d:0", i+1), Username: "admin", Password: declared, Faults: simrack.RedfishFaults{LockAfter: 3}}
		f.add(b, true, func(ready func(netip.AddrPort)) { b.Ready = ready }, b.Serve)
	}
	return f
}

func (f *fleet) add(p peer, overRedfish bool, onReady func(func(netip.AddrPort)), serve func(context.Context) error) {
	ready, done := make(chan netip.AddrPort, 1), make(chan error, 1)
	onReady(func(a netip.AddrPort) { ready <- a })
	ctx, cancel := context.WithCancel(context.Background())
	go func() { done <- serve(ctx) }() // ends with ctx
	select {
	case at := <-ready:
		f.Members = append(f.Members, member{fmt.Sprintf("n%d", len(f.Members)+1), at, overRedfish})
		f.peers = append(f.peers, p)
	case err := <-done:
		cancel()
		f.Fatal(err)
	}
	f.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			f.Error(err)
		}
	})
}

// jobs are a change of every member's password, which ends with done. log may be
// nil.
func jobs(members []member, log *slog.Logger) (out []Job, done func()) {
	ipmi, web := &bmc.Client{Timeout: 30 * time.Second, Log: log}, &redfish.Client{Timeout: 30 * time.Second, Log: log}
	for _, m := range members {
		j := Job{Account: account(m), Declared: func() (inventory.Secret, error) { return declared, nil },
			Next: func() (inventory.Secret, bool, error) { return Generate(), false, nil }}
		if m.Redfish {
			j.BMC = Redfish{web, redfish.Endpoint{Node: m.Node, Address: m.Address, Username: "admin"}}
		} else {
			j.BMC = IPMI{ipmi, bmc.Endpoint{Node: m.Node, Address: m.Address, Username: "admin"}}
		}
		out = append(out, j)
	}
	return out, web.Close
}

func account(m member) Account { return Account{m.Node, m.Address.Addr(), m.Address.Port(), "admin"} }

// rotate changes the passwords of the fleet in this process.
func (f *fleet) rotate(path string) []Result {
	f.Helper()
	store, err := Open(path)
	if err != nil {
		f.Fatal(err)
	}
	all, done := jobs(f.Members, f.log)
	defer done()
	results, err := (&Rotation{Store: store, Concurrency: 2}).Run(f.Context(), all)
	if err != nil {
		f.Fatal(err)
	}
	if err := store.Close(); err != nil {
		f.Fatal(err)
	}
	return results
}

// check holds that every BMC accepts exactly what is recorded, and that none came
// near its limit. mostFailed is how many failed logins in a row are allowed.
func (f *fleet) check(path string, mostFailed int) {
	f.Helper()
	book, err := Read(path)
	if err != nil {
		f.Fatal(err)
	}
	for i, m := range f.Members {
		e, _ := book.Find(account(m))
		password, err := e.Current()
		if password == "" {
			password = declared
		}
		if err != nil || e.Next != "" || !f.peers[i].Accepts(password.Reveal()) {
			f.Errorf("%s: what is recorded is not what the BMC accepts (error %v, a change is under way: %v)", m.Node, err, e.Next != "")
		}
		if n := f.peers[i].MostFailed(); n > mostFailed {
			f.Errorf("%s: %d failed logins in a row; want %d at most", m.Node, n, mostFailed)
		}
	}
}

// childEnv has a process of this test binary be the child of TestCrash: it
// rotates, and kills itself at a step.
const childEnv = "FIRSTLIGHT_SECRETS_CHILD"

// order is what a child is told.
type order struct {
	Path    string
	Members []member
	Point   string // "write", before a step is recorded, or "written"
	Step    int    // at which it kills itself; 0: it does not
}

func TestMain(m *testing.M) {
	if text := os.Getenv(childEnv); text != "" {
		if err := child(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func child(text string) error {
	var o order
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return err
	}
	store, err := Open(o.Path)
	if err != nil {
		return err
	}
	steps := 0
	store.crash = func(point string) { // with the store locked
		if point != o.Point {
			return
		}
		if steps++; steps == o.Step {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // it comes at once
		}
	}
	all, done := jobs(o.Members, nil)
	defer done()
	results, err := (&Rotation{Store: store, Concurrency: 3}).Run(context.Background(), all)
	if err != nil {
		return err
	}
	for _, r := range results {
		if r.Err != nil {
			return r.Err
		}
	}
	return store.Close()
}

// spawn runs a child, and says whether it was killed. The sessions that it leaves
// on the BMCs, which have room for four, have timed out when the next one comes.
func (f *fleet) spawn(path, point string, step int) (killed bool) {
	f.Helper()
	text, err := json.Marshal(order{path, f.Members, point, step})
	if err != nil {
		f.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		f.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), childEnv+"="+string(text))
	out, err := cmd.CombinedOutput()
	for _, p := range f.peers {
		p.EndSessions()
	}
	if err == nil {
		return false
	}
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signal() == syscall.SIGKILL {
		return true
	}
	f.Fatalf("child: %v\n%s", err, out)
	return false
}

// TestCrash kills a process that changes the passwords of a fleet with SIGKILL
// before and after each step that it records, lets another one finish, and holds
// that no password is lost and no account comes near its lock. The second process
// is killed as well, at a step that moves along.
func TestCrash(t *testing.T) {
	f := newFleet(t, 2, 1)
	path := t.TempDir() + "/passwords"
	for _, point := range []string{"write", "written"} {
		step := 1
		for ; f.spawn(path, point, step); step++ {
			f.spawn(path, point, 1+step%5)
			if f.spawn(path, "", 0) {
				t.Fatal("a child that was not to be killed was")
			}
			f.check(path, 1)
			if t.Failed() {
				t.Fatalf("killed at %s %d", point, step)
			}
		}
		f.check(path, 1)
		if least := 1 + 3*len(f.Members); step <= least {
			t.Errorf("%d steps were recorded; want the beginning, and three or more for each of %d BMCs", step-1, len(f.Members))
		}
	}
	left, err := os.ReadFile(path)
	if n := strings.Count(string(left), "\n"); err != nil || n != len(f.Members) {
		t.Errorf("the file has %d lines, %v; want one for each BMC", n, err)
	}
}

// TestDebugLog: the clients' most talkative log has no password, not even when
// one is refused.
func TestDebugLog(t *testing.T) {
	f := newFleet(t, 2, 2)
	f.peers[3].(*simrack.Redfish).SetFaults(simrack.RedfishFaults{RefusePasswords: true, EchoPassword: true})
	var text bytes.Buffer
	f.log = slog.New(slog.NewTextHandler(&text, &slog.HandlerOptions{Level: slog.LevelDebug}))
	path := t.TempDir() + "/passwords"
	f.rotate(path)
	book, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	planted := []string{declared}
	for _, e := range book.Entries() {
		planted = append(planted, e.Password.Reveal())
	}
	if len(planted) != 4 || !strings.Contains(text.String(), "conversation") {
		t.Fatalf("%d passwords, and the log says:\n%s", len(planted), &text)
	}
	for i, secret := range planted {
		if strings.Contains(text.String(), secret) {
			t.Errorf("password %d is in the log", i)
		}
	}
}
