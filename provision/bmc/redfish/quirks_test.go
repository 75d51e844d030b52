package redfish

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"firstlight/internal/refbmc"
	"firstlight/internal/simrack"
	"firstlight/provision/bmc"
)

// quirkBMC is an emulated BMC and what it saw.
type quirkBMC struct {
	client *Client
	ep     Endpoint

	mu     sync.Mutex
	events []string
}

func (q *quirkBMC) count(kind string) (n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, e := range q.events {
		if e == kind {
			n++
		}
	}
	return n
}

func serveQuirk(t *testing.T, b *simrack.Redfish) *quirkBMC {
	t.Helper()
	q := &quirkBMC{client: &Client{Timeout: 5 * time.Second, PowerWithin: 10 * time.Second, SettleWithin: 300 * time.Millisecond}}
	ready, done := make(chan netip.AddrPort, 1), make(chan error, 1)
	b.Listen, b.Username, b.Password = "127.0.0.1:0", "admin", "pw"
	b.Ready = func(at netip.AddrPort) { ready <- at }
	b.Observe = func(e refbmc.Event) {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.events = append(q.events, e.Kind)
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() { done <- b.Serve(ctx) }() // ends with ctx
	t.Cleanup(func() {
		q.client.Close()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	select {
	case at := <-ready:
		q.ep = Endpoint{Node: "n1", Address: at, Username: "admin", Password: "pw"}
	case err := <-done:
		done <- nil
		t.Fatal(err)
	}
	return q
}

// TestQuirkSources: a difference between makes is in a table with its source.
func TestQuirkSources(t *testing.T) {
	for _, v := range vendors {
		if v.source == "" || v.moreLogins > 1 {
			t.Errorf("vendor %q: source %q, %d more logins; want a source and one at most", v.name, v.source, v.moreLogins)
		}
	}
	for _, r := range bootRecipes {
		if r.source == "" {
			t.Errorf("boot recipe %q has no source", r.name)
		}
	}
	for _, p := range outletParameters {
		if p.source == "" {
			t.Errorf("outlet parameter %q has no source", p.name)
		}
	}
	for _, a := range []bmc.PowerAction{bmc.ActionOn, bmc.ActionOff, bmc.ActionSoft, bmc.ActionCycle, bmc.ActionReset} {
		if waysTo(a) == nil || slices.Contains(waysTo(a), "FullPowerCycle") || a != bmc.ActionReset && slices.Contains(waysTo(a), "ForceRestart") {
			t.Errorf("power %s is done by %q", a, waysTo(a))
		}
	}
	for _, w := range resetWays {
		if w.source == "" {
			t.Errorf("the ways of power %s have no source", w.action)
		}
	}
}

// TestEveryVendor: each make that refuses good credentials at times gets a second
// try, and no other.
func TestEveryVendor(t *testing.T) {
	for _, v := range append(slices.Clone(vendors), vendor{name: "Acme"}) {
		for _, f := range []simrack.RedfishFaults{{RefuseLogins: 1}, {RefuseRequests: 1}} {
			q := serveQuirk(t, &simrack.Redfish{Make: simrack.RedfishMake{OEM: v.name}, Faults: f})
			_, err := q.client.Power(t.Context(), q.ep)
			if ok := err == nil; ok != (v.moreLogins > 0) {
				t.Errorf("%s, %+v: Power = %v; want success: %v", v.name, f, err, v.moreLogins > 0)
			}
			if n, most := q.count("login-attempt"), 1+v.moreLogins; n > most {
				t.Errorf("%s, %+v: %d logins; want %d at most", v.name, f, n, most)
			}
		}
	}
}

// TestEveryBootRecipe: each recipe has a make that it is for, on which it is the
// first that is kept.
func TestEveryBootRecipe(t *testing.T) {
	makes := map[string]simrack.RedfishMake{
		"the system, its mode left as it is": {OEM: "Dell", ModeJob: true},
		"the system":                         {EchoMode: true},
		"the system's settings":              {Pending: true, NeedsIfMatch: true},
		"the system without a mode":          {FixedMode: true},
	}
	for _, r := range bootRecipes {
		m, ok := makes[r.name]
		if !ok {
			t.Errorf("recipe %q is tested on no make", r.name)
			continue
		}
		for _, persistent := range []bool{false, true} {
			q := serveQuirk(t, &simrack.Redfish{Make: m})
			o := bmc.Override{Device: bmc.BootPXE, EFI: true, Persistent: persistent}
			err := q.client.SetBoot(t.Context(), q.ep, o)
			got, berr := q.client.Boot(t.Context(), q.ep)
			if err != nil || berr != nil || got != o {
				t.Errorf("%s: SetBoot(%s) = %v, then Boot = %s, %v", r.name, o, err, got, berr)
			}
			if n := q.count("boot-override"); n != 1 {
				t.Errorf("%s: %d overrides were accepted; want 1", r.name, n)
			}
			if n := q.count("bios-job"); n != 0 {
				t.Errorf("%s: %d BIOS jobs; want none", r.name, n)
			}
		}
	}
}

// TestDellModeIsWritten: where the mode is another than wanted it has to be.
func TestDellModeIsWritten(t *testing.T) {
	q := serveQuirk(t, &simrack.Redfish{Make: simrack.RedfishMake{OEM: "Dell", ModeJob: true}})
	legacy := bmc.Override{Device: bmc.BootPXE}
	if err := q.client.SetBoot(t.Context(), q.ep, legacy); err != nil || q.count("bios-job") != 1 {
		t.Errorf("SetBoot(%s) = %v with %d BIOS jobs; want 1", legacy, err, q.count("bios-job"))
	}
}
