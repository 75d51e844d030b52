package redfish_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"firstlight/internal/simrack"
	"firstlight/inventory"
	"firstlight/provision/bmc"
	"firstlight/provision/bmc/bmctest"
	"firstlight/provision/bmc/redfish"
)

// TestFaults makes a BMC misbehave and holds what the client makes of it.
func TestFaults(t *testing.T) {
	pxe := bmc.Override{Device: bmc.BootPXE, EFI: true}
	cases := []struct {
		name   string
		faults simrack.RedfishFaults
		do     func(ctx context.Context, r *rig) error
		want   func(error) bool
		text   string // of the error; "" for none
		logins int
	}{
		{"reverted override", simrack.RedfishFaults{RevertOverride: true}, bootTo(pxe), is[*bmc.ReadBackError],
			`accepted the boot override "pxe uefi once" and reads back "none" (written to the system and the system without a mode)`, 1},
		{"ignored mode", simrack.RedfishFaults{IgnoreMode: true}, bootTo(pxe), is[*bmc.ReadBackError], `reads back "pxe bios once"`, 1},
		{"no such device", simrack.RedfishFaults{}, bootTo(bmc.Override{Device: "Floppy"}), nil, "does not offer to boot from Floppy: it offers None, Pxe", 1},
		{"lie", simrack.RedfishFaults{Lie: true}, powerTo(bmc.ActionOn), is[*bmc.ReadBackError], "accepted power on, and ", 1},
		{"frozen", simrack.RedfishFaults{FreezeAfter: -1}, powerTo(bmc.ActionOn), is[*bmc.NoAnswerError], "(GET /redfish/v1/)", 0},
		{"frozen after the action", simrack.RedfishFaults{FreezeAfter: 7}, powerTo(bmc.ActionOn), mayBeDone, "after power on was accepted", 1},
		{"frozen in the action", simrack.RedfishFaults{FreezeAfter: 6}, powerTo(bmc.ActionOn), mayBeDone, "(POST /redfish/v1/Systems/System_0/Actions/ComputerSystem.Reset)", 1},
		{"frozen before the action", simrack.RedfishFaults{FreezeAfter: 5}, powerTo(bmc.ActionOn), func(err error) bool { return is[*bmc.NoAnswerError](err) && !mayBeDone(err) }, "did not answer", 1},
		{"session table full", simrack.RedfishFaults{SessionsFull: true}, powerTo(bmc.ActionOn), func(err error) bool { return !is[*bmc.AuthError](err) }, "its session table is full", 1},
		{"requests refused at times", simrack.RedfishFaults{RefuseRequests: 1}, powerTo(bmc.ActionOn), func(err error) bool { return is[*redfish.StatusError](err) && !is[*bmc.AuthError](err) }, "answered 401 to GET /redfish/v1/Systems", 1},
		{"slow", simrack.RedfishFaults{Slow: 150 * time.Millisecond}, bootTo(pxe), nil, "", 1},
		{"too slow", simrack.RedfishFaults{Slow: 1500 * time.Millisecond}, bootTo(pxe), is[*bmc.NoAnswerError], "did not answer for 1", 0},
		{"answers cut short", simrack.RedfishFaults{CutAfter: 3}, powerTo(bmc.ActionOn), brokeOff(false), "broke off (GET /redfish/v1/Systems/System_0: unexpected EOF)", 1},
		{"answers cut short after the action", simrack.RedfishFaults{CutAfter: 6}, powerTo(bmc.ActionOn), brokeOff(true), "broke off", 1},
		{"connections closed", simrack.RedfishFaults{DropAfter: 3}, powerTo(bmc.ActionOn), brokeOff(false), "broke off (GET /redfish/v1/Systems/System_0: EOF)", 1},
		{"connection closed in the action", simrack.RedfishFaults{DropAfter: 6}, powerTo(bmc.ActionOn), brokeOff(true), "ComputerSystem.Reset", 1},
		{"baseboard down", simrack.RedfishFaults{BaseboardDown: true}, func(ctx context.Context, r *rig) error {
			for _, do := range []bmc.PowerAction{bmc.ActionOn, bmc.ActionCycle, bmc.ActionOff} {
				if err := r.client.SetPower(ctx, r.ep, do); err != nil {
					return err
				}
			}
			id, err := r.client.Identity(ctx, r.ep)
			return errors.Join(err, r.client.SetBoot(ctx, r.ep, pxe), wantEqual(id.Firmware, "4.5.6"), wantEqual(id.Serial, bmctest.Serial))
		}, nil, "", 1},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, &simrack.Redfish{Faults: c.faults})
			if c.text == "" {
				r.client.SettleWithin, r.client.PowerWithin = 5*time.Second, 5*time.Second
			}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			err := c.do(ctx, r)
			switch {
			case c.text == "" && err != nil:
				t.Fatal(err)
			case c.text != "" && (err == nil || !strings.Contains(err.Error(), c.text)):
				t.Errorf("error %v; want one that says %q", err, c.text)
			case c.want != nil && !c.want(err):
				t.Errorf("error %#v is of another kind", err)
			}
			if err != nil && !strings.Contains(err.Error(), "node n1: bmc 127.0.0.1:") {
				t.Errorf("the error does not name the node and its BMC: %v", err)
			}
			r.wantLogins(c.logins)
		})
	}
}

