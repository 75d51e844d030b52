// Package bmctest holds a client of baseboard controllers to what provision
// relies on, whatever the protocol: writes that are read back, no power action
// twice, one login with a refused credential, errors of the right kind in the
// time allowed, and no session left behind.
package bmctest

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Password is what the BMC of a stand wants. No error may repeat it.
const Password = ShortPassword + "7"

// ShortPassword is what a BMC wants that keeps no more than the 16 bytes of IPMI 1.5.
const ShortPassword = "planted-Secret-1"

// Serial is that of a stand's machine.
const Serial = "SN-CONFORM-1"

// Fault is how the BMC of a stand misbehaves.
type Fault string

// The faults; a stand has at most one.
const (
	Healthy       Fault = ""
	WrongPassword Fault = "wrong password"     // the client has another than Password
	Reverts       Fault = "override reverted"  // the override is accepted and not kept
	Lies          Fault = "power not changed"  // a power action is accepted and not done
	Frozen        Fault = "frozen"             // nothing is answered
	Freezes       Fault = "frozen after login" // and nothing that comes later
	Closed        Fault = "port closed"
)

// Ability is what a BMC that is not ours may lack, on a good day too.
type Ability string

// The abilities.
const (
	KeepsOverride Ability = "keeps a boot override" // one that it accepts is read back
	Restarts      Ability = "restarts"              // by the client's ResetBMC
)

// use uses the ability: the error of it says that the BMC lacks it.
func (a Ability) use(ctx context.Context, c Client) error {
	if a == Restarts {
		return c.ResetBMC(ctx)
	}
	return c.SetBootPXE(ctx, true)
}

// Client is the client under test, bound to the stand's BMC.
type Client interface {
	Serial(ctx context.Context) (string, error)
	Power(ctx context.Context) (string, error) // "on" or "off"
	SetPower(ctx context.Context, action string) error
	SetBootPXE(ctx context.Context, persistent bool) error // by UEFI
	ClearBoot(ctx context.Context) error
	Boot(ctx context.Context) (string, error) // "none", "pxe uefi once", "pxe uefi persistent"
	ResetBMC(ctx context.Context) error
	Close()
}

// Stand is a client, its BMC and the machine behind it, which is off at first.
// The client's waits are short: within Patience each of its calls must return.
type Stand struct {
	Client   Client
	Patience time.Duration
	Powered  func() bool     // the machine's own word
	Events   func() []string // power actions and restarts that the BMC accepted, as refbmc.Event's kinds
	Logins   func() int      // attempted at the BMC
	Sessions func() int      // open at the BMC; nil: it cannot be asked

	IsAuth, IsNoAnswer, IsReadBack func(error) bool // the client's errors by kind
}

// contractCase is a part of the contract.
type contractCase struct {
	name  string
	fault Fault
	run   func(t *testing.T, ctx context.Context, s Stand)
	needs []Ability
}

func cases() []contractCase {
	return []contractCase{
		{"identity", Healthy, identity, nil},
		{"power", Healthy, power, nil},
		{"power of what is so already", Healthy, idempotent, nil},
		{"reset of what is off", Healthy, resetOff, nil},
		{"no override", Healthy, noOverride, nil},
		{"override", Healthy, override, []Ability{KeepsOverride}},
		{"override is used up", Healthy, usedUp, []Ability{KeepsOverride}},
		{"restart of the BMC", Healthy, restart, []Ability{Restarts}},
		{"override after a restart", Healthy, restartOverride, []Ability{Restarts, KeepsOverride}},
		{"many at once", Healthy, many, nil},
		{"cancelled", Frozen, cancelled, nil},
		{"wrong password", WrongPassword, wrongPassword, nil},
		{"override reverted", Reverts, reverted, nil},
		{"power not changed", Lies, lied, nil},
		{"frozen", Frozen, frozen, nil},
		{"frozen after login", Freezes, frozen, nil},
		{"restart of a frozen BMC", Frozen, func(t *testing.T, ctx context.Context, s Stand) {
			wantError(t, s, "ResetBMC", s.IsNoAnswer, func() error { return s.Client.ResetBMC(ctx) })
		}, nil},
		{"port closed", Closed, frozen, nil},
	}
}

// Run holds a client to the whole contract. open makes a fresh stand with a fault.
func Run(t *testing.T, open func(t *testing.T, f Fault) Stand) {
	if left := RunWithout(t, nil, open); len(left) != 0 {
		t.Errorf("not run: %q; want every case run", left)
	}
}

