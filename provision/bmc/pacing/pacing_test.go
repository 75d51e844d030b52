package pacing

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// site is racks on feeds, with machines, made up at random.
type site struct {
	circuits []Circuit
	loads    []Load
	boots    map[string]time.Duration // how long each takes to start; absent: for ever
	rate     float64
}

func randomSite(r *rand.Rand) site {
	s := site{boots: map[string]time.Duration{}}
	if r.IntN(3) == 0 {
		s.rate = 0.2 + 3*r.Float64()
	}
	feeds := 1 + r.IntN(3)
	for f := range feeds {
		if r.IntN(4) > 0 {
			s.circuits = append(s.circuits, Circuit{Name: fmt.Sprintf("feed %d", f), Watts: 5000 + r.Int64N(60000)})
		}
	}
	for rack := range 1 + r.IntN(5) {
		circuits := []string{fmt.Sprintf("rack %d", rack)}
		if r.IntN(4) > 0 {
			s.circuits = append(s.circuits, Circuit{Name: circuits[0], Watts: 2000 + r.Int64N(40000)})
		}
		for f := range feeds {
			if r.IntN(2) == 0 {
				circuits = append(circuits, fmt.Sprintf("feed %d", f))
			}
		}
		for n := range 1 + r.IntN(12) {
			l := Load{Node: fmt.Sprintf("r%dn%d", rack, n), Watts: 100 + r.Int64N(12000), Circuits: circuits, Settle: time.Duration(30+r.IntN(600)) * time.Second}
			if r.IntN(30) == 0 {
				l.Watts = 0
			}
			s.loads = append(s.loads, l)
			if r.IntN(8) > 0 {
				s.boots[l.Node] = time.Duration(1+r.IntN(900)) * time.Second
			}
		}
	}
	r.Shuffle(len(s.loads), func(i, j int) { s.loads[i], s.loads[j] = s.loads[j], s.loads[i] })
	return s
}

// interval is the time in which one machine started.
type interval struct {
	load     Load
	from, to time.Time
}

// start runs a site until nothing waits, and returns when each machine started,
// by an account of its own.
func (s site) start(t *testing.T, r *rand.Rand) (started map[string]interval, never map[string]error) {
	sched := New(s.circuits, s.rate)
	started, never = map[string]interval{}, map[string]error{}
	byName := map[string]Load{}
	now := time.Unix(1_000_000, 0)
	late := s.loads[len(s.loads)/2:]
	for _, l := range late {
		if r.IntN(2) == 0 {
			sched.Expect(l) // refused ones are told when they ask
		}
	}
	ask := func(loads []Load) {
		for _, l := range loads {
			byName[l.Node] = l
			if err := sched.Ask(l); err != nil {
				never[l.Node] = err
			}
		}
	}
	ask(s.loads[:len(s.loads)/2])
	ends := map[string]time.Time{}
	for step := 0; len(late) > 0 || len(started)+len(never) < len(s.loads); step++ {
		if step > 10000 {
			t.Fatalf("%d of %d machines were not switched on", len(s.loads)-len(started)-len(never), len(s.loads))
		}
		if len(late) > 0 && r.IntN(3) == 0 {
			n := 1 + r.IntN(len(late))
			ask(late[:n])
			late = late[n:]
		}
		nodes, next := sched.Admit(now)
		for _, n := range nodes {
			l := byName[n]
			to := now.Add(l.Settle)
			if boot, ends := s.boots[n]; ends && boot < l.Settle {
				to = now.Add(boot)
			}
			if _, twice := started[n]; twice {
				t.Fatalf("%s was switched on twice", n)
			}
			started[n] = interval{load: l, from: now, to: to}
			ends[n] = to
		}
		// On to whatever happens next.
		for _, at := range ends {
			if next.IsZero() || at.Before(next) {
				next = at
			}
		}
		if next.IsZero() {
			next = now.Add(time.Second)
		}
		now = next
		for n, at := range ends {
			if !at.After(now) {
				sched.Settled(n)
				delete(ends, n)
			}
		}
	}
	return started, never
}

