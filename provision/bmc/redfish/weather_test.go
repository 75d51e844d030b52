package redfish_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"firstlight/internal/refbmc"
	"firstlight/internal/simrack"
	"firstlight/provision/bmc"
	"firstlight/provision/bmc/redfish"
)

// lamp is a machine that keeps how it was started.
type lamp struct {
	refbmc.Machine
	mu    sync.Mutex
	boots []refbmc.Boot
}

func (l *lamp) PowerOn(ctx context.Context, boot refbmc.Boot) error {
	l.mu.Lock()
	l.boots = append(l.boots, boot)
	l.mu.Unlock()
	return l.Machine.PowerOn(ctx, boot)
}

func (l *lamp) started() []refbmc.Boot {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.boots)
}

// TestSlow: BMCs that take seconds for each answer are brought up with the
// settings of all others.
func TestSlow(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 30 s")
	}
	for _, slow := range []time.Duration{1200 * time.Millisecond, 2500 * time.Millisecond} {
		t.Run(slow.String(), func(t *testing.T) {
			t.Parallel()
			l := &lamp{Machine: simrack.NewBulb(false)}
			r := newRig(t, &simrack.Redfish{Machine: l, Faults: simrack.RedfishFaults{Slow: slow}})
			c := &redfish.Client{}
			defer c.Close()
			r.must(c.SetBoot(t.Context(), r.ep, bmc.Override{Device: bmc.BootPXE, EFI: true}))
			r.must(c.SetPower(t.Context(), r.ep, bmc.ActionOn))
			if got := l.started(); len(got) != 1 || got[0] != (refbmc.Boot{Device: "pxe", EFI: true}) {
				t.Errorf("started as %+v; want once, by the network", got)
			}
			r.wantLogins(1)
		})
	}
}

// TestForgottenOverride: an override that was read back and is forgotten before
// the power action shows only in what the machine boots.
func TestForgottenOverride(t *testing.T) {
	l := &lamp{Machine: simrack.NewBulb(false)}
	r := newRig(t, &simrack.Redfish{Machine: l, Faults: simrack.RedfishFaults{ForgetAfter: 1500 * time.Millisecond}})
	r.client.PowerWithin = 5 * time.Second
	r.must(r.client.SetBoot(t.Context(), r.ep, bmc.Override{Device: bmc.BootPXE, EFI: true}))
	for range 500 {
		if o, err := r.client.Boot(t.Context(), r.ep); err != nil || o == (bmc.Override{}) {
			r.must(err)
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	r.must(r.client.SetPower(t.Context(), r.ep, bmc.ActionOn))
	if got := l.started(); len(got) != 1 || got[0] != (refbmc.Boot{}) {
		t.Errorf("started as %+v; want once, by its own order", got)
	}
}