// RunWithout is Run against a BMC that lacks abilities, and returns the names of the
// cases that need one of them, which are not run. An ability that it has after all
// fails the test, for then its cases could run.
func RunWithout(t *testing.T, lacks []Ability, open func(t *testing.T, f Fault) Stand) (left []string) {
	for _, a := range lacks {
		t.Run("lacks: "+string(a), func(t *testing.T) {
			holdTo(t, open(t, Healthy), func(t *testing.T, ctx context.Context, s Stand) {
				if err := a.use(ctx, s.Client); err == nil || s.IsNoAnswer(err) || s.IsAuth(err) {
					t.Errorf("error %v; want the BMC's own refusal: if it can, the cases that need it must run", err)
				}
			})
		})
	}
	for _, c := range cases() {
		if slices.ContainsFunc(c.needs, func(a Ability) bool { return slices.Contains(lacks, a) }) {
			left = append(left, c.name)
			continue
		}
		t.Run(c.name, func(t *testing.T) { holdTo(t, open(t, c.fault), c.run) })
	}
	return left
}

// holdTo runs a case and looks at what it leaves behind.
func holdTo(t *testing.T, s Stand, run func(t *testing.T, ctx context.Context, s Stand)) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	run(t, ctx, s)
	s.Client.Close()
	if s.Sessions != nil && s.Sessions() != 0 {
		t.Errorf("%d sessions are open at the BMC after Close; want none", s.Sessions())
	}
}

// must wants no error.
func must(t *testing.T, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// wantError wants an error of a kind, in time, without the password.
func wantError(t *testing.T, s Stand, what string, is func(error) bool, f func() error) {
	t.Helper()
	began := time.Now()
	err := f()
	if after := time.Since(began); after > s.Patience {
		t.Errorf("%s returned after %s; want it within %s", what, after, s.Patience)
	}
	switch {
	case err == nil:
		t.Fatalf("%s succeeded", what)
	case !is(err):
		t.Errorf("%s = %v, which is of another kind", what, err)
	case strings.Contains(err.Error(), ShortPassword):
		t.Errorf("%s: the error holds the password: %v", what, err)
	}
}

func wantPower(t *testing.T, ctx context.Context, s Stand, want string) {
	t.Helper()
	got, err := s.Client.Power(ctx)
	must(t, "Power", err)
	if got != want || s.Powered() != (want == "on") {
		t.Errorf("Power = %s, and the machine is on: %v; want %s", got, s.Powered(), want)
	}
}

func wantEvents(t *testing.T, s Stand, want ...string) {
	t.Helper()
	if got := s.Events(); !slices.Equal(got, want) {
		t.Errorf("the BMC accepted %q; want %q", got, want)
	}
}

func identity(t *testing.T, ctx context.Context, s Stand) {
	got, err := s.Client.Serial(ctx)
	must(t, "Serial", err)
	if got != Serial {
		t.Errorf("Serial = %q; want %q", got, Serial)
	}
	wantEvents(t, s)
}

func power(t *testing.T, ctx context.Context, s Stand) {
	wantPower(t, ctx, s, "off")
	for _, step := range []struct{ action, want string }{{"on", "on"}, {"cycle", "on"}, {"reset", "on"}, {"off", "off"}, {"cycle", "on"}, {"soft", "off"}} {
		must(t, "SetPower "+step.action, s.Client.SetPower(ctx, step.action))
		wantPower(t, ctx, s, step.want)
	}
	wantEvents(t, s, "power-on", "power-cycle", "reset", "power-off", "power-on", "soft-off")
}

func idempotent(t *testing.T, ctx context.Context, s Stand) {
	must(t, "off", s.Client.SetPower(ctx, "off"))
	must(t, "soft", s.Client.SetPower(ctx, "soft"))
	must(t, "on", s.Client.SetPower(ctx, "on"))
	must(t, "on again", s.Client.SetPower(ctx, "on"))
	wantEvents(t, s, "power-on")
}

func resetOff(t *testing.T, ctx context.Context, s Stand) {
	if err := s.Client.SetPower(ctx, "reset"); err == nil {
		t.Error("a machine that is off was reset")
	}
	if err := s.Client.SetPower(ctx, "explode"); err == nil {
		t.Error("an unknown action was done")
	}
	wantEvents(t, s)
}

func wantBoot(t *testing.T, ctx context.Context, s Stand, want string) {
	t.Helper()
	got, err := s.Client.Boot(ctx)
	must(t, "Boot", err)
	if got != want {
		t.Errorf("Boot = %q; want %q", got, want)
	}
}

func noOverride(t *testing.T, ctx context.Context, s Stand) {
	wantBoot(t, ctx, s, "none")
	must(t, "clear", s.Client.ClearBoot(ctx))
	wantBoot(t, ctx, s, "none")
	wantEvents(t, s)
}

func override(t *testing.T, ctx context.Context, s Stand) {
	wantBoot(t, ctx, s, "none")
	must(t, "once", s.Client.SetBootPXE(ctx, false))
	wantBoot(t, ctx, s, "pxe uefi once")
	must(t, "persistent", s.Client.SetBootPXE(ctx, true))
	wantBoot(t, ctx, s, "pxe uefi persistent")
	must(t, "clear", s.Client.ClearBoot(ctx))
	wantBoot(t, ctx, s, "none")
	if s.Powered() {
		t.Error("an override turned the machine on")
	}
}

func usedUp(t *testing.T, ctx context.Context, s Stand) {
	must(t, "once", s.Client.SetBootPXE(ctx, false))
	must(t, "on", s.Client.SetPower(ctx, "on"))
	wantBoot(t, ctx, s, "none")
	must(t, "persistent", s.Client.SetBootPXE(ctx, true))
	must(t, "cycle", s.Client.SetPower(ctx, "cycle"))
	wantBoot(t, ctx, s, "pxe uefi persistent")
}

func restart(t *testing.T, ctx context.Context, s Stand) {
	must(t, "on", s.Client.SetPower(ctx, "on"))
	must(t, "ResetBMC", s.Client.ResetBMC(ctx))
	wantPower(t, ctx, s, "on")
	wantEvents(t, s, "power-on", "bmc-reset")
}

func restartOverride(t *testing.T, ctx context.Context, s Stand) {
	must(t, "on", s.Client.SetPower(ctx, "on"))
	must(t, "ResetBMC", s.Client.ResetBMC(ctx))
	must(t, "persistent", s.Client.SetBootPXE(ctx, true))
	wantBoot(t, ctx, s, "pxe uefi persistent")
	wantEvents(t, s, "power-on", "bmc-reset")
}

func many(t *testing.T, ctx context.Context, s Stand) {
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			if got, err := s.Client.Power(ctx); err != nil || got != "off" {
				t.Errorf("Power = %q, %v; want off", got, err)
			}
		})
	}
	all.Wait()
}

