package bmc

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"firstlight/internal/refbmc"
)

// emulated is a fault of the reference BMC and what the client makes of it.
type emulated struct {
	name   string
	bmc    refbmc.BMC
	do     func(context.Context, *Client, Endpoint) error
	want   func(error) bool // nil: no error
	text   string           // of the error
	logins int              // the most RAKP messages 1 that may reach the BMC; 0: not counted
	pxe    bool             // the machine is to have started, once, by the network
	stats  func(Stats) bool // what must have been seen; nil: nothing in particular
}

func is[E error](err error) bool { var e E; return errors.As(err, &e) }

func setPXE(ctx context.Context, c *Client, ep Endpoint) error {
	return c.SetBoot(ctx, ep, Override{Device: BootPXE, EFI: true})
}

// recipe is what a bring-up does.
func recipe(ctx context.Context, c *Client, ep Endpoint) error {
	if err := setPXE(ctx, c, ep); err != nil {
		return err
	}
	return c.SetPower(ctx, ep, ActionOn)
}

// twice is the recipe of a client that is called again after an error.
func twice(ctx context.Context, c *Client, ep Endpoint) error {
	first := recipe(ctx, c, ep)
	if err := recipe(ctx, c, ep); err == nil || first == nil || err.Error() != first.Error() {
		return errors.New("asked again it is not refused as before")
	}
	return first
}

func emulatedBoot() []emulated {
	return []emulated{
		{name: "reverted override", bmc: refbmc.BMC{Faults: refbmc.Faults{RevertBootOverride: true}}, do: recipe, want: is[*ReadBackError], text: `reads back "none"`},
		{name: "ignored EFI flag", bmc: refbmc.BMC{Faults: refbmc.Faults{IgnoreEFI: true}}, do: recipe, want: is[*ReadBackError], text: `accepted the boot override "pxe uefi once" and reads back "pxe bios once"`},
		{name: "60 s expiry", bmc: refbmc.BMC{Lifetime: time.Nanosecond}, do: recipe, pxe: true}, // parameter 3 keeps it
		{name: "lies about power", bmc: refbmc.BMC{Faults: refbmc.Faults{Lie: true}}, do: recipe, want: is[*ReadBackError], text: "accepted power on, and"},
	}
}

func emulatedSessions() []emulated {
	frozen := func(err error) bool { return is[*NoAnswerError](err) }
	return []emulated{
		{name: "frozen", bmc: refbmc.BMC{Faults: refbmc.Faults{Silent: true}}, do: recipe, want: frozen, text: "(Open Session)"},
		// Privilege, parameters 3 and 5 and the read-back come first.
		{name: "frozen after 2 commands", bmc: refbmc.BMC{Faults: refbmc.Faults{FreezeAfter: 2}}, do: recipe, want: frozen, text: "did not answer"},
		{name: "session table full", bmc: refbmc.BMC{Faults: refbmc.Faults{SessionsFull: true}}, do: recipe,
			want: func(err error) bool { return err != nil && !is[*AuthError](err) }, text: "session"},
		{name: "a good login refused at times", bmc: refbmc.BMC{Faults: refbmc.Faults{RefuseLogins: 1}}, do: twice, want: is[*AuthError], text: "not tried again", logins: 1},
		{name: "lockout after 3", bmc: refbmc.BMC{Faults: refbmc.Faults{LockAfter: 3}}, do: func(ctx context.Context, c *Client, ep Endpoint) error {
			wrong := ep
			wrong.Password = "wrong"
			if err := twice(ctx, c, wrong); !is[*AuthError](err) {
				return err
			}
			return recipe(ctx, c, ep) // the account is not locked
		}, pxe: true},
	}
}

