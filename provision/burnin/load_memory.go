package burnin

import (
	"context"
	"time"
)

// Pattern is what a memory is filled with.
type Pattern string

// The patterns, in the order of a sweep. Zeros and ones find cells that are
// stuck, the chequers and their complements neighbours that disturb each other,
// the address lines that are swapped or stuck, and random words the rest.
const (
	PatternZeros      Pattern = "zeros"
	PatternOnes       Pattern = "ones"
	PatternChequer    Pattern = "chequer" // 0x5555… and 0xAAAA… in turns
	PatternInverse    Pattern = "inverse" // the other way round
	PatternAddress    Pattern = "address" // each word holds its index
	PatternRandom     Pattern = "random"  // mix64 of seed and index
	PatternComplement Pattern = "random-inverse"
)

// Patterns lists those of a sweep, in order.
func Patterns() []Pattern {
	return []Pattern{PatternZeros, PatternOnes, PatternChequer, PatternInverse, PatternAddress, PatternRandom, PatternComplement}
}

// Word is the 64-bit word of a pattern at an index, counted in words.
func (p Pattern) Word(seed, index uint64) uint64 {
	const chequer = 0x5555555555555555
	switch p {
	case PatternOnes:
		return ^uint64(0)
	case PatternChequer:
		return chequer ^ -(index & 1)
	case PatternInverse:
		return ^(chequer ^ -(index & 1))
	case PatternAddress:
		return index
	case PatternRandom:
		return mix64(seed + (index+1)*golden)
	case PatternComplement:
		return ^mix64(seed + (index+1)*golden)
	}
	return 0
}

// sweepReference fills and verifies a small memory of the CPU's. The sweeps go
// on until the order's time is over, and at least once through every pattern.
func sweepReference(ctx context.Context, o Order, emit func(Event)) error {
	words := make([]uint64, referenceMemory/8)
	began := time.Now()
	var c Coverage
	limit := time.Duration(o.Seconds * float64(time.Second))
	for round := uint64(0); round == 0 || time.Since(began) < limit; round++ {
		for _, p := range Patterns() {
			if ctx.Err() != nil {
				break
			}
			s := sweepOnce(words, p, o, o.Seed+round)
			c.Bytes += s.Bytes
			emit(Event{Kind: EventSweep, Sweep: &s})
			emit(Event{Kind: EventSample, Sample: &Sample{GBps: 2 * float64(s.Bytes) / s.Seconds / 1e9}})
		}
		if ctx.Err() != nil {
			break
		}
	}
	c.Seconds = time.Since(began).Seconds()
	emit(Event{Kind: EventCoverage, Coverage: &c})
	emit(Event{Kind: EventDone})
	return nil
}

func sweepOnce(words []uint64, p Pattern, o Order, seed uint64) Sweep {
	began := time.Now()
	for i := range words {
		words[i] = p.Word(seed, uint64(i))
	}
	if f := o.Fault; f != nil && f.GPU == o.GPU && f.Kind == FaultMemory {
		words[len(words)/3] |= 1 << (f.Bit & 63) // a cell that is stuck at one
	}
	s := Sweep{Pattern: string(p), Bytes: uint64(8 * len(words))}
	for i, got := range words {
		want := p.Word(seed, uint64(i))
		if got == want {
			continue
		}
		if s.Errors == 0 {
			s.Address, s.Want, s.Got = uint64(8*i), Hex(want), Hex(got)
		}
		s.Errors++
	}
	s.Seconds = max(time.Since(began).Seconds(), 1e-6)
	return s
}
