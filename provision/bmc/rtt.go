package bmc

import "time"

// Waits before a packet is sent again. A reply to any transmission counts, so a
// wait that is too short only costs packets.
const (
	// firstWait is for a BMC whose round-trip time is not known yet.
	firstWait = 150 * time.Millisecond
	// minWait: a busy host delays its own packets by a few ms.
	minWait = 50 * time.Millisecond
	// keyWait: a BMC's small processor takes its time over the key exchange.
	keyWait = 100 * time.Millisecond
	maxWait = 10 * time.Second
	// slotWait: who is silent for longer than is usual, and than this, gives its
	// slot to others.
	slotWait = 20 * time.Millisecond
)

// roundTrip estimates the round-trip time of one BMC as RFC 6298 does, but that a
// first sample counts as half as uncertain: with a BMC that takes seconds, one
// lost packet should not cost half a minute. The zero value knows nothing.
type roundTrip struct {
	mean, deviation time.Duration
}

// add takes one measured time.
func (r *roundTrip) add(sample time.Duration) {
	sample = max(sample, 1)
	if r.mean == 0 {
		r.mean, r.deviation = sample, sample/4
		return
	}
	r.deviation += ((r.mean - sample).Abs() - r.deviation) / 4
	r.mean += (sample - r.mean) / 8
	// One reply that is slower than the estimate means that the BMC has become
	// slow: smoothing would only send it more packets.
	r.mean = max(r.mean, sample/2)
}

// wait is how long to wait before what was sent counts as lost.
func (r *roundTrip) wait(least time.Duration) time.Duration {
	if r.mean == 0 {
		return max(firstWait, least)
	}
	return min(max(r.mean+4*r.deviation, least), maxWait)
}

// longer is the wait after the next transmission.
func longer(wait time.Duration) time.Duration { return min(wait+wait/2, maxWait) }
