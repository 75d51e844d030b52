package redfish

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"firstlight/provision/bmc"
)

// bootTargets are the BootSourceOverrideTarget of the boot devices that can be
// set. Others may be read.
var bootTargets = map[bmc.BootDevice]string{bmc.BootPXE: "Pxe", bmc.BootHTTP: "UefiHttp", bmc.BootDisk: "Hdd"}

// bootDevice is what a BootSourceOverrideTarget stands for.
func bootDevice(target string) bmc.BootDevice {
	for device, t := range bootTargets {
		if t == target {
			return device
		}
	}
	switch target {
	case "", "None":
		return bmc.BootNone
	case "Cd":
		return bmc.BootCD
	case "BiosSetup":
		return bmc.BootSetup
	}
	return bmc.BootOther
}

// bootDoc is the Boot property of a ComputerSystem.
type bootDoc struct {
	Enabled string   `json:"BootSourceOverrideEnabled"`
	Target  string   `json:"BootSourceOverrideTarget"`
	Mode    string   `json:"BootSourceOverrideMode"`
	Targets []string `json:"BootSourceOverrideTarget@Redfish.AllowableValues"`
}

// bootPatch is what is written of it.
type bootPatch struct {
	Boot struct {
		Enabled string `json:"BootSourceOverrideEnabled"`
		Target  string `json:"BootSourceOverrideTarget"`
		Mode    string `json:"BootSourceOverrideMode,omitempty"`
	}
}

func (b bootDoc) override() bmc.Override {
	if b.Enabled != "Once" && b.Enabled != "Continuous" || b.Target == "None" || b.Target == "" {
		return bmc.Override{}
	}
	return bmc.Override{Device: bootDevice(b.Target), Persistent: b.Enabled == "Continuous", EFI: b.Mode != "Legacy"}
}

// Boot reads the boot override in a conversation of its own.
func (c *Client) Boot(ctx context.Context, ep Endpoint) (o bmc.Override, err error) {
	err = c.With(ctx, ep, func(s *Session) error {
		o, err = s.Boot(ctx)
		return err
	})
	return o, err
}

// SetBoot sets the boot override in a conversation of its own; see Session.SetBoot.
func (c *Client) SetBoot(ctx context.Context, ep Endpoint, o bmc.Override) error {
	return c.With(ctx, ep, func(s *Session) error { return s.SetBoot(ctx, o) })
}

// Boot reads the boot override, from the pending settings where the firmware
// keeps it there. One that was used up is none.
func (s *Session) Boot(ctx context.Context) (bmc.Override, error) {
	sys, err := s.system(ctx)
	if err != nil {
		return bmc.Override{}, err
	}
	if o := sys.Boot.override(); o.Device != bmc.BootNone || sys.Settings.SettingsObject.URI == "" {
		return o, nil
	}
	pending, err := s.systemAt(ctx, sys.Settings.SettingsObject.URI)
	var status *StatusError
	if errors.As(err, &status) {
		return bmc.Override{}, nil // named, and not there: nothing is pending
	}
	return pending.Boot.override(), err
}