func cancelled(t *testing.T, ctx context.Context, s Stand) {
	ctx, cancel := context.WithCancel(ctx)
	time.AfterFunc(50*time.Millisecond, cancel)
	began := time.Now()
	if _, err := s.Client.Power(ctx); err == nil {
		t.Error("a frozen BMC told its power")
	}
	if after := time.Since(began); after > s.Patience {
		t.Errorf("Power returned %s after its start and was cancelled at 50ms", after)
	}
}

func wrongPassword(t *testing.T, ctx context.Context, s Stand) {
	wantError(t, s, "SetPower with a wrong password", s.IsAuth, func() error { return s.Client.SetPower(ctx, "on") })
	if got := s.Logins(); got != 1 {
		t.Errorf("%d logins were attempted; want 1", got)
	}
	wantEvents(t, s)
}

func reverted(t *testing.T, ctx context.Context, s Stand) {
	for _, persistent := range []bool{false, true} {
		wantError(t, s, "SetBootPXE", s.IsReadBack, func() error { return s.Client.SetBootPXE(ctx, persistent) })
	}
}

func lied(t *testing.T, ctx context.Context, s Stand) {
	wantError(t, s, "SetPower on", s.IsReadBack, func() error { return s.Client.SetPower(ctx, "on") })
	wantEvents(t, s, "power-on")
}

func frozen(t *testing.T, ctx context.Context, s Stand) {
	for what, f := range map[string]func() error{
		"Power":      func() error { _, err := s.Client.Power(ctx); return err },
		"Serial":     func() error { _, err := s.Client.Serial(ctx); return err },
		"SetPower":   func() error { return s.Client.SetPower(ctx, "on") },
		"SetBootPXE": func() error { return s.Client.SetBootPXE(ctx, false) },
	} {
		wantError(t, s, what, s.IsNoAnswer, f)
	}
	wantEvents(t, s)
}