// TestBudgetsHold is the property that the package is for, over 1,000 random
// sites: at no instant do the machines that are starting draw more than any
// circuit of theirs carries, and each is switched on or told why never.
func TestBudgetsHold(t *testing.T) {
	t.Parallel()
	waited, refused := 0, 0
	for seed := range uint64(1000) {
		r := rand.New(rand.NewPCG(seed, 4))
		s := randomSite(r)
		started, never := s.start(t, r)
		limit := map[string]int64{}
		for _, c := range s.circuits {
			limit[c.Name] = c.Watts
		}
		var froms []time.Time
		for _, at := range started {
			froms = append(froms, at.from)
			for name, most := range limit {
				// What is drawn rises only when a machine is switched on.
				sum := int64(0)
				for _, i := range started {
					if slices.Contains(i.load.Circuits, name) && !at.from.Before(i.from) && at.from.Before(i.to) {
						sum += i.load.Watts
					}
				}
				if sum > most {
					t.Fatalf("site %d: %d W start on %s, which has %d W", seed, sum, name, most)
				}
			}
		}
		slices.SortFunc(froms, time.Time.Compare)
		for i := 1; s.rate > 0 && i < len(froms); i++ {
			if gap := froms[i].Sub(froms[i-1]); gap < time.Duration(float64(time.Second)/s.rate) {
				t.Fatalf("site %d: two machines within %s; %g a second are allowed", seed, gap, s.rate)
			}
		}
		if len(froms) > 0 && froms[len(froms)-1] != froms[0] {
			waited++
		}
		for _, l := range s.loads {
			most := int64(1) << 40
			for _, c := range l.Circuits {
				if w, ok := limit[c]; ok {
					most = min(most, w)
				}
			}
			impossible := l.Watts > most || l.Watts == 0 && most < 1<<40
			if _, on := started[l.Node]; on == impossible {
				t.Fatalf("site %d: %s of %d W under circuits of %d W: started %v, never %v", seed, l.Node, l.Watts, most, on, never[l.Node])
			}
			if err := never[l.Node]; impossible && (err == nil || !strings.Contains(err.Error(), l.Node)) {
				t.Fatalf("site %d: %s can never start and was told %v", seed, l.Node, err)
			} else if impossible {
				refused++
			}
		}
	}
	if waited < 500 || refused < 100 {
		t.Errorf("%d sites had machines that waited and %d machines could never start: the sites are too easy", waited, refused)
	}
}

// TestWavesHold: the same of what a plan shows.
func TestWavesHold(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		s := randomSite(rand.New(rand.NewPCG(seed, 5)))
		waves, never := Waves(s.circuits, s.loads)
		in := map[string]int{}
		for _, w := range waves {
			for _, n := range w.Nodes {
				in[n]++
			}
			for _, d := range w.Draws {
				if d.Watts > d.Budget {
					t.Fatalf("site %d: a wave draws %d W of %s's %d W", seed, d.Watts, d.Circuit, d.Budget)
				}
			}
		}
		for _, l := range s.loads {
			if told := never[l.Node] != nil; told == (in[l.Node] == 1) || in[l.Node] > 1 {
				t.Fatalf("site %d: %s is in %d waves, never %v", seed, l.Node, in[l.Node], never[l.Node])
			}
		}
	}
}

func rackOf(n int, watts int64, circuits ...string) []Load {
	var out []Load
	for i := range n {
		out = append(out, Load{Node: fmt.Sprintf("%s-n%d", strings.TrimPrefix(circuits[0], "rack "), i+1), Watts: watts, Circuits: circuits, Settle: time.Hour})
	}
	return out
}

