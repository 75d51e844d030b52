package provision

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"firstlight/inventory"
)

// meter is the rack's own record of what is switched on and has not started.
// A machine counts as started before the controller hears of it.
type meter struct {
	room int // a self test takes until so many are in theirs, or none is left to come

	until func(node string) bool // and until this; nil: no more

	mu       sync.Mutex
	nodes    int // that will be switched on
	starting map[string]bool
	order    []string // in which they were switched on
	most     int      // at once
	times    []time.Time
}

func newMeter(nodes, room int) *meter {
	return &meter{nodes: nodes, room: room, starting: map[string]bool{}}
}

func (m *meter) switchedOn(node string) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.starting[node] = true
	m.order = append(m.order, node)
	m.times = append(m.times, time.Now())
	m.most = max(m.most, len(m.starting))
}

func (m *meter) started(node string) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.starting, node)
}

func (m *meter) selfTest(node string) {
	for range 2000 {
		if m == nil || m.passed(node) && (m.until == nil || m.until(node)) {
			return
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// passed is true of one that boots warm, too.
func (m *meter) passed(node string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return !m.starting[node] || len(m.starting) >= m.room || len(m.order) >= m.nodes
}

// metered is a rig whose rack lets so many start at once, of 10 kW each.
func metered(nodes int, budget string, room int) (rig, *meter) {
	r := newRig(nodes)
	budgeted(r.want.Cluster, budget)
	r.world.meter = newMeter(nodes, room)
	return r, r.world.meter
}

func (r rig) wantReady(t *testing.T, known Known, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range r.want.Cluster.Nodes {
		if k := known.Nodes[n.Name]; k.State != Ready {
			t.Errorf("%s; want ready", k)
		}
	}
}

// TestApplyKeepsTheBudget: apply switches on in the order of the plan's waves,
// uses the budget, and never exceeds it, by the machines' own record.
func TestApplyKeepsTheBudget(t *testing.T) {
	t.Parallel()
	r, m := metered(8, "31kW", 3)
	known, p, err := r.apply(t)
	r.wantReady(t, known, err)
	if m.most != 3 || len(m.order) != 8 {
		t.Errorf("%d machines were starting at once and %d were switched on; want 3 and 8", m.most, len(m.order))
	}
	waited := map[string]bool{}
	for _, ev := range r.log.(*memory).events {
		if ev.Kind == EventWaits {
			waited[ev.Node] = true
		}
	}
	for name, n := range known.Nodes {
		if n.Waits != "" {
			t.Errorf("%s is ready and waits for %s", name, n.Waits)
		}
	}
	if len(waited) == 0 || waited[m.order[0]] {
		t.Errorf("%v waited for power; want some to, and %s, the first, not to", waited, m.order[0])
	}
	if len(p.Waves) != 3 {
		t.Fatalf("waves %v", p.Waves)
	}
	first := slices.Sorted(slices.Values(m.order[:3]))
	if !slices.Equal(first, p.Waves[0].Nodes) {
		t.Errorf("%v were switched on first; the plan's first wave is %v", first, p.Waves[0].Nodes)
	}
}

// TestDeadNodeLeavesTheWave: one whose BMC does not answer keeps nobody waiting,
// and one that never boots counts until it has settled.
func TestDeadNodeLeavesTheWave(t *testing.T) {
	t.Parallel()
	r, m := metered(5, "20kW", 1)
	r.want.Cluster.Settings.PowerOnSettle = 300 * time.Millisecond
	r.want.Cluster.Settings.Attempts, r.want.Cluster.Settings.AttemptsDeclared = 1, true
	r.world.machines["n1"].refuse = &Refused{Reason: "wrong password", Person: true}
	r.world.machines["n2"].ignoreAll = true
	known, _, err := r.apply(t)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]State{"n1": Quarantined, "n2": Failed, "n3": Ready, "n4": Ready, "n5": Ready} {
		if got := known.Nodes[name].State; got != want {
			t.Errorf("%s is %s; want %s", name, got, want)
		}
	}
	// n2 is in its self test for ever, by the machine's own record.
	if m.most > 2+1 || slices.Contains(m.order, "n1") {
		t.Errorf("%d machines were starting at once, in order %v", m.most, m.order)
	}
}

// TestOutletKeepsTheBudget: machines that turn on by themselves, when their outlets
// are on again, wait for their turn before.
func TestOutletKeepsTheBudget(t *testing.T) {
	t.Parallel()
	r, m := metered(6, "20kW", 1)
	for _, name := range []string{"n1", "n2", "n3", "n4"} {
		mc := r.world.machines[name]
		mc.revertsUntilCut, mc.wakes = true, true
		outlet(mc)
	}
	known, _, err := r.apply(t)
	r.wantReady(t, known, err)
	if m.most > 2 {
		t.Errorf("%d machines were starting at once, in order %v; want 2 at most", m.most, m.order)
	}
	for _, name := range []string{"n1", "n2", "n3", "n4"} {
		if mc := r.world.machines[name]; mc.cuts != 1 || mc.cycles != 1 || mc.ons != 0 {
			t.Errorf("%s: %d cuts, %d cycles, %d power-ons; want 1, 1, 0", name, mc.cuts, mc.cycles, mc.ons)
		}
	}
}

// TestNodeThatNoBudgetCarries fails with the reason, and others go on.
func TestNodeThatNoBudgetCarries(t *testing.T) {
	t.Parallel()
	r, m := metered(2, "15kW", 1)
	big := *r.want.Cluster.Nodes[0].Hardware
	big.Power = inventory.Power{Watts: 16000, Text: "16kW"}
	r.want.Cluster.Nodes[0].Hardware = &big
	known, _, err := r.apply(t)
	if err != nil {
		t.Fatal(err)
	}
	if n := known.Nodes["n1"]; n.State != Failed || n.Reason != "was not switched on: n1 draws 16000 W, which is more than the 15000 W that rack a01 has for machines that start" {
		t.Error(n)
	}
	if known.Nodes["n2"].State != Ready || fmt.Sprint(m.order) != "[n2]" {
		t.Errorf("%s; switched on: %v", known.Nodes["n2"], m.order)
	}
}

// TestCrashKeepsTheBudget stops the controller after each of many journal writes:
// the next one counts what was starting, and the machines' own record holds
// over both.
func TestCrashKeepsTheBudget(t *testing.T) {
	r, _ := metered(5, "20kW", 2)
	if _, _, err := r.apply(t); err != nil {
		t.Fatal(err)
	}
	writes := len(r.log.(*memory).events)
	for at := 1; at < writes; at += 5 {
		t.Run(fmt.Sprint("after write ", at), func(t *testing.T) {
			t.Parallel()
			r, m := metered(5, "20kW", 2)
			j := r.log.(*memory)
			j.after = at
			if _, _, err := r.apply(t); !errors.Is(err, errKilled) {
				t.Fatalf("Run = %v; want the crash", err)
			}
			r.world.mu.Lock()
			r.world.engine = nil
			r.world.mu.Unlock()
			j.full, j.after = nil, 0
			known, _, err := r.apply(t)
			r.wantReady(t, known, err)
			if m.most > 2 || len(m.order) != 5 {
				t.Errorf("%d machines were starting at once, and power was switched on %d times; want 2 at most, and 5", m.most, len(m.order))
			}
		})
	}
}

// TestPowerOnRate: at one node in 1,000 s the second waits, though the budget has
// room and the first has long started.
func TestPowerOnRate(t *testing.T) {
	t.Parallel()
	r, m := metered(2, "400kW", 1)
	r.want.Cluster.Settings.PowerOnRate = 0.001
	ready, waits := false, false
	known := r.until(t, nil, 0, func(u Update) bool {
		ready, waits = ready || u.Node.State == Ready, waits || u.Node.Waits != ""
		return ready && waits
	})
	if len(m.order) != 1 || known.Nodes[m.order[0]].State != Ready {
		t.Errorf("switched on: %v; want one, which is ready", m.order)
	}
	for _, n := range known.Nodes {
		want := "waits for power: the nodes before it (rack a01 10kW of 400kW starting), at 0.001 a second"
		if n.State != Ready && n.Why() != want && n.Why() != strings.Replace(want, "10kW", "0kW", 1) {
			t.Errorf("%s %s; want %s", n.Name, n.Why(), want)
		}
	}
	// One that was let go in time is held back where the one before it was late.
	turns, sent := newTurns(r.want.Cluster, func() time.Time { return epoch }), 0
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for _, n := range r.want.Cluster.Nodes {
		err := turns.send(ctx, loadOf(r.want.Cluster, n, NewNode(n.Name), time.Hour), func() error { sent++; return nil })
		if (err == nil) != (n.Name == "n1") {
			t.Errorf("%s: %v", n.Name, err)
		}
		cancel()
	}
	if sent != 1 {
		t.Errorf("%d power actions were sent at once", sent)
	}
}

// until applies to some nodes, or all, until something has happened and some time
// has passed.
func (r rig) until(t *testing.T, targets []*inventory.Node, after time.Duration, happens func(Update) bool) Known {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	e, known := r.engine(t)
	e.Watch = func(u Update) {
		if happens(u) {
			time.AfterFunc(after, cancel)
		}
	}
	known, _ = e.Run(ctx, MakePlan(r.want, known, targets, time.Now()))
	return known
}

// TestOthersCount: a node that an apply before this one switched on counts,
// though this one is not about it.
func TestOthersCount(t *testing.T) {
	t.Parallel()
	r, m := metered(2, "10kW", 1)
	r.want.Cluster.Settings.PowerOnSettle = time.Hour
	r.world.machines["n1"].ignoreAll = true
	nodes := r.want.Cluster.Nodes
	r.until(t, nodes[:1], 0, func(u Update) bool { return u.Node.Boot != nil && !u.Node.Boot.Powered.IsZero() })
	// Long enough for a node that does not wait; one that waits does so for an hour.
	known := r.until(t, nodes[1:], 200*time.Millisecond, func(u Update) bool { return u.Node.Waits != "" })
	if known.Nodes["n2"].State != Reachable || fmt.Sprint(m.order) != "[n1]" {
		t.Errorf("n2 is %s, switched on: %v; want n2 to wait for n1", known.Nodes["n2"].State, m.order)
	}
	if got := known.Nodes["n2"].Why(); got != "waits for power: rack a01 10kW of 10kW starting" {
		t.Errorf("n2 %s", got)
	}
}

// TestSwitchedOnByHandCount: a node that was switched on by hand counts until it has
// settled, unless its agent has called home since.
func TestSwitchedOnByHandCount(t *testing.T) {
	t.Parallel()
	r, _ := metered(4, "10kW", 1)
	r.want.Cluster.Settings.PowerOnSettle = time.Hour
	known, now := NewKnown(), epoch.Add(2*time.Hour)
	home := NewNode("n3")
	home.Boot = &BootRecord{Home: &HelloData{}, HomeAt: now.Add(-time.Minute)}
	known.Nodes["n3"] = home
	turns := newTurns(r.want.Cluster, func() time.Time { return now })
	turns.takeUp(r.want.Cluster, known, map[string]time.Time{"n1": now.Add(-59 * time.Minute), "n2": now.Add(-time.Hour), "n3": now.Add(-2 * time.Minute)})
	for name, want := range map[string]bool{"n1": true, "n2": false, "n3": false, "n4": false} {
		if got := turns.sched.Starting(name, now); got != want {
			t.Errorf("%s counts as starting: %v; want %v", name, got, want)
		}
	}
	load := loadOf(r.want.Cluster, r.want.Cluster.Nodes[3], NewNode("n4"), time.Hour)
	if _, err := turns.ask(load); err != nil {
		t.Fatal(err)
	}
	if turns.has["n4"].come || turns.waiting(load) != "rack a01 10kW of 10kW starting" {
		t.Errorf("n4 waits for %s", turns.waiting(load))
	}
	turns.stop()
}

// TestWaitingNodesLeaveRoomToWork: nodes that wait for power do not hold the
// places of those in another rack.
func TestWaitingNodesLeaveRoomToWork(t *testing.T) {
	t.Parallel()
	r, m := metered(6, "10kW", 1)
	r.want.Cluster.Settings.Concurrency = 2
	r.want.Cluster.Nodes[5].Rack = &inventory.Rack{Name: "b01"}
	r.world.machines["n1"].ignoreAll = true
	r.want.Cluster.Settings.Deadlines["enrolled"] = 5 * time.Minute
	r.want.Cluster.Settings.Deadlines["provisioned"] = 5 * time.Minute
	ready, started := false, false // either may come first
	known := r.until(t, nil, 0, func(u Update) bool {
		ready = ready || u.Node.Name == "n6" && u.Node.State == Ready
		started = started || u.Node.Name == "n1" && u.Event.Kind == EventPowered && u.Node.Boot != nil && !u.Node.Boot.Powered.IsZero()
		return ready && started
	})
	if known.Nodes["n6"].State != Ready || fmt.Sprint(slices.Sorted(maps.Keys(m.starting))) != "[n1]" {
		t.Errorf("n6 is %s while %v start; want it ready while n1 does not come up", known.Nodes["n6"].State, m.starting)
	}
}

// TestStartingFrom: what a controller takes up of the one before it.
func TestStartingFrom(t *testing.T) {
	t.Parallel()
	now, set, rested := epoch.Add(time.Hour), epoch.Add(time.Minute), epoch.Add(2*time.Minute)
	boot := func(via string, change func(*Node)) Node {
		n := NewNode("n")
		n.Active, n.Since = true, rested
		n.Boot = &BootRecord{BootID: BootID{Via: via}, Ordered: epoch}
		change(&n)
		return n
	}
	tests := []struct {
		name string
		node Node
		want time.Time // zero: does not count
	}{
		{"no boot", NewNode("n"), time.Time{}},
		{"home", boot(viaPowerOn, func(n *Node) { n.Boot.Home = &HelloData{} }), time.Time{}},
		{"by the agent", boot(viaAgentReboot, func(n *Node) {}), time.Time{}},
		{"by itself", boot(viaItself, func(n *Node) {}), time.Time{}},
		{"confirmed", boot(viaPowerCycle, func(n *Node) { n.Boot.Powered = set }), set},
		{"under way", boot(viaPowerOn, func(n *Node) {}), now},
		{"failed before it was sent", boot(viaPowerOn, func(n *Node) { n.Active = false }), time.Time{}},
		{"outlets under way", boot(viaPowerOn, func(n *Node) { n.Climb = &Climb{Rung: RungOutlet, At: set} }), now},
		{"outlets on again", boot(viaPowerOn, func(n *Node) { n.Climb = &Climb{Rung: RungOutlet, At: set, Ended: rested} }), rested},
		{"booted since its outlets", boot(viaPowerCycle, func(n *Node) {
			n.Climb = &Climb{Rung: RungOutlet, At: epoch.Add(-time.Minute)}
			n.Boot.Powered = set
		}), set},
		{"BMC restarted", boot(viaPowerOn, func(n *Node) { n.Climb, n.Active = &Climb{Rung: RungBMCReset, At: set}, false }), time.Time{}},
		{"failed unconfirmed", boot(viaPowerOn, func(n *Node) { n.Active, n.Boot.Set = false, set }), rested},
	}
	for _, tt := range tests {
		if at, starting := startingFrom(tt.node, now); starting == tt.want.IsZero() || starting && !at.Equal(tt.want) {
			t.Errorf("%s: starting %v since %s; want %s", tt.name, starting, at, tt.want)
		}
	}
}
