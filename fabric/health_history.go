package fabric

import (
	"slices"
	"time"
)

// History is what the ports of a fabric counted over the last day: the newest
// time between readings one by one, what is older in pieces of some minutes. It
// is small, since most counters of most ports stand still.
type History struct {
	ports     []watched
	index     map[PortID]int
	intervals []interval
}

// watched is a port. What it counted before Joined, with something else behind
// it, says nothing of the link that it has now.
type watched struct {
	ID, Peer PortID
	Joined   time.Time
	Last     Reading // a zero time: not read yet
}

// How long, and how finely, the past is kept. A day and a little is what the
// slowest limit looks at.
const (
	keptFor      = 25 * time.Hour
	keptSingly   = 120 // newest intervals that are not joined
	joinedLength = 5 * time.Minute
)

// interval is what was counted between two readings.
type interval struct {
	End   time.Time
	Times []alike
	// Owners says how many of Counts belong to each port that has any, in the
	// order of the ports.
	Owners []owner
	Counts []Count
}

// alike is a number of ports, in their order, that were watched for the same time.
// Ports after the last were not watched.
type alike struct {
	Ports            int
	Elapsed, Traffic time.Duration
}

type owner struct{ Port, Counts int }

// NewHistory returns one in which nothing was read yet.
func NewHistory() *History { return &History{index: map[PortID]int{}} }

// Samples is how many pieces of time it holds.
func (h *History) Samples() int { return len(h.intervals) }

// Since is when the oldest of what it holds began; zero without any.
func (h *History) Since() time.Time {
	if len(h.intervals) == 0 {
		return time.Time{}
	}
	oldest := h.intervals[0]
	var longest time.Duration
	for _, r := range oldest.Times {
		longest = max(longest, r.Elapsed)
	}
	return oldest.End.Add(-longest)
}

// Newest is the newest reading of a port; ok is false where there is none.
func (h *History) Newest(id PortID) (r Reading, ok bool) {
	i, ok := h.index[id]
	if !ok || h.ports[i].Last.At.IsZero() {
		return r, false
	}
	return h.ports[i].Last, true
}

// Add takes a reading of the whole fabric. Ports that were not read keep their
// last reading, and the next one counts from there. Two nodes of one GUID
// cannot be told apart, and are left out.
func (h *History) Add(o *Observed, at time.Time, load float64) {
	spans := map[int]Span{}
	readings := ReadingsOf(o)
	for _, n := range o.Nodes {
		for _, p := range n.Ports {
			r, ok := readings[p.ID()]
			if !ok || p.Peer == nil {
				continue
			}
			i := h.port(p)
			// One time for all of them: they were read within seconds, and alike
			// times are stored once.
			r.At = at
			w := &h.ports[i]
			if peer := p.Peer.ID(); w.Peer != peer {
				w.Peer, w.Joined = peer, w.Last.At
			}
			if !w.Last.At.IsZero() {
				spans[i] = Since(w.Last, r.Reading, load*r.Rate)
			}
			w.Last = r.Reading
		}
	}
	if len(spans) > 0 {
		h.intervals = append(h.intervals, h.pack(at, spans))
	}
	h.thin(at)
}

// port is the place of a port.
func (h *History) port(p *Port) int {
	id := p.ID()
	i, ok := h.index[id]
	if !ok {
		i = len(h.ports)
		h.index[id] = i
		h.ports = append(h.ports, watched{ID: id, Peer: p.Peer.ID()})
	}
	return i
}

// pack stores what was counted until a time.
func (h *History) pack(end time.Time, spans map[int]Span) interval {
	in := interval{End: end}
	for i := range h.ports {
		s := spans[i]
		if n := len(in.Times); n > 0 && in.Times[n-1].Elapsed == s.Elapsed && in.Times[n-1].Traffic == s.Traffic {
			in.Times[n-1].Ports++
		} else {
			in.Times = append(in.Times, alike{1, s.Elapsed, s.Traffic})
		}
		// That data was moved is known by the time under traffic.
		kept := slices.DeleteFunc(slices.Clone(s.Counts), func(c Count) bool { return portCounters[c.Counter].data })
		if len(kept) > 0 {
			in.Owners = append(in.Owners, owner{i, len(kept)})
			in.Counts = append(in.Counts, kept...)
		}
	}
	return in
}