// SetBoot sets the override, in the ways of bootRecipes until one reads back;
// *bmc.ReadBackError when none is kept. That it is kept does not yet mean that the
// firmware heeds it: the proof is the node's DHCP request.
func (s *Session) SetBoot(ctx context.Context, o bmc.Override) error {
	sys, err := s.system(ctx)
	if err != nil {
		return err
	}
	target, known := bootTargets[o.Device]
	if t := sys.Boot.Targets; o.Device != bmc.BootNone && (!known || len(t) > 0 && !slices.Contains(t, target)) {
		return fmt.Errorf("it does not offer to boot from %s: it offers %s", cmp.Or(target, string(o.Device)), clean(strings.Join(t, ", ")))
	}
	var refused error
	kept := &bmc.ReadBackError{Named: describe(s.ep), What: "boot override", Wanted: o.String()}
	for _, r := range bootRecipes {
		if !r.applies(s.conn.vendor, sys, o) {
			continue
		}
		err := s.writeBoot(ctx, sys, r, o)
		var status *StatusError
		if errors.As(err, &status) && !status.MayBeDone {
			s.client.log().Debug("boot override refused", "node", s.ep.Node, "bmc", s.ep.Address, "written to", r.name, "error", err)
			if refused == nil {
				refused = err
			}
			continue
		}
		if err != nil {
			return err
		}
		kept.Tried = append(kept.Tried, r.name)
		got, after, err := s.awaitBoot(ctx, sys, r, o)
		if err != nil {
			return fmt.Errorf("boot override %s was accepted, then: %w", o, err)
		}
		if got == o {
			return nil
		}
		kept.Got, kept.After = got.String(), after
	}
	if len(kept.Tried) == 0 && refused != nil {
		return refused
	}
	return kept
}

// writeBoot writes the override in one way. The resource may have changed since
// its entity tag was read, which is then read again.
func (s *Session) writeBoot(ctx context.Context, sys systemDoc, r bootRecipe, o bmc.Override) error {
	uri, etag, mode := sys.uri, sys.etag, sys.Boot.Mode
	for again := false; ; again = true {
		if r.settings || again {
			if r.settings {
				uri = sys.Settings.SettingsObject.URI
			}
			now, err := s.systemAt(ctx, uri)
			if err != nil {
				return err
			}
			etag = now.etag
			if mode == "" {
				mode = now.Boot.Mode
			}
		}
		err := s.patch(ctx, uri, etag, patchOf(o, mode != "" && !r.noMode))
		var status *StatusError
		if again || !errors.As(err, &status) || status.Status != 412 {
			return err
		}
	}
}

// patchOf is o as it is written, with its mode where the firmware has modes.
func patchOf(o bmc.Override, withMode bool) bootPatch {
	var p bootPatch
	p.Boot.Enabled, p.Boot.Target = "Disabled", "None"
	if o.Device != bmc.BootNone {
		p.Boot.Enabled, p.Boot.Target = "Once", bootTargets[o.Device]
		if o.Persistent {
			p.Boot.Enabled = "Continuous"
		}
	}
	if withMode {
		p.Boot.Mode = "Legacy"
		if o.EFI || o.Device == bmc.BootNone {
			p.Boot.Mode = "UEFI"
		}
	}
	return p
}

// awaitBoot reads the override back until it is as wanted at two looks in a row,
// or Client.SettleWithin is over. It returns what was read last.
func (s *Session) awaitBoot(ctx context.Context, sys systemDoc, r bootRecipe, o bmc.Override) (bmc.Override, time.Duration, error) {
	within := orDefault(s.client.SettleWithin, DefaultSettleWithin)
	began := time.Now()
	held := 0
	for look := firstLook; ; look = min(2*look, maxLook) {
		got, err := s.readBoot(ctx, sys, r, o)
		if err != nil {
			return got, time.Since(began), err
		}
		if got != o {
			held = 0
		} else if held++; held == 2 {
			return got, time.Since(began), nil
		}
		if held == 0 && time.Since(began) >= within {
			return got, time.Since(began), nil
		}
		if err := sleep(ctx, look); err != nil {
			return got, time.Since(began), err
		}
	}
}

// readBoot reads the override where it was written. Some firmware moves what was
// written to the settings into the system at once.
func (s *Session) readBoot(ctx context.Context, sys systemDoc, r bootRecipe, o bmc.Override) (bmc.Override, error) {
	if o.Device == bmc.BootNone {
		return s.Boot(ctx) // none must be left in either place
	}
	now, err := s.systemAt(ctx, sys.uri)
	if got := now.Boot.override(); err != nil || !r.settings || got == o {
		return got, err
	}
	pending, err := s.systemAt(ctx, sys.Settings.SettingsObject.URI)
	return pending.Boot.override(), err
}
