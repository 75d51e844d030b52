package bmc

import (
	"errors"
	"strings"
	"testing"
	"time"

	"firstlight/internal/refbmc"
	"firstlight/inventory"
)

func ready() error { return nil }

// TestSetPassword: the BMC has the new password, of either size, and not the old
// one; the session that set it ends as any other.
func TestSetPassword(t *testing.T) {
	r := startRef(t, &refbmc.BMC{})
	c, ep := &Client{Timeout: time.Second}, endpoint(r.addr)
	for _, password := range []inventory.Secret{"Next-1", "sixteen-bytes-16", "twenty-bytes-long-20"} {
		if err := c.SetPassword(t.Context(), ep, password, ready); err != nil {
			t.Fatalf("%d bytes: %v", len(password), err)
		}
		if !r.bmc.Accepts(password.Reveal()) || r.bmc.Accepts(ep.Password.Reveal()) {
			t.Errorf("%d bytes: the BMC does not have the new password only", len(password))
		}
		old := ep
		ep.Password = password
		if _, err := c.Power(t.Context(), ep); err != nil {
			t.Errorf("%d bytes: login with the new one: %v", len(password), err)
		}
		var refused *AuthError
		if _, err := c.Power(t.Context(), old); !errors.As(err, &refused) {
			t.Errorf("%d bytes: login with the old one: %v; want it refused", len(password), err)
		}
	}
	if n := r.bmc.MostFailed(); n != 1 {
		t.Errorf("%d failed logins in a row; want 1", n)
	}
	// A password that was refused before it was set is not taken for wrong.
	if err := c.SetPassword(t.Context(), ep, plantedPassword, ready); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Power(t.Context(), endpoint(r.addr)); err != nil {
		t.Errorf("login with what was refused before it was set: %v", err)
	}
}

// TestSetPasswordRefused: what cannot be set is not sent, and no error shows it.
func TestSetPasswordRefused(t *testing.T) {
	r := startRef(t, &refbmc.BMC{})
	c, ep := &Client{Timeout: time.Second}, endpoint(r.addr)
	asked := 0
	never := func() error { asked++; return nil }
	const long = "planted-password-of-24-b"
	err := c.SetPassword(t.Context(), ep, long, ready)
	if err == nil || !strings.Contains(err.Error(), "24 bytes long") || strings.Contains(err.Error(), long) {
		t.Errorf("SetPassword of 24 bytes: %v", err)
	}
	ep.Password = "wrong"
	var refused *AuthError
	if err := c.SetPassword(t.Context(), ep, "New-password", never); !errors.As(err, &refused) {
		t.Errorf("SetPassword with a wrong password: %v", err)
	}
	if asked != 0 {
		t.Error("ready was called, and the password was not let in")
	}
	ep.Password = plantedPassword
	full := errors.New("disk full")
	if err := c.SetPassword(t.Context(), ep, "New-password", func() error { return full }); !errors.Is(err, full) {
		t.Errorf("SetPassword that is not ready: %v", err)
	}
	if n := r.count("login-attempt"); n != 2 || !r.bmc.Accepts(plantedPassword) {
		t.Errorf("%d logins, old password kept: %v; want 2 and true", n, r.bmc.Accepts(plantedPassword))
	}
}

// TestLockAfter: the reference BMC locks its account as real ones do, so that
// tests of lockouts can fail.
func TestLockAfter(t *testing.T) {
	r := startRef(t, &refbmc.BMC{Faults: refbmc.Faults{LockAfter: 3}})
	ep := endpoint(r.addr)
	for i := range 3 {
		if _, err := (&Client{Timeout: time.Second}).Power(t.Context(), ep); i == 0 && err != nil {
			t.Fatal(err)
		}
		wrong := ep
		wrong.Password = "wrong"
		for range i + 1 { // 1, 2, and then 3 in a row, with a good one before each
			if _, err := (&Client{Timeout: time.Second}).Power(t.Context(), wrong); err == nil {
				t.Fatal("the wrong password was let in")
			}
		}
	}
	if _, err := (&Client{Timeout: time.Second}).Power(t.Context(), ep); err == nil || r.bmc.MostFailed() != 3 {
		t.Errorf("after 3 failed logins in a row (%d counted): %v; want the account locked", r.bmc.MostFailed(), err)
	}
}