func bootTo(o bmc.Override) func(context.Context, *rig) error {
	return func(ctx context.Context, r *rig) error { return r.client.SetBoot(ctx, r.ep, o) }
}

func powerTo(do bmc.PowerAction) func(context.Context, *rig) error {
	return func(ctx context.Context, r *rig) error { return r.client.SetPower(ctx, r.ep, do) }
}

// brokeOff wants silence in which the action may have been carried out, or not.
func brokeOff(done bool) func(error) bool {
	return func(err error) bool { return is[*bmc.NoAnswerError](err) && mayBeDone(err) == done }
}

func mayBeDone(err error) bool {
	var silent *bmc.NoAnswerError
	return errors.As(err, &silent) && silent.MayBeDone
}

func wantEqual(got, want string) error {
	if got != want {
		return errors.New("got " + got + "; want " + want)
	}
	return nil
}

// TestMakes holds by which recipe each make takes the override, and that its
// peculiarity is real: the recipe before it fails.
func TestMakes(t *testing.T) {
	for name, m := range makes {
		t.Run(name, func(t *testing.T) {
			var patched []string
			b := &simrack.Redfish{Make: m}
			b.Watch = func(q *http.Request) {
				if q.Method == http.MethodPatch {
					patched = append(patched, q.URL.Path+" "+map[bool]string{true: "tagged"}[q.Header.Get("If-Match") != ""])
				}
			}
			r := newRig(t, b)
			r.must(bootTo(bmc.Override{Device: bmc.BootHTTP, EFI: true, Persistent: true})(t.Context(), r))
			o, err := r.client.Boot(t.Context(), r.ep)
			if err != nil || o.String() != "http uefi persistent" {
				t.Errorf("Boot = %s, %v", o, err)
			}
			want := []string{"/redfish/v1/Systems/System_0 tagged"}
			switch {
			case m.Pending:
				want = append(want, "/redfish/v1/Systems/System_0/SD tagged")
			case m.FixedMode:
				want = append(want, want[0])
			}
			if !slices.Equal(patched, want) {
				t.Errorf("patched %q; want %q", patched, want)
			}
		})
	}
}

// TestCycleWithoutPowerCycle: where there is no PowerCycle, a cycle is off and on.
func TestCycleWithoutPowerCycle(t *testing.T) {
	r := newRig(t, &simrack.Redfish{Make: simrack.RedfishMake{NoPowerCycle: true}, Machine: simrack.NewBulb(true)})
	r.client.PowerWithin = 5 * time.Second
	r.must(powerTo(bmc.ActionCycle)(t.Context(), r))
	if events, _ := r.seen(); !slices.Equal(events, []string{"power-off", "power-on"}) {
		t.Errorf("the BMC saw %q; want off and on", events)
	}
}

// TestIntermittentRefusals: only makes known for it get a second login, and even
// they cannot lock an account that locks at the third.
func TestIntermittentRefusals(t *testing.T) {
	cases := []struct {
		oem    string
		faults simrack.RedfishFaults
		wrong  bool
		ok     bool
		logins int
	}{
		{oem: "Hpe", faults: simrack.RedfishFaults{RefuseLogins: 1}, ok: true, logins: 2},
		{oem: "", faults: simrack.RedfishFaults{RefuseLogins: 1}, logins: 1},
		{oem: "Hpe", faults: simrack.RedfishFaults{RefuseRequests: 1}, ok: true, logins: 1},
		{oem: "Hpe", faults: simrack.RedfishFaults{LockAfter: 3}, wrong: true, logins: 2},
		{oem: "", faults: simrack.RedfishFaults{LockAfter: 3}, wrong: true, logins: 1},
	}
	for _, c := range cases {
		r := newRig(t, &simrack.Redfish{Make: simrack.RedfishMake{OEM: c.oem}, Faults: c.faults})
		right := r.ep.Password
		if c.wrong {
			r.ep.Password = "wrong"
		}
		_, err := r.client.Power(t.Context(), r.ep)
		if c.ok != (err == nil) || err != nil && !is[*bmc.AuthError](err) {
			t.Errorf("%+v: Power: %v", c, err)
		}
		r.wantLogins(c.logins)
		if err == nil {
			continue
		}
		// It is not sent again, however often it is asked for.
		if _, again := r.client.Power(t.Context(), r.ep); again == nil || again.Error() != err.Error() {
			t.Errorf("%+v: asked again: %v; want %v", c, again, err)
		}
		r.wantLogins(c.logins)
		if c.wrong { // a corrected one is tried, and the account is not locked
			r.ep.Password = right
			if _, err := r.client.Power(t.Context(), r.ep); err != nil {
				t.Errorf("%+v: with the right password: %v", c, err)
			}
		}
	}
}

