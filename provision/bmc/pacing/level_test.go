package pacing

import (
	"math/rand/v2"
	"testing"
)

// network loses a share of all messages, and, beyond what it carries, all that is
// too much.
type network struct {
	loss    float64
	carries int // messages at once; 0: any number
}

func (n network) loses(r *rand.Rand, atOnce int) bool {
	over := 0.0
	if n.carries > 0 && atOnce > n.carries {
		over = 1 - float64(n.carries)/float64(atOnce)
	}
	return r.Float64() < 1-(1-n.loss)*(1-over)
}

// run sends messages at the level that it gives, and returns the mean level of the
// second half.
func run(l *Level, n network, messages int, r *rand.Rand) float64 {
	sum := 0
	for i := range messages {
		l.Heard(l.Era(), n.loses(r, l.Now()))
		if i >= messages/2 {
			sum += l.Now()
		}
	}
	return float64(sum) / float64(messages-messages/2)
}

// TestLevel: each network ends near the level that it carries, whatever it loses
// by itself.
func TestLevel(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name        string
		network     network
		most        int
		least, high float64 // of the mean level
	}{
		{"fair", network{}, 256, 256, 256},
		{"small limit", network{}, 2, 2, 2},
		{"5 % lost each way", network{loss: 0.0975}, 256, 240, 256},
		{"10 % lost each way", network{loss: 0.19}, 256, 200, 256},
		{"carries 100", network{carries: 100}, 1024, 60, 140},
		{"carries 100 and loses a tenth", network{carries: 100, loss: 0.1}, 1024, 50, 160},
		{"carries 10", network{carries: 10}, 1024, 4, 20},
		{"carries 1000", network{carries: 1000}, 1 << 20, 600, 1400},
		{"loses nearly all", network{loss: 0.9}, 1024, 4, 4},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(20) {
				l := NewLevel(tt.most)
				if mean := run(l, tt.network, 400_000, rand.New(rand.NewPCG(seed, 1))); mean < tt.least || mean > tt.high {
					t.Errorf("seed %d: level %g; want %g to %g", seed, mean, tt.least, tt.high)
				}
			}
		})
	}
}

// TestLevelOldNews: losses of a crowd that the level was lowered for lower it once.
func TestLevelOldNews(t *testing.T) {
	t.Parallel()
	l := NewLevel(64)
	for range firstLevel {
		l.Heard(0, false)
	}
	for range 1000 {
		l.Heard(0, true)
	}
	if l.Now() != 32 || l.Era() != 1 {
		t.Errorf("level %d in era %d; want 64 halved once", l.Now(), l.Era())
	}
}

// TestLevelMoves: a network that becomes worse is given less, and one that
// recovers is given more.
func TestLevelMoves(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 1))
	l := NewLevel(256)
	for _, step := range []struct {
		network     network
		least, high float64
	}{{network{}, 256, 256}, {network{carries: 40}, 4, 60}, {network{}, 240, 256}, {network{loss: 0.19}, 100, 256}, {network{loss: 0.19, carries: 40}, 4, 80}, {network{}, 240, 256}} {
		if mean := run(l, step.network, 100_000, r); mean < step.least || mean > step.high {
			t.Errorf("on %+v: level %g; want %g to %g", step.network, mean, step.least, step.high)
		}
	}
}
