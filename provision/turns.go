package provision

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"firstlight/inventory"
	"firstlight/provision/bmc/pacing"
)

// turns lets nodes be switched on when the power-on budgets and the rate have
// room. A node counts from the moment it is let go until its agent calls home,
// or for its settle time.
type turns struct {
	now       func() time.Time
	unlimited bool

	mu       sync.Mutex
	sched    *pacing.Scheduler
	asked    map[string]chan struct{} // closed when it is the node's turn
	has      map[string]turnOf        // those that asked and whose power action has not been sent
	again    *time.Timer              // asks the scheduler again
	interval time.Duration            // least time between two power actions
	sent     time.Time                // when the last one is sent
	next     time.Time                // when the next of those that wait may be let go at the latest; zero: nobody knows
}

// turnOf is how it stands with a node that asked.
type turnOf struct {
	come  bool // it is its turn
	fresh bool // it was not starting already
}

func newTurns(c *inventory.Cluster, now func() time.Time) *turns {
	limits, rate := circuits(c), c.Settings.PowerOnRate
	t := &turns{now: now, unlimited: len(limits) == 0 && rate == 0, sched: pacing.New(limits, rate),
		asked: map[string]chan struct{}{}, has: map[string]turnOf{}}
	if rate > 0 {
		t.interval = time.Duration(float64(time.Second) / rate)
	}
	return t
}

// notYet says that a node must wait for its turn before it is switched on.
type notYet struct{ load pacing.Load }

func (e *notYet) Error() string { return e.load.Node + " waits for its turn to be switched on" }

// due is nil when it is the node's turn to be switched on, a *notYet when it has
// to wait for that, and a *Refused when it never will be.
func (t *turns) due(l pacing.Load) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.unlimited || t.has[l.Node].come {
		return nil
	}
	if err := t.sched.Never(l); err != nil {
		return &Refused{Reason: fmt.Sprintf("was not switched on: %v", err)}
	}
	return &notYet{load: l}
}

// expect keeps a place for a node that the plan switches on, in the plan's order.
func (t *turns) expect(l pacing.Load) {
	t.mu.Lock()
	defer t.mu.Unlock()
	_ = t.sched.Expect(l) // one that can never be switched on is told so by due
}

// began counts a node that a controller before this one switched on.
func (t *turns) began(l pacing.Load, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sched.Began(l, at)
}

// ask queues a node, and returns a channel that is closed when it is its turn.
func (t *turns) ask(l pacing.Load) (turn <-chan struct{}, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.sched.Ask(l); err != nil {
		return nil, &Refused{Reason: fmt.Sprintf("was not switched on: %v", err)}
	}
	mine := make(chan struct{})
	t.asked[l.Node] = mine
	t.has[l.Node] = turnOf{fresh: !t.sched.Starting(l.Node, t.now())}
	t.admit()
	return mine, nil
}

// send sends a node's power action. From now on the node may be starting,
// whatever the BMC answers.
func (t *turns) send(ctx context.Context, l pacing.Load, action func() error) error {
	if t.unlimited {
		return action()
	}
	t.mu.Lock()
	at := t.now()
	if next := t.sent.Add(t.interval); at.Before(next) {
		at = next // it was let go in time, and its BMC was faster than the one before
	}
	t.sent = at
	t.sched.Began(l, at)
	delete(t.has, l.Node)
	t.mu.Unlock()
	if !sleep(ctx, at.Sub(t.now())) {
		t.settled(l.Node)
		return ctx.Err()
	}
	err := action()
	if refused := (*Refused)(nil); errors.As(err, &refused) {
		t.settled(l.Node) // a refused login switches nothing on
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.sched.Starting(l.Node, t.now()) {
		t.sched.Began(l, t.now()) // a cycle switches it on only at its end
	}
	return err
}

// giveBack gives up the place of a node whose power action was not sent: it has
// failed before, or needed none.
func (t *turns) giveBack(node string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sched.Leave(node)
	delete(t.asked, node)
	if turn := t.has[node]; turn.come && turn.fresh {
		t.sched.Settled(node)
	}
	delete(t.has, node)
	t.admit()
}

// settled says that a node has started, or is known not to start.
func (t *turns) settled(node string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sched.Leave(node)
	t.sched.Settled(node)
	t.admit()
}

// admit lets go whom the scheduler lets. t.mu is held.
func (t *turns) admit() {
	nodes, next := t.sched.Admit(t.now())
	t.next = next
	for _, n := range nodes {
		turn := t.has[n]
		turn.come = true
		t.has[n] = turn
		close(t.asked[n])
		delete(t.asked, n)
	}
	if t.again != nil {
		t.again.Stop()
		t.again = nil
	}
	if !next.IsZero() && len(t.asked) > 0 {
		t.again = time.AfterFunc(next.Sub(t.now()), func() {
			t.mu.Lock()
			defer t.mu.Unlock()
			t.admit()
		})
	}
}

// stop ends the timer.
func (t *turns) stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.asked)
	if t.again != nil {
		t.again.Stop()
	}
}