func TestWaves(t *testing.T) {
	t.Parallel()
	circuits := []Circuit{{"rack a", 31000}, {"feed west", 45000}}
	loads := append(rackOf(4, 10200, "rack a", "feed west"), rackOf(3, 10200, "rack b", "feed west")...)
	loads = append(loads, rackOf(1, 50000, "rack c", "feed west")...)
	waves, never := Waves(circuits, loads)
	want := []Wave{
		{Nodes: []string{"a-n1", "a-n2", "a-n3", "b-n1"}, Watts: 40800, Draws: []Draw{{"feed west", 40800, 45000}, {"rack a", 30600, 31000}}},
		{Nodes: []string{"a-n4", "b-n2", "b-n3"}, Watts: 30600, Draws: []Draw{{"feed west", 30600, 45000}, {"rack a", 10200, 31000}}},
	}
	if d := cmp.Diff(want, waves); d != "" {
		t.Error(d)
	}
	if got := fmt.Sprint(never); got != "map[c-n1:c-n1 draws 50000 W, which is more than the 45000 W that feed west has for machines that start]" {
		t.Error(got)
	}
}

// TestNoStarvation: small machines that keep coming do not keep a large one
// waiting.
func TestNoStarvation(t *testing.T) {
	t.Parallel()
	s := New([]Circuit{{"rack a", 1000}}, 0)
	now := time.Unix(0, 0)
	ask := func(node string, watts int64) {
		if err := s.Ask(Load{Node: node, Watts: watts, Circuits: []string{"rack a"}, Settle: time.Hour}); err != nil {
			t.Fatal(err)
		}
	}
	ask("s0", 300)
	ask("s1", 300)
	s.Admit(now)
	ask("large", 1000)
	for i := 2; i < 10; i++ {
		ask(fmt.Sprintf("s%d", i), 300)
	}
	if nodes, _ := s.Admit(now); nodes != nil {
		t.Errorf("%v went ahead of the large one", nodes)
	}
	if d := cmp.Diff([]Draw{{"rack a", 600, 1000}}, s.Waiting("s5")); d != "" {
		t.Error(d)
	}
	s.Settled("s0")
	s.Settled("s1")
	if nodes, _ := s.Admit(now); fmt.Sprint(nodes) != "[large]" {
		t.Errorf("admitted %v; want the large one", nodes)
	}
}

// TestFeedIsNotHeld: machines that wait for their rack leave the feed to others.
func TestFeedIsNotHeld(t *testing.T) {
	t.Parallel()
	s := New([]Circuit{{"rack a", 100}, {"feed", 200}}, 0)
	for _, l := range append(rackOf(5, 100, "rack a", "feed"), rackOf(2, 100, "rack b", "feed")...) {
		if err := s.Ask(l); err != nil {
			t.Fatal(err)
		}
	}
	now := time.Unix(0, 0)
	if nodes, _ := s.Admit(now); fmt.Sprint(nodes) != "[a-n1 b-n1]" {
		t.Errorf("admitted %v", nodes)
	}
	s.Settled("b-n1")
	if nodes, _ := s.Admit(now); fmt.Sprint(nodes) != "[b-n2]" {
		t.Errorf("admitted %v; want b-n2, whose rack has no limit", nodes)
	}
}

