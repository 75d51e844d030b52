package provision

import (
	"context"
	"time"

	"firstlight/inventory"
	"firstlight/provision/bmc/pacing"
)

// Starts paces nodes that are switched on without being brought up, as a person
// does, by the power-on budgets and the rate of the inventory. No agent calls home
// to it, so that a node counts for its whole settle time.
type Starts struct {
	cluster *inventory.Cluster
	known   Known
	turns   *turns
	settle  time.Duration
}

// NewStarts reads the limits of a cluster. Stop ends it.
func NewStarts(c *inventory.Cluster, now func() time.Time) *Starts {
	return &Starts{cluster: c, known: NewKnown(), turns: newTurns(c, now), settle: settleOf(c)}
}

// Limited reports whether anything is to be paced: a budget or a rate is declared.
func (s *Starts) Limited() bool { return !s.turns.unlimited }

// Settle is how long a node counts after it was switched on.
func (s *Starts) Settle() time.Duration { return s.settle }

// TakeUp takes from the journal which nodes are starting and what nodes have been
// measured to draw, and counts those that were switched on by hand at these times.
func (s *Starts) TakeUp(known Known, byHand map[string]time.Time) {
	s.known = known
	s.turns.takeUp(s.cluster, known, byHand)
}

func (s *Starts) load(n *inventory.Node) pacing.Load {
	return loadOf(s.cluster, n, s.known.Node(n.Name), s.settle)
}

// Ask queues a node, behind those that asked before it, and returns a channel that
// is closed when it is its turn. A node that no budget carries is a *Refused. Send
// or GiveBack follows.
func (s *Starts) Ask(n *inventory.Node) (turn <-chan struct{}, err error) {
	return s.turns.ask(s.load(n))
}

// Send carries out the power action of a node whose turn it is. Whatever becomes
// of it, the node may be starting from then on, unless the error is a *Refused: a
// refused login switches nothing on. Where ctx ends before the action begins, it is
// not called.
func (s *Starts) Send(ctx context.Context, n *inventory.Node, action func() error) error {
	return s.turns.send(ctx, s.load(n), action)
}

// GiveBack gives up the place of a node that nothing was sent to.
func (s *Starts) GiveBack(n *inventory.Node) { s.turns.giveBack(n.Name) }

// Waiting says what a node waits for.
func (s *Starts) Waiting(n *inventory.Node) string { return s.turns.waiting(s.load(n)) }

// Next is when the next of those that wait may be let go, as far as that is known;
// zero when it is not.
func (s *Starts) Next() time.Time {
	s.turns.mu.Lock()
	defer s.turns.mu.Unlock()
	return s.turns.next
}

// Stop ends its timer: nobody is let go after it.
func (s *Starts) Stop() { s.turns.stop() }