// waiting says what a node waits for: the circuits without room for it, or, where
// all have room, those that come before it.
func (t *turns) waiting(l pacing.Load) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var all, full []string
	for _, d := range t.sched.Waiting(l.Node) {
		text := fmt.Sprintf("%s %s of %s starting", d.Circuit, kilowatts(d.Watts), kilowatts(d.Budget))
		all = append(all, text)
		if d.Watts+l.Watts > d.Budget {
			full = append(full, text)
		}
	}
	if full != nil {
		return strings.Join(full, ", ")
	}
	what := "the nodes before it"
	if all != nil {
		what += " (" + strings.Join(all, ", ") + ")"
	}
	if t.interval > 0 {
		what += fmt.Sprintf(", at %.3g a second", 1/t.interval.Seconds())
	}
	return what
}

func kilowatts(watts int64) string {
	return strconv.FormatFloat(float64(watts)/1000, 'f', -1, 64) + "kW"
}

// loadFor is what a node is to the budgets while it boots.
func (e *Engine) loadFor(n *inventory.Node) pacing.Load {
	return loadOf(e.Want.Cluster, n, e.node(n.Name), settleOf(e.Want.Cluster))
}

// settleOf is how long a node counts as starting unless its agent calls home.
func settleOf(c *inventory.Cluster) time.Duration {
	if settle := c.Settings.PowerOnSettle; settle > 0 {
		return settle
	}
	return max(deadlineFor(c, Enrolled), deadlineFor(c, Provisioned))
}

// startingFrom is since when a node counts as starting by what the journal says,
// for a controller that takes up what another one left.
func startingFrom(k Node, now time.Time) (since time.Time, starting bool) {
	b := k.Boot
	if c := k.Climb; c.begun(RungOutlet) && (b == nil || b.Ordered.Before(c.At)) {
		// Its outlets were switched, and it may have turned on by that.
		if c.Ended.IsZero() {
			return now, true
		}
		return c.Ended, true
	}
	switch {
	case b == nil || b.Home != nil || b.Via != viaPowerOn && b.Via != viaPowerCycle:
		return since, false
	case !b.Powered.IsZero():
		return b.Powered, true
	case k.Active:
		// It was announced; the action may have been sent up to the moment at which
		// the controller stopped.
		return now, true
	}
	// It came to rest without a confirmed action: after the override was set it
	// may have been sent.
	return k.Since, !b.Set.IsZero()
}

// takeUpTurns counts the nodes that are starting by what the journal says.
func (e *Engine) takeUpTurns() {
	e.turns = newTurns(e.Want.Cluster, e.Now)
	e.turns.takeUp(e.Want.Cluster, e.known, e.SwitchedOn)
}

// takeUp counts who is starting by the journal, and who was switched on by hand.
func (t *turns) takeUp(c *inventory.Cluster, known Known, byHand map[string]time.Time) {
	for _, n := range c.Nodes {
		k := known.Node(n.Name)
		at, starting := startingFrom(k, t.now())
		if hand, ok := byHand[n.Name]; ok && hand.After(at) && (k.Boot == nil || k.Boot.HomeAt.Before(hand)) {
			at, starting = hand, true
		}
		if starting {
			t.began(loadOf(c, n, k, settleOf(c)), at)
		}
	}
}

// inTurn takes the node's rung and runs an activity, which waits for its turn where
// it switches the node on: outside its deadline, and without its place among the
// nodes at work. late is true when the deadline ended it.
func (e *Engine) inTurn(ctx context.Context, n *inventory.Node, act Action) (ev PassedData, late bool, err error) {
	if err := e.climb(ctx, n, act); err != nil {
		e.turns.giveBack(n.Name)
		return ev, false, err
	}
	for {
		actx, cancel := context.WithTimeout(ctx, e.allowed(n, act.Proof))
		ev, err = e.perform(actx, n, act)
		late = actx.Err() != nil
		cancel()
		var wait *notYet
		if !errors.As(err, &wait) {
			if err != nil || act.Do == Boot || act.Do == BootImage {
				e.turns.giveBack(n.Name)
			}
			return ev, late, err
		}
		if err := e.awaitTurn(ctx, wait.load); err != nil {
			return ev, false, err
		}
	}
}

func (e *Engine) awaitTurn(ctx context.Context, l pacing.Load) error {
	<-e.slots
	defer func() { e.slots <- struct{}{} }() // those at work end with ctx
	turn, err := e.turns.ask(l)
	if err != nil {
		return err
	}
	return e.awaitPlace(ctx, l, turn)
}

// awaitPlace waits for a turn that was asked for. A wait is journalled, for whoever
// asks why the node stands still.
func (e *Engine) awaitPlace(ctx context.Context, l pacing.Load, turn <-chan struct{}) error {
	select {
	case <-turn:
		return nil
	default:
	}
	what := e.turns.waiting(l)
	e.Log.Info("waits to be switched on", "node", l.Node, "for", what)
	if err := e.recordOne(ctx, l.Node, EventWaits, WaitsData{For: what}); err != nil {
		e.turns.giveBack(l.Node)
		return err
	}
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
		e.turns.giveBack(l.Node)
		return ctx.Err()
	}
}
