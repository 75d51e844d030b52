// Package pacing decides when machines may be switched on, so that those that
// are starting never draw more together than the breakers above them carry.
// From being switched on until its system runs, a machine draws its inrush
// current and then what a self test with every fan at full speed does; a rack
// that carries all of its machines at work can trip when all of them start.
//
// It is pure: it has no clock and starts nothing. Who switches machines on asks
// for each, is told when it may, and says when it has started.
package pacing

import (
	"container/heap"
	"fmt"
	"slices"
	"sort"
	"time"
)

// Circuit is what one breaker protects.
type Circuit struct {
	Name  string // as a person is told: "rack a01", "feed west"
	Watts int64  // that machines on it may draw together while they start
}

// Load is one machine to be switched on.
type Load struct {
	Node     string
	Watts    int64         // that it draws while it starts
	Circuits []string      // that feed it, by name, the narrowest first; those without a limit do not matter
	Settle   time.Duration // after this it counts as started, also when nobody has said so
}

// Scheduler keeps the limits. Its methods take the time, which never runs
// backwards. It is not safe for use by several goroutines.
//
// Of the machines that wait, those asked for first go first; a later one goes
// ahead only where it takes nothing that an earlier one waits for. So each is
// switched on at last, however many come after it.
type Scheduler struct {
	circuits map[string]Circuit
	interval time.Duration // least time between two; 0: none
	last     time.Time     // when a machine was switched on last
	drawn    map[string]int64
	starting map[string]start
	queues   map[string][]*waiter // by the circuits they need: only the first of each can be next
	queued   map[string]string    // by machine, its queue
	asked    int
}

// start is a machine that has been switched on and is not known to run.
type start struct {
	load  Load
	until time.Time
}

// waiter is a machine that was asked for.
type waiter struct {
	load Load
	turn int
	// barred are circuits that had no room for it: none of those asked for
	// after it are switched on there, so that the room it waits for comes.
	barred []string
}

// New returns a scheduler for circuits and a limit of machines per second; 0 is
// no such limit.
func New(circuits []Circuit, perSecond float64) *Scheduler {
	s := &Scheduler{circuits: map[string]Circuit{}, drawn: map[string]int64{}, starting: map[string]start{}, queues: map[string][]*waiter{},
		queued: map[string]string{}}
	for _, c := range circuits {
		s.circuits[c.Name] = c
	}
	if perSecond > 0 {
		s.interval = time.Duration(float64(time.Second) / perSecond)
	}
	return s
}

// Never says why a machine can never be switched on; nil when it can.
func (s *Scheduler) Never(l Load) error {
	for _, name := range l.Circuits {
		c, limited := s.circuits[name]
		switch {
		case !limited:
		case l.Watts <= 0:
			return fmt.Errorf("nothing says how much %s draws, and %s has a budget of %d W for machines that start", l.Node, c.Name, c.Watts)
		case l.Watts > c.Watts:
			return fmt.Errorf("%s draws %d W, which is more than the %d W that %s has for machines that start", l.Node, l.Watts, c.Watts, c.Name)
		}
	}
	return nil
}

// Ask puts a machine in the queue. One that waits already keeps its place. The
// error is Never's.
func (s *Scheduler) Ask(l Load) error {
	if err := s.Never(l); err != nil {
		return err
	}
	if _, queued := s.queued[l.Node]; queued {
		return nil
	}
	l.Circuits = s.limited(l.Circuits)
	key := fmt.Sprintf("%q", l.Circuits)
	if _, again := s.starting[l.Node]; again {
		key = ownPlace
	}
	s.asked++
	s.queues[key] = append(s.queues[key], &waiter{load: l, turn: s.asked})
	s.queued[l.Node] = key
	return nil
}

// ownPlace is the queue of those that start again while they count as starting:
// what they draw is counted already, so they wait for nobody.
const ownPlace = "own place"

// limited leaves out what has no limit, and what is named twice.
func (s *Scheduler) limited(circuits []string) []string {
	var out []string
	for _, c := range circuits {
		if _, ok := s.circuits[c]; ok && !slices.Contains(out, c) {
			out = append(out, c)
		}
	}
	return out
}

// Leave takes a machine out of the queue.
func (s *Scheduler) Leave(node string) {
	key, queued := s.queued[node]
	if !queued {
		return
	}
	i := slices.IndexFunc(s.queues[key], func(w *waiter) bool { return w.load.Node == node })
	s.queues[key] = slices.Delete(s.queues[key], i, i+1)
	s.left(node, key)
}

// left forgets a machine that is no longer in its queue.
func (s *Scheduler) left(node, key string) {
	delete(s.queued, node)
	if len(s.queues[key]) == 0 {
		delete(s.queues, key)
	}
}

// Began counts a machine that was switched on at that time without having been
// asked for here, as by a controller that is gone.
func (s *Scheduler) Began(l Load, at time.Time) {
	s.begin(l, at)
	if at.After(s.last) {
		s.last = at
	}
}