// TestStarts follows one machine: a second start takes its own place, and one
// that nobody reports started counts for its settle time.
func TestStarts(t *testing.T) {
	t.Parallel()
	s := New([]Circuit{{"rack a", 100}}, 2)
	now := time.Unix(100, 0)
	a := Load{Node: "a", Watts: 60, Circuits: []string{"rack a"}, Settle: time.Minute}
	b := Load{Node: "b", Watts: 60, Circuits: []string{"rack a"}, Settle: time.Minute}
	if err := s.Ask(a); err != nil {
		t.Fatal(err)
	}
	if nodes, _ := s.Admit(now); fmt.Sprint(nodes) != "[a]" {
		t.Fatalf("admitted %v", nodes)
	}
	for _, l := range []Load{b, a, a} {
		if err := s.Ask(l); err != nil {
			t.Fatal(err)
		}
	}
	if nodes, next := s.Admit(now); nodes != nil || next != now.Add(500*time.Millisecond) {
		t.Errorf("admitted %v, again at %s; two a second are allowed", nodes, next)
	}
	now = now.Add(time.Second)
	if nodes, next := s.Admit(now); fmt.Sprint(nodes) != "[a]" || next != now.Add(time.Minute) || !s.Starting("a", now) {
		t.Errorf("admitted %v, again at %s; a starts again in its own place", nodes, next)
	}
	if nodes, next := s.Admit(now.Add(time.Second)); nodes != nil || next != now.Add(time.Minute) {
		t.Errorf("admitted %v, again at %s; b waits for a's settle time", nodes, next)
	}
	s.Leave("b")
	if _, next := s.Admit(now.Add(2 * time.Second)); !next.IsZero() {
		t.Errorf("again at %s, and nobody waits", next)
	}
	if err := s.Ask(b); err != nil {
		t.Fatal(err)
	}
	if nodes, next := s.Admit(now.Add(time.Minute - 1)); nodes != nil || next != now.Add(time.Minute) {
		t.Errorf("admitted %v, again at %s", nodes, next)
	}
	if nodes, _ := s.Admit(now.Add(time.Minute)); fmt.Sprint(nodes) != "[b]" || s.Starting("a", now.Add(time.Minute)) {
		t.Errorf("admitted %v; want b once a's settle time is over", nodes)
	}
	// One that another controller switched on counts.
	late := now.Add(2 * time.Minute)
	s.Began(a, late.Add(-10*time.Second))
	if err := s.Ask(b); err != nil {
		t.Fatal(err)
	}
	s.Settled("b")
	if nodes, next := s.Admit(late); nodes != nil || next != late.Add(50*time.Second) {
		t.Errorf("admitted %v, again at %s", nodes, next)
	}
	s.Leave("b")
	s.Settled("a")
	s.Settled("a")
	if d := s.Draws(); d != nil || s.Waiting("b") != nil {
		t.Errorf("draws %v with nothing starting", d)
	}
}

// TestLargeSite: 10,000 machines in 1,250 racks are laid out in a moment; a
// quadratic one would not end.
func TestLargeSite(t *testing.T) {
	t.Parallel()
	var circuits []Circuit
	var loads []Load
	for r := range 1250 {
		name := fmt.Sprintf("rack %d", r)
		circuits = append(circuits, Circuit{name, 31000})
		loads = append(loads, rackOf(8, 10200, name, fmt.Sprintf("feed %d", r/20))...)
	}
	waves, never := Waves(circuits, loads)
	if len(waves) != 3 || len(never) != 0 || len(waves[0].Nodes) != 3750 {
		t.Errorf("%d waves, %d never", len(waves), len(never))
	}
}

// TestExpected: the room of a machine that is planned earlier is kept for it until
// it is asked for or cannot come, and those behind use what is left.
func TestExpected(t *testing.T) {
	t.Parallel()
	s := New([]Circuit{{"rack a", 31000}}, 0)
	now := time.Unix(0, 0)
	loads := rackOf(6, 10200, "rack a")
	for _, l := range loads {
		if err := s.Expect(l); err != nil {
			t.Fatal(err)
		}
	}
	admitted := func(asked ...int) string {
		for _, i := range asked {
			if err := s.Ask(loads[i-1]); err != nil {
				t.Fatal(err)
			}
		}
		nodes, _ := s.Admit(now)
		return fmt.Sprint(nodes)
	}
	if got := admitted(6, 4, 3); got != "[a-n3]" {
		t.Errorf("admitted %s; room is kept for n1 and n2", got)
	}
	s.Leave("a-n1") // its BMC does not answer
	if got := admitted(); got != "[a-n4]" {
		t.Errorf("admitted %s; want n4 in the place of n1", got)
	}
	if got := admitted(2); got != "[a-n2]" {
		t.Errorf("admitted %s; want n2", got)
	}
	s.Settled("a-n3")
	s.Settled("a-n4")
	if got := admitted(); got != "[a-n6]" {
		t.Errorf("admitted %s; one place is kept for n5, and one is free", got)
	}
	s.Settled("a-n6")
	if err := errors.Join(s.Expect(loads[1]), s.Ask(loads[0])); err != nil {
		t.Fatal(err)
	}
	if got := admitted(); got != "[a-n1]" {
		t.Errorf("admitted %s; n2 is starting, and its place is not kept twice", got)
	}
}