// TestSessions: one login serves until the session ends, whoever ends it.
func TestSessions(t *testing.T) {
	r := newRig(t, &simrack.Redfish{})
	r.client.Keep = 100 * time.Millisecond
	power := func() {
		t.Helper()
		if _, err := r.client.Power(t.Context(), r.ep); err != nil {
			t.Fatal(err)
		}
	}
	for range 5 {
		power()
	}
	r.wantLogins(1)
	r.bmc.EndSessions() // as its time-out does
	power()
	r.wantLogins(2)
	for wait := time.Now(); r.bmc.Sessions() != 0; time.Sleep(10 * time.Millisecond) {
		if time.Since(wait) > 5*time.Second {
			t.Fatal("a session that nobody uses stays open")
		}
	}
	power()
	r.wantLogins(3)
	r.client.Forget(r.ep)
	if n := r.bmc.Sessions(); n != 0 {
		t.Errorf("%d sessions are open after Forget", n)
	}
	power()
	r.client.Close()
	if n := r.bmc.Sessions(); n != 0 {
		t.Errorf("%d sessions are open after Close", n)
	}
	if _, err := r.client.Power(t.Context(), r.ep); err == nil {
		t.Error("a closed client talks")
	}
}

// TestCancelledLogin: what is cancelled during the login leaves no session.
func TestCancelledLogin(t *testing.T) {
	r := newRig(t, &simrack.Redfish{Faults: simrack.RedfishFaults{Slow: 200 * time.Millisecond}})
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(300*time.Millisecond, cancel) // the root is read, the login is under way
	if _, err := r.client.Power(ctx, r.ep); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v; want that of the context", err)
	}
	r.wantLogins(1)
	if n := r.bmc.Sessions(); n != 1 {
		t.Errorf("%d sessions: the test cancelled at another moment", n)
	}
	r.client.Close()
	if n := r.bmc.Sessions(); n != 0 {
		t.Errorf("%d sessions are left behind", n)
	}
}

// TestSecrets greps all that is written for the password and the token.
func TestSecrets(t *testing.T) {
	var log bytes.Buffer
	var uris []string
	token := ""
	b := &simrack.Redfish{Faults: simrack.RedfishFaults{EchoPassword: true}}
	b.Watch = func(q *http.Request) {
		uris = append(uris, q.Method+" "+q.URL.String())
		if q.Header.Get("X-Auth-Token") != "" {
			token = q.Header.Get("X-Auth-Token")
		}
	}
	r := newRig(t, b)
	r.client.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	r.must(bootTo(bmc.Override{Device: bmc.BootPXE, EFI: true})(t.Context(), r))
	r.must(powerTo(bmc.ActionOn)(t.Context(), r))
	r.client.Forget(r.ep)

	r.ep.Password = inventory.Secret(bmctest.Password + "-wrong")
	_, err := r.client.Power(t.Context(), r.ep)
	if !is[*bmc.AuthError](err) || !strings.Contains(err.Error(), "[secret]") {
		t.Errorf("error %v; want a refused login, with what the BMC repeats left out", err)
	}
	if token == "" || len(uris) < 5 || log.Len() == 0 {
		t.Fatalf("the test saw %d requests, token %q and a log of %d bytes", len(uris), token, log.Len())
	}
	for what, text := range map[string]string{"log": log.String(), "error": err.Error(), "URLs": strings.Join(uris, "\n")} {
		for _, secret := range []string{bmctest.Password, token} {
			if strings.Contains(text, secret) {
				t.Errorf("a secret is in the %s:\n%s", what, text)
			}
		}
	}
}
