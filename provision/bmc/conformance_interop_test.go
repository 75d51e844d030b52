package bmc

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/bougou/go-ipmi/pkg/types"
)

// TestConformance holds the client against our reference BMC and a foreign one.
func TestConformance(t *testing.T) {
	for _, p := range peers() {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			tap := startTap(t, p.start(t), &tap{})
			ep := endpoint(tap.addr)
			c := &Client{Timeout: 3 * time.Second, PowerWithin: 5 * time.Second}

			t.Run("suite", func(t *testing.T) {
				if err := c.With(t.Context(), ep, func(s *Session) error {
					if got := s.wire.(*remote).v.suite.id; got != p.suite {
						t.Errorf("suite = %d; want %d", got, p.suite)
					}
					return nil
				}); err != nil {
					t.Fatal(err)
				}
			})
			t.Run("power", func(t *testing.T) { conformPower(t, c, ep) })
			t.Run("override", func(t *testing.T) { conformBoot(t, c, ep, p.keepsOverride) })
			t.Run("identity", func(t *testing.T) {
				id, err := c.Identity(t.Context(), ep)
				if err != nil {
					t.Fatal(err)
				}
				if len(id.GUID) != 36 || id.Firmware == "" {
					t.Errorf("Identity = %+v; want a GUID and a firmware version", id)
				}
			})
			t.Run("wrong password", func(t *testing.T) { conformRefusal(t, c, ep, tap) })
		})
	}
}

func conformPower(t *testing.T, c *Client, ep Endpoint) {
	steps := []struct {
		action PowerAction
		want   PowerState
	}{
		{ActionOff, PowerOff}, {ActionOn, PowerOn}, {ActionOn, PowerOn}, {ActionCycle, PowerOn}, {ActionReset, PowerOn},
		{ActionOff, PowerOff}, {ActionCycle, PowerOn}, {ActionOff, PowerOff},
	}
	for _, s := range steps {
		if err := c.SetPower(t.Context(), ep, s.action); err != nil {
			t.Fatalf("SetPower(%s): %v", s.action, err)
		}
		// ipmi_sim takes a second to turn on again in a cycle.
		if got, err := c.Power(t.Context(), ep); err != nil || got != s.want {
			t.Fatalf("Power after %s = %q, %v; want %q", s.action, got, err, s.want)
		}
	}
	if err := c.SetPower(t.Context(), ep, ActionReset); err == nil || !strings.Contains(err.Error(), "node hnode001: bmc ") {
		t.Errorf("SetPower(reset) of a node that is off: %v; want it refused, and named", err)
	}
}

func conformBoot(t *testing.T, c *Client, ep Endpoint, keeps bool) {
	for _, o := range []Override{
		{Device: BootPXE, EFI: true}, {Device: BootPXE, EFI: true, Persistent: true}, {Device: BootPXE}, {Device: BootDisk, EFI: true}, {},
	} {
		err := c.SetBoot(t.Context(), ep, o)
		if !keeps && o != (Override{}) {
			var back *ReadBackError
			if !errors.As(err, &back) || back.Wanted != o.String() || back.Got != "none" {
				t.Errorf("SetBoot(%s) on a BMC that keeps no valid bit: %v; want *ReadBackError got none", o, err)
			}
			continue
		}
		if err != nil {
			t.Fatalf("SetBoot(%s): %v", o, err)
		}
		if got, err := c.Boot(t.Context(), ep); err != nil || got != o {
			t.Errorf("Boot = %s, %v; want %s", got, err, o)
		}
	}
}

func conformRefusal(t *testing.T, c *Client, ep Endpoint, tap *tap) {
	for _, bad := range []Endpoint{
		{Username: ep.Username, Password: "not-" + plantedPassword},
		{Username: "nobody", Password: ep.Password},
	} {
		bad.Node, bad.Address, bad.DeclaredAt = ep.Node, ep.Address, ep.DeclaredAt
		rakp1, proofs := tap.count(types.PayloadTypeRAKPMessage1), tap.proofCount()
		_, err := c.Power(t.Context(), bad)
		var auth *AuthError
		if !errors.As(err, &auth) || auth.Username != bad.Username {
			t.Fatalf("Power as %s: %v; want *AuthError", bad.Username, err)
		}
		for _, part := range []string{"hnode001", ep.Address.String(), "nodes.hcl:12", "wrong user name or password", "not tried again"} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("error lacks %q: %v", part, err)
			}
		}
		if got := tap.count(types.PayloadTypeRAKPMessage1) - rakp1; got != 1 {
			t.Errorf("%d RAKP messages 1 reached the BMC; want 1", got)
		}
		// The BMC's own message shows the mismatch: no false proof is ever sent.
		if got := tap.proofCount() - proofs; got != 0 {
			t.Errorf("%d proofs of a wrong password reached the BMC; want 0", got)
		}
	}
	// No slot is left behind: more sessions than the four a BMC has.
	for range 6 {
		if _, err := c.Power(t.Context(), ep); err != nil {
			t.Fatalf("Power after refusals: %v", err)
		}
	}
}

// TestForeignWeather reads a foreign BMC over bad networks: its ways with
// repeated messages are not ours.
func TestForeignWeather(t *testing.T) {
	for _, w := range []weather{{loss: 0.1}, {loss: 0.2}, {delay: 700 * time.Millisecond}, {twice: 0.3}, {forge: forgeries()}} {
		t.Run(fmt.Sprintf("lost %g, doubled %g, %s away, forged %v", w.loss, w.twice, w.delay, w.forge != nil), func(t *testing.T) {
			t.Parallel()
			ep := endpoint(startSim(t, ""))
			c := &Client{open: w.open}
			rounds := 30
			if w.delay > 0 {
				rounds = 1
			}
			for i := range rounds {
				if got, err := c.Power(t.Context(), ep); err != nil || got != PowerOff {
					t.Fatalf("Power, round %d: %q, %v; want off; %+v", i, got, err, c.Stats())
				}
			}
			t.Logf("%+v", c.Stats())
		})
	}
}
