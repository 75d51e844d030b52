package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"firstlight/inventory"
	"firstlight/provision"
)

// interruptedError is what Ctrl-C leaves of a node.
type interruptedError struct{ sent bool }

func (e *interruptedError) Error() string {
	if e.sent {
		return "interrupted while it was being switched on: look at its power before you repeat it"
	}
	return "interrupted before it was its turn: nothing was sent to it"
}

// powerTurns switches nodes on within the power-on budgets and the rate.
type powerTurns struct {
	boards *boards
	starts *provision.Starts
	notes  string // directory of who was switched on
	op     string // "on" or "cycle"
	slots  chan struct{}
	shown  *counter

	mu      sync.Mutex
	waiting map[string]*inventory.Node
	changed chan struct{} // holds one value when waiting has changed
}

// startsOf is the limits that an operation is held to; nil when there are none.
func (s *site) startsOf(ctx context.Context, op string) (*provision.Starts, error) {
	if op != "on" && op != "cycle" {
		return nil, nil
	}
	starts := provision.NewStarts(s.Cluster, time.Now)
	if !starts.Limited() {
		return nil, nil
	}
	known, err := s.known(ctx)
	if err != nil {
		return nil, err
	}
	byHand, err := s.switchedOn()
	if err != nil {
		return nil, err
	}
	starts.TakeUp(known, byHand)
	return starts, nil
}

// handDir holds an empty file for each node that was switched on by hand where
// limits are declared: its time is that of the power action. A file for each, so
// that commands that run at the same time do not write the same one.
const handDir = "switched-on"

// switchedOn is when nodes were switched on by hand, each the last time.
func (s *site) switchedOn() (map[string]time.Time, error) {
	entries, err := os.ReadDir(s.path(handDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	out := map[string]time.Time{}
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			out[e.Name()] = info.ModTime()
		}
	}
	return out, nil
}

// powerInTurn switches nodes on, each when it is its turn, in their order. All are
// asked for their power first: one that is on is not switched on and draws nothing
// more, and one whose BMC is silent keeps nobody waiting.
func (s *site) powerInTurn(ctx context.Context, boards *boards, starts *provision.Starts, nodes []*inventory.Node, op string, concurrency int, shown *counter) ([]powerRow, error) {
	defer starts.Stop()
	notes, err := s.mkdir(handDir)
	if err != nil {
		return nil, err
	}
	rows := powerAll(ctx, boards, nodes, "status", concurrency, nil)
	w := &powerTurns{boards: boards, starts: starts, notes: notes, op: op, slots: make(chan struct{}, max(concurrency, 1)), shown: shown,
		waiting: map[string]*inventory.Node{}, changed: make(chan struct{}, 1)}
	var wg sync.WaitGroup
	for i, n := range nodes {
		r := &rows[i]
		r.shown = shown
		switch {
		case r.err != nil && errors.Is(r.err, context.Canceled):
			r.set("", 0, &interruptedError{})
			continue
		case r.err != nil || op == "on" && r.Power == "on":
			shown.answered(r.group().kind)
			continue
		}
		turn, err := starts.Ask(n)
		if err != nil {
			r.set("", 0, err)
			continue
		}
		select {
		case <-turn:
		default:
			w.waits(n, true)
		}
		wg.Go(func() { w.switchOn(ctx, n, r, turn) })
	}
	over := make(chan struct{})
	var said sync.WaitGroup
	said.Go(func() { w.tell(over) })
	wg.Wait()
	close(over)
	said.Wait()
	return rows, nil
}

// switchOn switches one node on when it is its turn.
func (w *powerTurns) switchOn(ctx context.Context, n *inventory.Node, r *powerRow, turn <-chan struct{}) {
	select {
	case <-turn:
	case <-ctx.Done():
	}
	w.waits(n, false)
	select {
	case w.slots <- struct{}{}:
		defer func() { <-w.slots }()
	case <-ctx.Done():
	}
	if ctx.Err() != nil {
		w.starts.GiveBack(n)
		r.set("", 0, &interruptedError{})
		return
	}
	b, err := w.boards.of(n)
	if err != nil {
		w.starts.GiveBack(n)
		r.set("", 0, err)
		return
	}
	defer w.boards.leave(n)
	began, power := time.Now(), ""
	err = error(&interruptedError{}) // unless it is sent
	_ = w.starts.Send(ctx, n, func() error {
		if err = os.WriteFile(filepath.Join(w.notes, n.Name), nil, 0o600); err != nil {
			return &provision.Refused{Reason: err.Error()} // others would not know of it
		}
		if power, err = powerOne(ctx, b, w.op); errors.Is(err, context.Canceled) {
			err = &interruptedError{sent: true}
		}
		return final(err)
	})
	if p, ok := b.(pair); ok && err == nil {
		r.Detour = p.detour()
	}
	r.set(power, time.Since(began), err)
}

// waits counts a node among those that wait, or no longer.
func (w *powerTurns) waits(n *inventory.Node, yes bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, was := w.waiting[n.Name]; was == yes {
		return
	}
	if yes {
		w.waiting[n.Name] = n
	} else {
		delete(w.waiting, n.Name)
	}
	select {
	case w.changed <- struct{}{}:
	default: // it will be told together with what has changed before
	}
}

// tell says what nodes wait for whenever that has changed, but not more often than
// a person reads.
func (w *powerTurns) tell(over <-chan struct{}) {
	const every = 5 * time.Second
	first := true
	for {
		select {
		case <-w.changed:
		case <-over:
			return
		}
		if lines := w.lines(); len(lines) > 0 {
			if first {
				first = false
				w.shown.say(fmt.Sprintf("A node that was switched on counts for %s against power-on budgets (controller.power_on_settle).", w.starts.Settle()))
			}
			for _, l := range lines {
				w.shown.say(l)
			}
		}
		select {
		case <-time.After(every):
		case <-over:
			return
		}
	}
}

// lines are as "n[4-8] wait: rack a01 30.6kW of 31kW starting".
func (w *powerTurns) lines() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	waits := map[string][]string{}
	for name, n := range w.waiting {
		what := w.starts.Waiting(n)
		waits[what] = append(waits[what], name)
	}
	var out []string
	for _, what := range slices.Sorted(maps.Keys(waits)) {
		names := waits[what]
		out = append(out, fmt.Sprintf("%s %s: %s", inventory.Fold(names), plural(len(names), "waits", "wait"), what))
	}
	if next := w.starts.Next(); len(out) > 0 && !next.IsZero() {
		out[len(out)-1] += fmt.Sprintf("; the next in about %s", brief(max(0, time.Until(next))))
	}
	return out
}
