package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"firstlight/inventory"
	"firstlight/provision"
	"firstlight/provision/bmc"
	"firstlight/provision/bmc/redfish"
)

const (
	// outletsOff is how long outlets stay off: power supplies bridge a second, and
	// some BMCs live on for several.
	outletsOff = 10 * time.Second
	// outletsBack bounds switching on what was switched off, whatever has become of
	// the command by then.
	outletsBack = 2 * time.Minute
)

// CycleOutlets implements provision.Recovery.
func (b *boards) CycleOutlets(ctx context.Context, n *inventory.Node, takeUp bool) error {
	eps := make([]redfish.Endpoint, len(n.Outlets))
	for i, o := range n.Outlets {
		var err error
		if eps[i], err = b.pdu(n, o); err != nil {
			return err
		}
		defer b.redfish.Forget(eps[i])
	}
	off := 0 // outlets, from the first on, that are off or may be
	var err error
	if takeUp {
		off = len(eps) // those that are on are left so
	}
	for ; off < len(eps) && err == nil; off++ {
		err = b.redfish.SetOutlet(ctx, eps[off], n.Outlets[off].ID, false)
	}
	if err == nil && !takeUp {
		err = pause(ctx, min(outletsOff, b.cluster.Settings.BMCRestart))
	}
	// A node must not be left without power by Ctrl-C, nor by a PDU of its two
	// that does not obey.
	back, cancel := context.WithTimeout(context.WithoutCancel(ctx), outletsBack)
	defer cancel()
	for i := range off {
		switch failed := b.redfish.SetOutlet(back, eps[i], n.Outlets[i].ID, true); {
		case failed == nil:
		case err == nil:
			err = failed
		case failed.Error() != err.Error():
			err = fmt.Errorf("%w; and outlet %s was not switched on again: %w", err, n.Outlets[i], failed)
		}
	}
	if err != nil {
		return err // also a refused login: it is the PDU's, and the rung is taken once
	}
	return b.awaitBMC(ctx, n)
}

// awaitBMC waits until a BMC that has got its power back answers.
func (b *boards) awaitBMC(ctx context.Context, n *inventory.Node) error {
	if err := pause(ctx, b.cluster.Settings.BMCRestart); err != nil {
		return err
	}
	for began := time.Now(); ; {
		_, err := b.Power(ctx, n)
		var refused *provision.Refused
		switch {
		case err == nil, errors.As(err, &refused):
			return err
		case time.Since(began) >= bmc.DefaultBMCWithin:
			return fmt.Errorf("has its power back, and does not answer %s later: %w", time.Since(began).Round(time.Second), err)
		}
		if err := pause(ctx, time.Second); err != nil {
			return err
		}
	}
}

// pdu is where an outlet of a node is switched.
func (b *boards) pdu(n *inventory.Node, o inventory.Outlet) (redfish.Endpoint, error) {
	at, c := b.cluster.DeclaredAt(o.PDU.Range), o.PDU.Credential
	if c == nil {
		return redfish.Endpoint{}, fmt.Errorf("pdu %s (%s) has no credential", o.PDU.Name, at)
	}
	password, err := b.credentials.declared.Password(c)
	if err != nil {
		return redfish.Endpoint{}, fmt.Errorf("pdu %s (%s): %w", o.PDU.Name, at, err)
	}
	return redfish.Endpoint{Node: n.Name, PDU: o.PDU.Name, Address: netip.AddrPortFrom(o.PDU.Address, uint16(o.PDU.Port)),
		Username: c.Username, Password: password, DeclaredAt: at}, nil
}

// pause waits for d, or less when ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
