package bmc

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"firstlight/internal/refbmc"
)

func quickRestarts() *Client {
	return &Client{Timeout: 500 * time.Millisecond, BMCQuiet: 300 * time.Millisecond, BMCWithin: 20 * time.Second}
}

// TestResetBMC: the BMC goes away, comes back, and has left the node alone.
func TestResetBMC(t *testing.T) {
	r := startRef(t, &refbmc.BMC{Faults: refbmc.Faults{RevertUntilReset: true}})
	c, ep := quickRestarts(), endpoint(r.addr)
	r.machine.force(true, false)
	pxe := Override{Device: BootPXE, EFI: true, Persistent: true}
	var differs *ReadBackError
	if err := c.SetBoot(t.Context(), ep, pxe); !errors.As(err, &differs) {
		t.Fatalf("SetBoot before the restart = %v; want the override not kept", err)
	}
	if err := c.ResetBMC(t.Context(), ep); err != nil {
		t.Fatal(err)
	}
	if n := r.count("bmc-reset"); n != 1 || !r.machine.Powered() || len(r.machine.started()) != 0 {
		t.Errorf("%d restarts, machine on: %v, boots %v; want 1, true and none", n, r.machine.Powered(), r.machine.started())
	}
	if err := c.SetBoot(t.Context(), ep, pxe); err != nil {
		t.Errorf("SetBoot after the restart: %v", err)
	}
}

// TestResetBMCIgnored: it is said and not done. The session of before tells.
func TestResetBMCIgnored(t *testing.T) {
	r := startRef(t, &refbmc.BMC{Faults: refbmc.Faults{IgnoreReset: true}})
	err := quickRestarts().ResetBMC(t.Context(), endpoint(r.addr))
	var differs *ReadBackError
	if !errors.As(err, &differs) || !strings.Contains(err.Error(), "accepted a restart of itself, and 300ms later still knows the session of before") {
		t.Errorf("ResetBMC = %v; want it caught", err)
	}
	if n := r.count("login-attempt"); n != 1 {
		t.Errorf("%d logins; want 1", n)
	}
}

// TestResetBMCStaysAway: a BMC that does not come back is waited for no longer
// than allowed.
func TestResetBMCStaysAway(t *testing.T) {
	r := startRef(t, &refbmc.BMC{})
	c := quickRestarts()
	c.BMCWithin = time.Millisecond
	r.mu.Lock()
	r.dies = true
	r.mu.Unlock()
	err := c.ResetBMC(t.Context(), endpoint(r.addr))
	var silent *NoAnswerError
	if !errors.As(err, &silent) || !strings.Contains(err.Error(), "restarted, and not back ") {
		t.Errorf("ResetBMC = %v; want that it is not back", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.ResetBMC(ctx, endpoint(r.addr)); !errors.Is(err, context.Canceled) {
		t.Errorf("ResetBMC when cancelled = %v", err)
	}
}