func emulatedNetworks() []emulated {
	net := func(name string, f refbmc.Faults, stats func(Stats) bool) emulated {
		return emulated{name: name, bmc: refbmc.BMC{Faults: f}, do: recipe, pxe: true, stats: stats}
	}
	return []emulated{
		net("1.2 s away", refbmc.Faults{Slow: 1200 * time.Millisecond}, nil),
		net("2.5 s away", refbmc.Faults{Slow: 2500 * time.Millisecond}, nil),
		net("5 % lost each way", refbmc.Faults{Loss: 0.05}, nil),
		net("10 % lost each way", refbmc.Faults{Loss: 0.1}, nil),
		net("doubled each way", refbmc.Faults{Twice: 1}, func(s Stats) bool { return s.Replayed > 0 }),
		net("reordered", refbmc.Faults{Reorder: true, Twice: 0.5}, func(s Stats) bool { return s.Late+s.Replayed > 0 }),
		net("malformed", refbmc.Faults{Malformed: true}, func(s Stats) bool { return s.Malformed > 0 }),
		net("replayed", refbmc.Faults{Replay: true}, func(s Stats) bool { return s.Replayed > 0 }),
		net("forged", refbmc.Faults{Forge: true}, func(s Stats) bool { return s.Forged > 0 && s.Unprotected > 0 }),
		{name: "downgraded", bmc: refbmc.BMC{Faults: refbmc.Faults{Downgrade: true}}, do: recipe,
			want: func(err error) bool { return err != nil }, text: "something else granted"},
	}
}

// TestEmulatedFaults runs a bring-up's recipe, with the settings that a fleet is
// run with, against each fault of the emulator.
func TestEmulatedFaults(t *testing.T) {
	for _, cases := range [][]emulated{emulatedBoot(), emulatedSessions(), emulatedNetworks()} {
		for i := range cases {
			tt := &cases[i]
			t.Run(tt.name, func(t *testing.T) {
				t.Parallel()
				if tt.bmc.Faults.Slow > time.Second && testing.Short() {
					t.Skip("takes 30 s")
				}
				tt.run(t)
			})
		}
	}
}

func (tt *emulated) run(t *testing.T) {
	r := startRef(t, &tt.bmc)
	c := &Client{PowerWithin: 30 * time.Second}
	if tt.want != nil {
		c.PowerWithin, c.Timeout = 300*time.Millisecond, 1500*time.Millisecond
	}
	err := tt.do(t.Context(), c, endpoint(r.addr))
	switch {
	case tt.want == nil && err != nil:
		t.Fatal(err)
	case tt.want != nil && (!tt.want(err) || !strings.Contains(err.Error(), tt.text)):
		t.Errorf("error %v; want one of its kind that says %q", err, tt.text)
	}
	boots := r.machine.started()
	if by := len(boots) == 1 && boots[0] == (refbmc.Boot{Device: "pxe", EFI: true}); by != tt.pxe || !tt.pxe && len(boots) > 0 {
		t.Errorf("the machine started as %+v; want a start by the network: %v", boots, tt.pxe)
	}
	if got := r.count("login-attempt"); tt.logins > 0 && got > tt.logins {
		t.Errorf("%d logins reached the BMC; want %d at most", got, tt.logins)
	}
	if s := c.Stats(); tt.stats != nil && !tt.stats(s) {
		t.Errorf("stats: %+v", s)
	}
	nothingHeld(t, c)
}

// TestForgottenOverride: an override that was read back and is forgotten before
// the power action shows only in what the machine boots.
func TestForgottenOverride(t *testing.T) {
	t.Parallel()
	r := startRef(t, &refbmc.BMC{Faults: refbmc.Faults{ForgetAfter: 1500 * time.Millisecond}})
	c, ep := &Client{}, endpoint(r.addr)
	if err := setPXE(t.Context(), c, ep); err != nil {
		t.Fatal(err)
	}
	for range 500 {
		o, err := c.Boot(t.Context(), ep)
		if err != nil {
			t.Fatal(err)
		}
		if o == (Override{}) {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err := c.SetPower(t.Context(), ep, ActionOn); err != nil {
		t.Fatal(err)
	}
	if boots := r.machine.started(); len(boots) != 1 || boots[0] != (refbmc.Boot{}) {
		t.Errorf("started as %+v; want once, by its own order", boots)
	}
}
