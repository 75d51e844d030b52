package pacing

// Level finds how many conversations with BMCs one network carries at once. It
// works by additive increase and multiplicative decrease, as TCP does (RFC 5681),
// on the share of messages that were lost on their way: quick at first, halved
// when more are lost than the network loses anyway, and then careful.
//
// What a network loses anyway does not depend on how much is sent. So where half
// as many at once lose as large a share, that share is the network's own, and the
// level rises again. Without that a cable that loses every tenth packet would
// bring a fleet to a crawl. AIMD, rather than a gradient on the round-trip time,
// because BMCs differ in that by a factor of a thousand, and one BMC from one
// minute to the next by ten.
//
// The zero value is not usable: see NewLevel.
type Level struct {
	most, at int
	quick    bool // it doubles with each round
	n, lost  int  // in this round

	own     float64 // share that the network loses anyway
	before  float64 // share at the level before it was lowered
	lowered bool    // since the last round
	era     int     // times that it was lowered
	known   bool    // a round has ended
}

const (
	// leastLevel keeps a fleet going on the worst network.
	leastLevel = 4
	// firstLevel is low enough for any network that BMCs are on, and a fraction of
	// a second away from any level.
	firstLevel = 32
	// margin is by how much more than its own share a network may lose: chance alone
	// gives half of that in a round of a few dozen messages.
	margin = 0.25
	// firstOwn bounds what the first round may say of a network's own share, for the
	// first level may be too much already. A tenth lost each way is a fifth of all
	// messages.
	firstOwn = 0.2
	// mostOwn bounds what a network may be thought to lose by itself: more is
	// congestion, or no network to bring machines up over.
	mostOwn = 0.4
)

// NewLevel returns a level that never exceeds most.
func NewLevel(most int) *Level {
	return &Level{most: max(most, 1), at: max(min(firstLevel, most), 1), quick: true}
}

// Now is how many conversations to have at once.
func (l *Level) Now() int { return l.at }

// Careful says that the network has been found to carry less than was asked of it,
// and is not known to carry all.
func (l *Level) Careful() bool { return !l.quick && l.at < l.most }

// Era tells messages that were sent before the level was lowered last from those
// after it.
func (l *Level) Era() int { return l.era }

// Heard takes the outcome of one message to a BMC that answers: whether it, or
// its answer, was lost at first, and the era in which it was sent. What was sent
// before the level was lowered says nothing about the level now: of one crowd,
// news of losses comes in for seconds.
func (l *Level) Heard(era int, lost bool) {
	if era != l.era {
		return
	}
	l.n++
	if lost {
		l.lost++
	}
	if l.n < max(l.at, firstLevel) {
		return
	}
	share := float64(l.lost) / float64(l.n)
	l.n, l.lost = 0, 0
	l.round(share)
}

// round ends a round in which this share was lost.
func (l *Level) round(share float64) {
	lowered := l.lowered
	l.lowered = false
	if !l.known {
		l.known, l.own = true, min(share, firstOwn)
	}
	switch {
	case share <= l.own+margin:
		l.own -= max(l.own-share, 0) / 4 // it may have become better
		if l.quick {
			l.at *= 2
		} else {
			l.at += max(l.at/16, 1)
		}
	case lowered && share <= mostOwn && share > l.before*3/4:
		l.own = share
	default:
		l.at /= 2
		l.quick, l.lowered, l.before = false, true, share
		l.era++
	}
	l.at = min(max(l.at, min(leastLevel, l.most)), l.most)
}
