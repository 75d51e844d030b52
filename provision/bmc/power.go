package bmc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/bougou/go-ipmi/pkg/types"
)

// PowerState is the power of a node as its BMC reports it.
type PowerState string

// Power states.
const (
	PowerOn  PowerState = "on"
	PowerOff PowerState = "off"
)

// PowerAction is something to do to a node's power.
type PowerAction string

// Power actions.
const (
	ActionOn    PowerAction = "on"
	ActionOff   PowerAction = "off"   // at once
	ActionSoft  PowerAction = "soft"  // the operating system shuts down
	ActionCycle PowerAction = "cycle" // off and on again; turns on what is off
	ActionReset PowerAction = "reset" // restart without loss of power; the node must be on
)

// The pause between two looks at the power, which doubles up to its bound.
const (
	firstLook = 100 * time.Millisecond
	maxLook   = 2 * time.Second
)

// chassisControl is the action's code (§28.3) and the state it leads to.
func (a PowerAction) chassisControl() (code byte, want PowerState, ok bool) {
	switch a {
	case ActionOff:
		return 0, PowerOff, true
	case ActionOn:
		return 1, PowerOn, true
	case ActionCycle:
		return 2, PowerOn, true
	case ActionReset:
		return 3, PowerOn, true
	case ActionSoft:
		return 5, PowerOff, true
	}
	return 0, "", false
}

// Power reads the node's power in a session of its own.
func (c *Client) Power(ctx context.Context, ep Endpoint) (state PowerState, err error) {
	err = c.With(ctx, ep, func(s *Session) error {
		state, err = s.Power(ctx)
		return err
	})
	return state, err
}

// SetPower does action in a session of its own; see Session.SetPower.
func (c *Client) SetPower(ctx context.Context, ep Endpoint, action PowerAction) error {
	return c.With(ctx, ep, func(s *Session) error { return s.SetPower(ctx, action) })
}

// Power reads the node's power (§28.2).
func (s *Session) Power(ctx context.Context) (PowerState, error) {
	data, err := s.wire.call(ctx, request{command: types.CommandGetChassisStatus})
	return powerState(data, err)
}

var errNoStatus = errors.New("get chassis status: empty reply")

// SetPower does action and then looks until the state that it leads to is
// reported, within Client.PowerWithin or ctx's deadline; else it is a
// *ReadBackError. Nothing is sent to a node that is on or off as wanted. A cycle
// or a reset that is too quick to be seen passes when the node is on afterwards:
// the proof is its network boot, not this. Cycle, reset and soft are never sent
// twice: a *NoAnswerError with MayBeDone leaves the decision to the caller.
func (s *Session) SetPower(ctx context.Context, action PowerAction) error {
	code, want, ok := action.chassisControl()
	if !ok {
		return fmt.Errorf("unknown power action %q", action)
	}
	before, err := s.Power(ctx)
	if err != nil {
		return err
	}
	switch {
	case before == want && action != ActionCycle && action != ActionReset:
		return nil
	case before == PowerOff && action == ActionReset:
		return errors.New("the node is off and cannot be reset: turn it on")
	case before == PowerOff && action == ActionCycle:
		code = 1
	}
	// On and off may reach the BMC twice without harm.
	once := code != 0 && code != 1
	if _, err := s.wire.call(ctx, request{command: types.CommandChassisControl, data: []byte{code}, once: once}); err != nil {
		return err
	}
	return s.await(ctx, action, want)
}

// await looks at the power until it is as wanted.
func (s *Session) await(ctx context.Context, action PowerAction, want PowerState) error {
	within := s.client.PowerWithin
	if within <= 0 {
		within = DefaultPowerWithin
	}
	began := time.Now()
	var got PowerState
	for look := firstLook; ; look = min(2*look, maxLook) {
		// Sleep first: the state of the moment of the command proves nothing.
		if err := s.wire.sleep(ctx, min(look, within)); err != nil {
			if got != "" && errors.Is(err, context.DeadlineExceeded) {
				return s.powerDiffers(action, got, time.Since(began))
			}
			return err
		}
		var err error
		if got, err = s.Power(ctx); err != nil {
			var silent *silence
			if errors.As(err, &silent) {
				silent.doing, silent.mayBeDone = "Get Chassis Status after power "+string(action)+" was accepted", true
			}
			return fmt.Errorf("power %s was accepted, then: %w", action, err)
		}
		if got == want {
			return nil
		}
		if time.Since(began) >= within {
			return s.powerDiffers(action, got, time.Since(began))
		}
	}
}

func (s *Session) powerDiffers(action PowerAction, got PowerState, after time.Duration) error {
	return &ReadBackError{Named: describe(s.ep), What: "power", Wanted: string(action), Got: string(got), After: after}
}
