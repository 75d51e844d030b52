package bmc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/bougou/go-ipmi/pkg/types"
)

// level is the privilege that the session is opened for.
func (ep Endpoint) level() types.PrivilegeLevel {
	if ep.privilege == 0 {
		return types.PrivilegeLevelOperator
	}
	return ep.privilege
}

// oldSessionLook is how long the session that a restart ends is asked whether it
// still lives.
const oldSessionLook = 2 * time.Second

// ResetBMC restarts the BMC itself by Cold Reset (§20.2), which does not touch the
// node's power, leaves it alone for BMCQuiet, and waits up to BMCWithin until it
// lets us in again and tells its device ID. A BMC that still knows the session of
// before did not restart: that is a *ReadBackError. The user must be an
// administrator.
func (c *Client) ResetBMC(ctx context.Context, ep Endpoint) error {
	ep.privilege = types.PrivilegeLevelAdministrator
	err := c.With(ctx, ep, func(s *Session) error { return s.restart(ctx) })
	if err != nil {
		return err
	}
	ep.privilege = 0
	began := time.Now()
	within := c.BMCWithin
	if within <= 0 {
		within = DefaultBMCWithin
	}
	for look := firstLook; ; look = min(2*look, maxLook) {
		err := c.With(ctx, ep, func(s *Session) error {
			_, err := s.wire.call(ctx, request{command: types.CommandGetDeviceID})
			return err
		})
		var refused *AuthError
		switch {
		case err == nil:
			return nil
		case errors.As(err, &refused):
			return err
		case time.Since(began) >= within:
			return fmt.Errorf("restarted, and not back %s later: %w", time.Since(began).Round(time.Second), err)
		}
		if err := pause(ctx, look); err != nil {
			return explain(ep, fmt.Errorf("restarting: %w", err))
		}
	}
}

// restart has the BMC restart and holds that this session dies of it.
func (s *Session) restart(ctx context.Context) error {
	_, err := s.wire.call(ctx, request{command: types.CommandColdReset, once: true})
	var silent *silence
	if err != nil && !(errors.As(err, &silent) && silent.mayBeDone) {
		return err // some go so fast that they do not answer
	}
	quiet := s.client.BMCQuiet
	if quiet <= 0 {
		quiet = DefaultBMCQuiet
	}
	if err := s.wire.sleep(ctx, quiet); err != nil {
		return fmt.Errorf("restarting: %w", err)
	}
	look, cancel := context.WithTimeout(ctx, oldSessionLook)
	defer cancel()
	if _, err := s.wire.call(look, request{command: types.CommandGetDeviceID}); err == nil {
		return &ReadBackError{Named: describe(s.ep), What: "restart", Wanted: "new sessions", Got: "the session of before", After: quiet}
	}
	return ctx.Err()
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