// thin forgets what is too old, and joins what is older than the newest pieces.
func (h *History) thin(now time.Time) {
	h.intervals = slices.DeleteFunc(h.intervals, func(in interval) bool { return in.End.Before(now.Add(-keptFor)) })
	old := len(h.intervals) - keptSingly
	if old < 2 {
		return
	}
	// Only the newest of the joined pieces can still grow.
	i := max(0, old-2)
	a, b := h.intervals[i], h.intervals[i+1]
	if !a.End.Truncate(joinedLength).Equal(b.End.Truncate(joinedLength)) {
		return
	}
	joined := map[int]Span{}
	walk([]interval{a, b}, len(h.ports), func(port int, series []Span) {
		s := Span{}
		for _, part := range series {
			s.add(part)
		}
		joined[port] = s
	})
	h.intervals = slices.Replace(h.intervals, i, i+2, h.pack(b.End, joined))
}

// Each calls do for every port that was read, with what it counted, the newest
// last, and its newest reading. The series is good until do returns.
func (h *History) Each(do func(id PortID, series []Span, newest *Reading)) {
	h.each(func(id PortID, _ int, series []Span, newest *Reading) { do(id, series, newest) })
}

// each is Each, and says which interval the first of the series is of.
func (h *History) each(do func(id PortID, first int, series []Span, newest *Reading)) {
	walk(h.intervals, len(h.ports), func(port int, series []Span) {
		w := &h.ports[port]
		if w.Last.At.IsZero() {
			return
		}
		for k := range series {
			if h.intervals[k].End.After(w.Joined) {
				do(w.ID, k, series[k:], &w.Last)
				return
			}
		}
		do(w.ID, 0, nil, &w.Last)
	})
}

// Recent is what each limit looks at, by port, for the ports of a fabric.
func (h *History) Recent(o *Observed, l Limits) map[PortID]*Recent {
	return h.RecentFrom(o, l, func(PortID) (time.Time, bool) { return time.Time{}, true })
}

// RecentFrom is Recent of some ports, each from a time on: what was counted in an
// interval that began before is left out.
func (h *History) RecentFrom(o *Observed, l Limits, from func(PortID) (time.Time, bool)) map[PortID]*Recent {
	readings := ReadingsOf(o)
	out := map[PortID]*Recent{}
	h.each(func(id PortID, first int, series []Span, newest *Reading) {
		r, read := readings[id]
		since, wanted := from(id)
		if !read || !wanted {
			return
		}
		for len(series) > 0 && h.intervals[first].End.Add(-series[0].Elapsed).Before(since) {
			first, series = first+1, series[1:]
		}
		out[id] = l.Recent(series, newest, r.Rate)
	})
	return out
}

// cursor is where a walk stands in one interval.
type cursor struct{ run, done, owner, count int }

// walk goes through the ports, and through all intervals beside each other.
func walk(intervals []interval, ports int, do func(port int, series []Span)) {
	at := make([]cursor, len(intervals))
	series := make([]Span, len(intervals))
	for port := range ports {
		for k := range intervals {
			series[k] = at[k].next(&intervals[k], port)
		}
		do(port, series)
	}
}

// next is what the interval has of a port; ports come in their order.
func (c *cursor) next(in *interval, port int) Span {
	var s Span
	if c.run < len(in.Times) {
		r := in.Times[c.run]
		s.Elapsed, s.Traffic = r.Elapsed, r.Traffic
		if c.done++; c.done == r.Ports {
			c.run, c.done = c.run+1, 0
		}
	}
	if c.owner < len(in.Owners) && in.Owners[c.owner].Port == port {
		n := in.Owners[c.owner].Counts
		s.Counts = in.Counts[c.count : c.count+n : c.count+n]
		c.owner, c.count = c.owner+1, c.count+n
	}
	return s
}