// Settled says that a machine has started, or that it has lost its power: it no
// longer counts.
func (s *Scheduler) Settled(node string) {
	st, ok := s.starting[node]
	if !ok {
		return
	}
	delete(s.starting, node)
	for _, c := range st.load.Circuits {
		s.drawn[c] -= st.load.Watts
	}
}

// Starting reports whether a machine counts as starting at that time.
func (s *Scheduler) Starting(node string, now time.Time) bool {
	st, ok := s.starting[node]
	return ok && now.Before(st.until)
}

// begin counts a machine once, however often it is switched on: its last start
// holds.
func (s *Scheduler) begin(l Load, at time.Time) {
	l.Circuits = s.limited(l.Circuits)
	s.Settled(l.Node)
	s.starting[l.Node] = start{load: l, until: at.Add(l.Settle)}
	for _, c := range l.Circuits {
		s.drawn[c] += l.Watts
	}
}

// Admit returns the machines to be switched on now, which count from now on,
// and the time at which to ask again if nothing else happens before; zero when
// only a Settled can let another one in.
func (s *Scheduler) Admit(now time.Time) (nodes []string, next time.Time) {
	for node, st := range s.starting {
		if !now.Before(st.until) {
			s.Settled(node)
		}
	}
	closed := map[string]bool{}
	for h := s.heads(); h.Len() > 0; {
		if s.interval > 0 && !s.last.IsZero() && now.Before(s.last.Add(s.interval)) {
			next = s.last.Add(s.interval)
			break
		}
		key := (*h)[0].key
		w := s.queues[key][0]
		if !s.fits(w, closed) {
			for _, c := range w.barred {
				closed[c] = true
			}
			heap.Pop(h)
			continue
		}
		nodes = append(nodes, w.load.Node)
		s.begin(w.load, now)
		s.last = now
		s.queues[key] = s.queues[key][1:]
		if len(s.queues[key]) > 0 {
			(*h)[0].turn = s.queues[key][0].turn
			heap.Fix(h, 0)
		} else {
			heap.Pop(h)
		}
		s.left(w.load.Node, key)
	}
	if len(s.queues) > 0 {
		for _, st := range s.starting {
			if next.IsZero() || st.until.Before(next) {
				next = st.until
			}
		}
	}
	return nodes, next
}

// heads are the first of each queue, those asked for first before the others.
func (s *Scheduler) heads() *heads {
	h := make(heads, 0, len(s.queues))
	for key, q := range s.queues {
		h = append(h, head{key: key, turn: q[0].turn})
	}
	heap.Init(&h)
	return &h
}

// head is a queue and the turn of its first machine.
type head struct {
	key  string
	turn int
}

// heads is a heap by turn.
type heads []head

func (h heads) Len() int           { return len(h) }
func (h heads) Less(i, j int) bool { return h[i].turn < h[j].turn }
func (h heads) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *heads) Push(x any)        { *h = append(*h, x.(head)) }
func (h *heads) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}

// fits reports whether a machine can be switched on now. The first circuit that
// has no room for it is barred to those that come later. Circuits are barred one
// after another, the narrowest first: a machine that waits for room in its rack
// must not keep other racks from using the feed.
func (s *Scheduler) fits(w *waiter, closed map[string]bool) bool {
	if st, ok := s.starting[w.load.Node]; ok && w.load.Watts <= st.load.Watts {
		return true
	}
	open := true
	for _, name := range w.load.Circuits {
		open = open && !closed[name]
		if s.room(name, w.load) {
			continue
		}
		if !slices.Contains(w.barred, name) {
			w.barred = append(w.barred, name)
		}
		return false
	}
	return open
}

// room leaves out what the machine itself draws: one that starts again takes
// its own place.
func (s *Scheduler) room(name string, l Load) bool {
	c, limited := s.circuits[name]
	if !limited {
		return true
	}
	drawn := s.drawn[name]
	if st, ok := s.starting[l.Node]; ok && slices.Contains(st.load.Circuits, name) {
		drawn -= st.load.Watts
	}
	return drawn+l.Watts <= c.Watts
}

// Draw is what machines that start draw from one circuit.
type Draw struct {
	Circuit string `json:"circuit"`
	Watts   int64  `json:"watts"`
	Budget  int64  `json:"budget"`
}

// Draws are those of all circuits with a limit that anything is starting on, in
// order of name.
func (s *Scheduler) Draws() []Draw {
	var out []Draw
	for name, watts := range s.drawn {
		if c, limited := s.circuits[name]; limited && watts > 0 {
			out = append(out, Draw{Circuit: name, Watts: watts, Budget: c.Watts})
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Circuit < out[j].Circuit })
	return out
}

// Waiting says, of a machine in the queue, which circuits have no room for it or
// for one before it, and what is drawn from them; nil when it waits for its turn
// alone, or not at all.
func (s *Scheduler) Waiting(node string) []Draw {
	q := s.queues[s.queued[node]]
	if len(q) == 0 {
		return nil
	}
	var out []Draw
	for _, name := range q[0].barred {
		out = append(out, Draw{Circuit: name, Watts: s.drawn[name], Budget: s.circuits[name].Watts})
	}
	return out
}
