package redfish_test

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"testing"
	"time"

	"firstlight/internal/refbmc"
	"firstlight/internal/simrack"
	"firstlight/provision/bmc"
	"firstlight/provision/bmc/bmctest"
	"firstlight/provision/bmc/redfish"
)

// rig is a simulated BMC, and a client with short waits.
type rig struct {
	*testing.T
	bmc    *simrack.Redfish
	client *redfish.Client
	ep     redfish.Endpoint

	mu     sync.Mutex
	events []string
	logins int
}

const settle = 300 * time.Millisecond

// newRig serves b, and stops it when the test ends.
func newRig(t *testing.T, b *simrack.Redfish) *rig {
	t.Helper()
	r := &rig{T: t, bmc: b, client: &redfish.Client{Timeout: time.Second, PowerWithin: settle, SettleWithin: settle, BMCQuiet: 50 * time.Millisecond, BMCWithin: 3 * time.Second}}
	b.Listen, b.Username, b.Password, b.Serial = "127.0.0.1:0", "admin", bmctest.Password, bmctest.Serial
	b.Observe = r.observe
	ready, done := make(chan netip.AddrPort, 1), make(chan error, 1)
	b.Ready = func(at netip.AddrPort) { ready <- at }
	ctx, cancel := context.WithCancel(context.Background())
	go func() { done <- b.Serve(ctx) }() // ends with ctx
	t.Cleanup(func() {
		r.client.Close()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	select {
	case at := <-ready:
		r.ep = redfish.Endpoint{Node: "n1", Address: at, Username: "admin", Password: bmctest.Password, DeclaredAt: "nodes.hcl:7"}
	case err := <-done:
		done <- nil
		t.Fatal(err)
	}
	return r
}

func (r *rig) observe(e refbmc.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch e.Kind {
	case "login-attempt":
		r.logins++
	case "login", "login-refused", "boot-override":
	default:
		r.events = append(r.events, e.Kind)
	}
}

func (r *rig) seen() (events []string, logins int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.events...), r.logins
}

// wantLogins holds how often a login was attempted.
func (r *rig) wantLogins(want int) {
	r.Helper()
	if _, got := r.seen(); got != want {
		r.Errorf("%d logins were attempted; want %d", got, want)
	}
}

func (r *rig) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

// again is a second client of the same BMC, with pins of its own.
func (r *rig) again(pins *redfish.PinFile) *redfish.Client {
	c := &redfish.Client{Pins: pins, Timeout: time.Second, PowerWithin: settle, SettleWithin: settle}
	r.Cleanup(c.Close)
	return c
}

// bound is a client in the terms of bmctest.
type bound struct{ *rig }

func (b bound) Serial(ctx context.Context) (string, error) {
	id, err := b.client.Identity(ctx, b.ep)
	return id.Serial, err
}

func (b bound) Power(ctx context.Context) (string, error) {
	p, err := b.client.Power(ctx, b.ep)
	return string(p), err
}

func (b bound) SetPower(ctx context.Context, action string) error {
	return b.client.SetPower(ctx, b.ep, bmc.PowerAction(action))
}

func (b bound) SetBootPXE(ctx context.Context, persistent bool) error {
	return b.client.SetBoot(ctx, b.ep, bmc.Override{Device: bmc.BootPXE, Persistent: persistent, EFI: true})
}

func (b bound) ClearBoot(ctx context.Context) error {
	return b.client.SetBoot(ctx, b.ep, bmc.Override{})
}

func (b bound) Boot(ctx context.Context) (string, error) {
	o, err := b.client.Boot(ctx, b.ep)
	return o.String(), err
}

func (b bound) ResetBMC(ctx context.Context) error { return b.client.ResetBMC(ctx, b.ep) }

func (b bound) Close() { b.client.Close() }

// stand makes the stand of a conformance case.
func stand(t *testing.T, b *simrack.Redfish, f bmctest.Fault) bmctest.Stand {
	switch f {
	case bmctest.Reverts:
		b.Faults.RevertOverride = true
	case bmctest.Lies:
		b.Faults.Lie = true
	case bmctest.Frozen:
		b.Faults.FreezeAfter = -1
	case bmctest.Freezes:
		b.Faults.FreezeAfter = 2 // service root and login
	}
	r := newRig(t, b)
	switch f {
	case bmctest.Healthy: // the test's host may be busy
		r.client.Timeout, r.client.PowerWithin, r.client.SettleWithin = 10*time.Second, 10*time.Second, 10*time.Second
	case bmctest.Reverts, bmctest.Lies:
		r.client.Timeout = 10 * time.Second
	case bmctest.WrongPassword:
		r.ep.Password = "not-" + bmctest.Password
	case bmctest.Closed:
		r.ep.Address = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), 1)
	}
	if f == bmctest.Frozen || f == bmctest.Freezes {
		r.client.Timeout = settle
	}
	if f == bmctest.Freezes {
		t.Cleanup(func() { b.EndSessions() })
	}
	s := bmctest.Stand{Client: bound{r}, Patience: 5 * time.Second, Powered: b.Machine.Powered,
		Events:     func() []string { events, _ := r.seen(); return events },
		Logins:     func() int { _, logins := r.seen(); return logins },
		Sessions:   b.Sessions,
		IsAuth:     is[*bmc.AuthError],
		IsNoAnswer: is[*bmc.NoAnswerError],
		IsReadBack: is[*bmc.ReadBackError]}
	if f == bmctest.Freezes {
		s.Sessions = nil // what does not answer cannot be told to end one
	}
	return s
}

func is[E error](err error) bool {
	var e E
	return errors.As(err, &e)
}
