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
	load   Load
	turn   int
	absent bool // expected, and not asked for yet: its room is kept
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

// Ask puts a machine in the queue. One that is there already keeps its place. The
// error is Never's.
func (s *Scheduler) Ask(l Load) error { return s.enqueue(l, false) }

// Expect keeps a place in the queue, and its room, for a machine that will be
// asked for, until it is, or leaves. The error is Never's.
func (s *Scheduler) Expect(l Load) error { return s.enqueue(l, true) }

func (s *Scheduler) enqueue(l Load, absent bool) error {
	if err := s.Never(l); err != nil {
		s.Leave(l.Node)
		return err
	}
	if key, queued := s.queued[l.Node]; queued {
		w := s.queues[key][s.place(key, l.Node)]
		w.absent = w.absent && absent
		return nil
	}
	l.Circuits = s.limited(l.Circuits)
	key := fmt.Sprintf("%q", l.Circuits)
	if _, again := s.starting[l.Node]; again {
		key = ownPlace
	}
	s.asked++
	s.queues[key] = append(s.queues[key], &waiter{load: l, turn: s.asked, absent: absent})
	s.queued[l.Node] = key
	return nil
}

// place is a machine's in its queue.
func (s *Scheduler) place(key, node string) int {
	return slices.IndexFunc(s.queues[key], func(w *waiter) bool { return w.load.Node == node })
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
	if key, queued := s.queued[node]; queued {
		s.take(key, s.place(key, node))
	}
}

// take takes a machine out of its queue.
func (s *Scheduler) take(key string, i int) *waiter {
	w := s.queues[key][i]
	delete(s.queued, w.load.Node)
	if s.queues[key] = slices.Delete(s.queues[key], i, i+1); len(s.queues[key]) == 0 {
		delete(s.queues, key)
	}
	return w
}

// Began counts a machine that was switched on at that time without having been
// asked for here, as by a controller that is gone; or whose power action came later
// than Admit let it.
func (s *Scheduler) Began(l Load, at time.Time) { s.begin(l, at) }

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
	open := doors{closed: map[string]bool{}, kept: map[string]int64{}}
	for h := s.heads(); h.Len() > 0; {
		if s.interval > 0 && !s.last.IsZero() && now.Before(s.last.Add(s.interval)) {
			next = s.last.Add(s.interval)
			break
		}
		at := &(*h)[0]
		w := s.queues[at.key][at.i]
		switch {
		case !s.fits(w, open):
			for _, c := range w.barred {
				open.closed[c] = true
			}
			heap.Pop(h)
			continue
		case w.absent:
			if _, counted := s.starting[w.load.Node]; !counted {
				for _, c := range w.load.Circuits {
					open.kept[c] += w.load.Watts
				}
			}
			at.i++
		default:
			nodes = append(nodes, w.load.Node)
			s.begin(w.load, now)
			s.last = now
			s.take(at.key, at.i)
		}
		if q := s.queues[at.key]; at.i < len(q) {
			at.turn = q[at.i].turn
			heap.Fix(h, 0)
		} else {
			heap.Pop(h)
		}
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

// doors are what those ahead in the queue leave to those behind.
type doors struct {
	closed map[string]bool  // circuits that one ahead waits for
	kept   map[string]int64 // watts for those that are expected
}

// head is a queue and a machine in it, with its turn.
type head struct {
	key     string
	i, turn int
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
func (s *Scheduler) fits(w *waiter, open doors) bool {
	if st, ok := s.starting[w.load.Node]; ok && w.load.Watts <= st.load.Watts {
		return true
	}
	passes := true
	for _, name := range w.load.Circuits {
		passes = passes && !open.closed[name]
		if s.room(name, w.load, open.kept[name]) {
			continue
		}
		if !slices.Contains(w.barred, name) {
			w.barred = append(w.barred, name)
		}
		return false
	}
	return passes
}

// room leaves out what the machine itself draws: one that starts again takes
// its own place.
func (s *Scheduler) room(name string, l Load, kept int64) bool {
	c, limited := s.circuits[name]
	if !limited {
		return true
	}
	drawn := s.drawn[name] + kept
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

// Waiting says, of a machine in the queue, what is drawn from its circuits; nil
// for one that has no limit or is not in the queue.
func (s *Scheduler) Waiting(node string) []Draw {
	key, queued := s.queued[node]
	if !queued {
		return nil
	}
	var out []Draw
	for _, name := range s.queues[key][s.place(key, node)].load.Circuits {
		out = append(out, Draw{Circuit: name, Watts: s.drawn[name], Budget: s.circuits[name].Watts})
	}
	return out
}
