package fabric

import (
	"slices"
	"time"
)

// Doubt is why a count may be too low; "" where it is exact.
type Doubt string

// The doubts.
const (
	Full    Doubt = "the counter is full"
	SetBack Doubt = "the counters were set back meanwhile"
	Changed Doubt = "it was read from another field than before"
)

// Count is how far one counter went: N, or where there is a doubt N or more.
type Count struct {
	Counter int // its place in portCounters
	N       uint64
	Doubt   Doubt
}

// Span is what a port counted over a time.
type Span struct {
	Elapsed time.Duration
	Traffic time.Duration // of Elapsed, the time in which it received traffic
	Counts  []Count       // without those that are zero for certain, in the order of portCounters
}

// Since is what a port counted between two readings. It received traffic in that
// time if it received least bits a second or more; 0 of least is not known, and
// counts as none.
func Since(before, after Reading, least float64) Span {
	s := Span{Elapsed: max(0, after.At.Sub(before.At))}
	back := setBack(&before, &after)
	for i := range portCounters {
		if c := counted(&before, &after, i, back); c.N > 0 || c.Doubt != "" {
			s.Counts = append(s.Counts, c)
		}
	}
	if n := s.of(indexOf(ReceiveData)).N; least > 0 && s.Elapsed > 0 && float64(n)*32 >= least*s.Elapsed.Seconds() {
		s.Traffic = s.Elapsed
	}
	return s
}

// largest is the largest number that a field of some bits holds.
func largest(bits uint8) uint64 { return 1<<bits - 1 }

// setBack reports that somebody cleared the port's counters, or that the device
// began anew: a counter fell, and not by going round. That one fell makes the
// others doubtful: what they say can have been counted from zero too.
func setBack(before, after *Reading) bool {
	for i := range portCounters {
		if before.Bits[i] != 0 && before.Bits[i] == after.Bits[i] && after.Values[i] < before.Values[i] && !wentRound(before, after, i) {
			return true
		}
	}
	return false
}

// wentRound reports that a counter which fell began again at zero by itself. It
// is believed only where it was near its end and is near its beginning: one that
// was cleared is rarely both.
func wentRound(before, after *Reading, i int) bool {
	quarter := largest(before.Bits[i])/4 + 1
	return portCounters[i].rolls && before.Values[i] >= 3*quarter && after.Values[i] < quarter
}

// counted is how far a counter went.
func counted(before, after *Reading, i int, back bool) Count {
	c := Count{Counter: i}
	was, is, bits := before.Values[i], after.Values[i], after.Bits[i]
	switch {
	case bits == 0 && before.Bits[i] == 0:
		return c
	case bits != before.Bits[i]:
		c.Doubt = Changed
		return c
	case is >= was:
		c.N = is - was
	case wentRound(before, after, i):
		c.N = largest(bits) - was + is + 1
	default:
		c.N = is
	}
	switch {
	case back:
		c.Doubt = SetBack
	case is == largest(bits):
		c.Doubt = Full
	}
	return c
}

// of is the count of a counter.
func (s *Span) of(counter int) Count {
	for _, c := range s.Counts {
		if c.Counter == counter {
			return c
		}
	}
	return Count{Counter: counter}
}

// Of is how often a counter counted.
func (s *Span) Of(name CounterName) Count { return s.of(indexOf(name)) }

// add joins what was counted in two times of one port. The newer doubt is kept.
func (s *Span) add(newer Span) {
	s.Elapsed += newer.Elapsed
	s.Traffic += newer.Traffic
	if len(newer.Counts) == 0 {
		return
	}
	counts := slices.Clone(s.Counts)
	for _, c := range newer.Counts {
		i, ok := slices.BinarySearchFunc(counts, c.Counter, func(c Count, at int) int { return c.Counter - at })
		if !ok {
			counts = slices.Insert(counts, i, c)
			continue
		}
		counts[i].N += c.N
		if c.Doubt != "" {
			counts[i].Doubt = c.Doubt
		}
	}
	s.Counts = counts
}
