package redfish

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"firstlight/provision/bmc"
)

// The pause between two looks, which doubles up to its bound.
const (
	firstLook = 100 * time.Millisecond
	maxLook   = 2 * time.Second
)

// Power reads the node's power in a conversation of its own.
func (c *Client) Power(ctx context.Context, ep Endpoint) (state bmc.PowerState, err error) {
	err = c.With(ctx, ep, func(s *Session) error {
		state, err = s.Power(ctx)
		return err
	})
	return state, err
}

// SetPower does action in a conversation of its own; see Session.SetPower.
func (c *Client) SetPower(ctx context.Context, ep Endpoint, action bmc.PowerAction) error {
	return c.With(ctx, ep, func(s *Session) error { return s.SetPower(ctx, action) })
}

// Power reads the node's power. One that is between on and off is waited for.
func (s *Session) Power(ctx context.Context) (bmc.PowerState, error) {
	within := orDefault(s.client.SettleWithin, DefaultSettleWithin)
	began := time.Now()
	for look := firstLook; ; look = min(2*look, maxLook) {
		sys, err := s.system(ctx)
		if err != nil {
			return "", err
		}
		if state := stateOf(sys.PowerState); state != "" {
			return state, nil
		}
		if time.Since(began) >= within {
			return "", fmt.Errorf("its power is %q for %s now, which is neither on nor off", clean(sys.PowerState), time.Since(began).Round(time.Millisecond))
		}
		if err := sleep(ctx, look); err != nil {
			return "", err
		}
	}
}

// stateOf is the state that holds; "" for PoweringOn, PoweringOff, Paused and
// null.
func stateOf(redfish string) bmc.PowerState {
	switch redfish {
	case "On":
		return bmc.PowerOn
	case "Off":
		return bmc.PowerOff
	}
	return ""
}

// SetPower does action and then looks until the state that it leads to was seen
// twice in a row, within Client.PowerWithin or ctx's deadline; else it is a
// *bmc.ReadBackError. Nothing is sent to a node that is on or off as wanted. A cycle
// or a reset that is too quick to be seen passes when the node is on afterwards:
// the proof is its network boot, not this. No action is sent twice: an error
// with MayBeDone leaves the decision to the caller.
func (s *Session) SetPower(ctx context.Context, action bmc.PowerAction) error {
	ways := waysTo(action)
	if ways == nil {
		return fmt.Errorf("unknown power action %q", action)
	}
	want := bmc.PowerOn
	if action == bmc.ActionOff || action == bmc.ActionSoft {
		want = bmc.PowerOff
	}
	before, err := s.Power(ctx)
	if err != nil {
		return err
	}
	switch {
	case before == want && action != bmc.ActionCycle && action != bmc.ActionReset:
		return nil
	case before == bmc.PowerOff && action == bmc.ActionReset:
		return errors.New("the node is off and cannot be reset: turn it on")
	case before == bmc.PowerOff && action == bmc.ActionCycle:
		return s.SetPower(ctx, bmc.ActionOn)
	}
	sys, err := s.system(ctx)
	if err != nil {
		return err
	}
	offered, err := s.offers(ctx, sys.Actions.Reset)
	if err != nil {
		return err
	}
	way := firstOf(ways, offered)
	if way == "" && action == bmc.ActionCycle {
		if err := s.SetPower(ctx, bmc.ActionOff); err != nil {
			return err
		}
		if err := s.SetPower(ctx, bmc.ActionOn); err != nil {
			return fmt.Errorf("turned off for a cycle, and then: %w", err)
		}
		return nil
	}
	switch {
	case way == "":
		return fmt.Errorf("it does not offer power %s: of %s it offers only %s", action, strings.Join(ways, ", "), clean(strings.Join(offered, ", ")))
	case sys.Actions.Reset.Target == "":
		return errors.New("it offers no way to change the node's power (no ComputerSystem.Reset): the account may only read")
	}
	if err := s.post(ctx, sys.Actions.Reset.Target, map[string]string{"ResetType": way}); err != nil {
		return err
	}
	return s.await(ctx, action, want)
}

// firstOf is the first way that is offered; the first of all when the BMC does
// not say what it offers.
func firstOf(ways, offered []string) string {
	if len(offered) == 0 {
		return ways[0]
	}
	for _, way := range ways {
		if slices.Contains(offered, way) {
			return way
		}
	}
	return ""
}

// await looks at the power until it is as wanted at two looks in a row.
func (s *Session) await(ctx context.Context, action bmc.PowerAction, want bmc.PowerState) error {
	within := orDefault(s.client.PowerWithin, DefaultPowerWithin)
	began := time.Now()
	got, held := "", 0
	differs := func() error {
		return &bmc.ReadBackError{Named: describe(s.ep), What: "power", Wanted: string(action), Got: got, After: time.Since(began)}
	}
	for look := firstLook; ; look = min(2*look, maxLook) {
		// Sleep first: the state of the moment of the command proves nothing.
		if err := sleep(ctx, min(look, within)); err != nil {
			if got != "" && errors.Is(err, context.DeadlineExceeded) {
				return differs()
			}
			return err
		}
		sys, err := s.system(ctx)
		if err != nil {
			return afterAccepted(action, err)
		}
		got = strings.ToLower(clean(sys.PowerState))
		if stateOf(sys.PowerState) != want {
			held = 0
		} else if held++; held == 2 {
			return nil
		}
		if time.Since(began) >= within {
			return differs()
		}
	}
}

// afterAccepted marks the error of a look at the power as one that leaves open
// what became of an accepted action.
func afterAccepted(action bmc.PowerAction, err error) error {
	var silent *bmc.NoAnswerError
	var status *StatusError
	switch {
	case errors.As(err, &silent):
		silent.Doing, silent.MayBeDone = silent.Doing+" after power "+string(action)+" was accepted", true
	case errors.As(err, &status):
		status.Doing, status.MayBeDone = status.Doing+" after power "+string(action)+" was accepted", true
	}
	return fmt.Errorf("power %s was accepted, then: %w", action, err)
}
