package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"firstlight/inventory"
	"firstlight/provision"
	"firstlight/provision/bmc"
	"firstlight/provision/bmc/redfish"
)

// quietFor is how long a protocol that a BMC did not answer by is not the first
// that it is asked by: each wait for a frozen service costs many seconds.
const quietFor = time.Minute

// pair is a BMC that is declared by two protocols. It is asked by the first; what
// that does not answer it is asked by the second.
type pair struct {
	board     // by the declared protocol
	other     board
	node      string
	protocols [2]string // of board and other
	silences  *silences
}

// pairOf is a node's BMC by both protocols declared for it.
func (b *boards) pairOf(n *inventory.Node) (board, error) {
	first, err := b.by(n, n.BMC)
	if err != nil || n.BMC.Other == nil {
		return first, err
	}
	second, err := b.by(n, n.BMC.Other)
	if err != nil {
		return nil, err
	}
	p := pair{board: first, other: second, node: n.Name, protocols: [2]string{n.BMC.Protocol, n.BMC.Other.Protocol}, silences: b.silences}
	if b.swapped {
		p.board, p.other = second, first
		p.protocols[0], p.protocols[1] = p.protocols[1], p.protocols[0]
	}
	return p, nil
}

// byOther is the same BMCs, those that are declared by two protocols asked by the
// second first.
func (b *boards) byOther() *boards {
	other := *b
	other.swapped = true
	return &other
}

// notReached says that a protocol was no way to reach the BMC: nothing was asked
// of it that may have been done. A refused login or another certificate is an
// answer.
func notReached(err error) bool {
	var silent *bmc.NoAnswerError
	var status *redfish.StatusError
	switch {
	case err == nil || bmc.MayBeDone(err) || refusedLogin(err):
		return false
	case errors.As(err, &status):
		return status.Status >= 500
	}
	return errors.As(err, &silent) || errors.Is(err, context.DeadlineExceeded)
}

// firstByIPMI is the endpoint of a BMC that is asked by IPMI first.
func firstByIPMI(b board) (bmc.Endpoint, bool) {
	if p, ok := b.(pair); ok {
		b = p.board
	}
	ipmi, ok := b.(boardOf[bmc.Endpoint, *bmc.Session])
	return ipmi.ep, ok
}

// second is a node's BMC after it did not answer by its first protocol; nil: it
// did, or there is no other.
func (b *boards) second(n *inventory.Node, err error) board {
	if !notReached(err) || n.BMC.Other == nil {
		return nil
	}
	b.silences.heard(n.Name, n.BMC.Protocol, err)
	p, err := b.pairOf(n)
	if err != nil {
		return nil // of the two credentials one is not set, which was said before
	}
	return p
}

// ask asks by one protocol, and by the other where that is not answered. The
// first gets half the time that there is where halve is set. A protocol that was
// not answered a moment ago is not asked by again while the other is.
func (p pair) ask(ctx context.Context, halve bool, f func(context.Context, board) error) error {
	before := p.silences.last(p.node, p.protocols[0])
	if before == nil || p.silences.last(p.node, p.protocols[1]) != nil {
		first, cancel := ctx, func() {}
		if end, ok := ctx.Deadline(); ok && halve {
			first, cancel = context.WithTimeout(ctx, time.Until(end)/2)
		}
		before = f(first, p.board)
		cancel()
		if !notReached(before) || ctx.Err() != nil {
			p.silences.forget(p.node, p.protocols[0])
			return before
		}
		p.silences.heard(p.node, p.protocols[0], before)
	}
	err := f(ctx, p.other)
	switch {
	case err == nil:
		p.silences.forget(p.node, p.protocols[1])
		return nil
	case notReached(err):
		p.silences.heard(p.node, p.protocols[1], err)
	}
	// The second comes first: whether an action may have been done is asked of the
	// last attempt at it.
	return fmt.Errorf("by %s: %w; by %s: %w", p.protocols[1], err, p.protocols[0], before)
}

// detour says by which protocol the BMC is asked instead of the declared one, and
// why; "" when it is not.
func (p pair) detour() string {
	if err := p.silences.last(p.node, p.protocols[0]); err != nil {
		return fmt.Sprintf("asked by %s instead of %s: %v", p.protocols[1], p.protocols[0], err)
	}
	return ""
}

// Look implements board.
func (p pair) Look(ctx context.Context) (id provision.BMCIdentity, power string, err error) {
	err = p.ask(ctx, true, func(ctx context.Context, b board) (err error) {
		id, power, err = b.Look(ctx)
		return err
	})
	if err == nil {
		id.Detour = p.detour()
	}
	return id, power, err
}

// Power implements board.
func (p pair) Power(ctx context.Context) (power string, err error) {
	err = p.ask(ctx, true, func(ctx context.Context, b board) (err error) {
		power, err = b.Power(ctx)
		return err
	})
	return power, err
}

// SetPower implements board.
func (p pair) SetPower(ctx context.Context, op string) error {
	return p.ask(ctx, false, func(ctx context.Context, b board) error { return b.SetPower(ctx, op) })
}

// SetBootPXE implements board.
func (p pair) SetBootPXE(ctx context.Context, persistent bool) error {
	return p.ask(ctx, false, func(ctx context.Context, b board) error { return b.SetBootPXE(ctx, persistent) })
}

// ResetBMC implements board. Where the BMC cannot be restarted by one protocol it
// is by the other: to be restarted twice does it no harm.
func (p pair) ResetBMC(ctx context.Context) error {
	err := p.board.ResetBMC(ctx)
	if err == nil || refusedLogin(err) || ctx.Err() != nil {
		return err
	}
	if second := p.other.ResetBMC(ctx); second != nil {
		return fmt.Errorf("by %s: %w; by %s: %w", p.protocols[0], err, p.protocols[1], second)
	}
	return nil
}

// silences remember which BMCs did not answer by which protocol.
type silences struct {
	log *slog.Logger

	mu    sync.Mutex
	known map[[2]string]silence // by node and protocol
}

type silence struct {
	at  time.Time
	err error
}

func (s *silences) heard(node, protocol string, err error) {
	if s.log != nil {
		s.log.Warn("bmc did not answer by one of its protocols", "node", node, "protocol", protocol, "error", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known == nil {
		s.known = map[[2]string]silence{}
	}
	s.known[[2]string{node, protocol}] = silence{time.Now(), err}
}

// last is the error of a silence that is not long ago, or nil.
func (s *silences) last(node, protocol string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, ok := s.known[[2]string{node, protocol}]
	if !ok || time.Since(k.at) > quietFor {
		return nil
	}
	return k.err
}

func (s *silences) forget(node, protocol string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.known, [2]string{node, protocol})
}
