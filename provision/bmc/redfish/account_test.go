package redfish_test

import (
	"errors"
	"strings"
	"testing"

	"firstlight/internal/simrack"
	"firstlight/inventory"
	"firstlight/provision/bmc"
	"firstlight/provision/bmc/bmctest"
)

func ready() error { return nil }

// TestSetPassword: whatever the make, the account has the new password, a login
// with it works, and the session that changed it leaves nothing behind.
func TestSetPassword(t *testing.T) {
	for name, b := range map[string]*simrack.Redfish{
		"plain":          {},
		"needs If-Match": {Make: simrack.RedfishMake{NeedsIfMatch: true}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, b)
			const next inventory.Secret = "Next-password-1"
			r.must(r.client.SetPassword(t.Context(), r.ep, next, ready))
			if !b.Accepts(next.Reveal()) || b.Accepts(bmctest.Password) {
				t.Error("the BMC does not have the new password only")
			}
			r.ep.Password = next
			if _, err := r.client.Power(t.Context(), r.ep); err != nil {
				t.Errorf("login with the new one: %v", err)
			}
			r.wantLogins(2)
			r.client.Close()
			if n := b.Sessions(); n != 0 {
				t.Errorf("%d sessions are open; want none", n)
			}
		})
	}
}

// TestSetPasswordRefused: nothing changes, and what the BMC repeats of the
// password is not shown.
func TestSetPasswordRefused(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault simrack.RedfishFaults
		next  inventory.Secret
		want  string
	}{
		{"policy", simrack.RedfishFaults{RefusePasswords: true}, "Planted-new-pw-1", "The value '[secret]' for the property Password"},
		{"short", simrack.RedfishFaults{}, "Pl4nted", "it wants passwords of 8 characters or more, and the new one has 7"},
		{"long", simrack.RedfishFaults{}, "Planted-new-password-1", "it takes passwords of 20 characters or less, and the new one has 22"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, &simrack.Redfish{Faults: c.fault})
			err := r.client.SetPassword(t.Context(), r.ep, c.next, ready)
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), c.next.Reveal()) {
				t.Errorf("SetPassword: %v; want %q in it", err, c.want)
			}
			if !r.bmc.Accepts(bmctest.Password) {
				t.Error("the old password is gone")
			}
		})
	}
	r := newRig(t, &simrack.Redfish{})
	r.ep.Password = "wrong"
	var refused *bmc.AuthError
	if err := r.client.SetPassword(t.Context(), r.ep, "Next-password-1", ready); !errors.As(err, &refused) {
		t.Errorf("SetPassword with a wrong password: %v", err)
	}
	r.wantLogins(1)
}
