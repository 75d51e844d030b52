package provision

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"firstlight/inventory"
	"firstlight/provision/acceptance"
)

// Fabric is what the engine needs of the fabrics that nodes are cabled to.
type Fabric interface {
	// Sweep reads all of them once, counters too, and judges the nodes that wait,
	// each by what was counted since it began to wait. It is called by one
	// goroutine. A *Refused error is final: reading again is no use.
	Sweep(ctx context.Context, known Known, waiting map[string]time.Time) (map[string]FabricVerdict, error)
}

// FabricVerdict is what a fabric says of one node.
type FabricVerdict struct {
	Checks []acceptance.Check
	Do     []string // what a person has to do before it can pass, or what is waited for
}

// How often the fabric is read while nodes wait: a part of the shortest window,
// and never so that reading it takes more than a quarter of the time.
const (
	sweepsPerWindow = 6
	shortestPause   = 100 * time.Millisecond
	longestPause    = 10 * time.Second
	sweepShare      = 4
)

// fabricWindow is how long counters are watched where nothing else is declared.
const fabricWindow = time.Minute

// What a check says that is about the whole of a node's fabric.
const (
	fabricPart      = "compute fabric"
	fabricThreshold = "cabling, rate, state and counters of every declared HCA"
)

// FabricWindow is how long the error counters of a node's links are watched
// before it is validated; 0 where it declares no HCA.
func FabricWindow(n *inventory.Node) time.Duration {
	switch {
	case n.Hardware == nil || len(n.Hardware.HCAs) == 0:
		return 0
	case n.Acceptance != nil && n.Acceptance.Fabric != nil && n.Acceptance.Fabric.Window.Duration > 0:
		return n.Acceptance.Fabric.Window.Duration
	}
	return fabricWindow
}

// allowed is the deadline of one attempt of a node: counting takes its time on
// top of what the lifecycle gives, and a soak what it is declared to take.
func (e *Engine) allowed(n *inventory.Node, proof State) time.Duration {
	d := e.deadline(proof)
	switch _, declared := e.Want.Cluster.Settings.Deadlines[string(proof)]; {
	case proof == Validated:
		d += FabricWindow(n)
	case proof == BurnedIn && !declared:
		d = max(d, 2*burnInTime(n)) // a soak of days
	}
	return d
}

// checkFabric judges the node's own adapters by what the fabric says of them. It
// waits for readings until the verdict stands: what fails is read again for the
// window, since a port may still be training, and what is not decided is waited
// for within the deadline.
func (e *Engine) checkFabric(ctx context.Context, n *inventory.Node) FabricVerdict {
	window := FabricWindow(n)
	if window == 0 {
		return FabricVerdict{Checks: []acceptance.Check{{Name: "fabric", Verdict: acceptance.NotApplicable, Part: fabricPart,
			Reading: "no HCA is declared", Threshold: "none declared", Source: where(n.Range)}}}
	}
	if !e.cabling.readable() {
		return FabricVerdict{} // its cables are told of by unchecked
	}
	if e.Fabric == nil {
		return unread(n, "this controller has nothing to read it with")
	}
	since := e.Now()
	w := e.sweeps.join(n.Name, since, window)
	defer e.sweeps.leave(n.Name)
	last := unread(n, "it was not read in the time allowed")
	for {
		select {
		case r := <-w.results:
			last = r.of(n)
			switch verdict := (acceptance.Evidence{Checks: last.Checks}).Verdict(); {
			case verdict == acceptance.Pass, r.final():
				return last
			case verdict == acceptance.Fail && r.began.Sub(since) >= window:
				return last
			}
		case <-ctx.Done():
			return last
		}
	}
}

// unread is the verdict on a node of whose fabric nothing is known.
func unread(n *inventory.Node, why string) FabricVerdict {
	src := where(n.Hardware.Range)
	return FabricVerdict{Checks: []acceptance.Check{{Name: "fabric", Verdict: acceptance.NotRun, Part: fabricPart,
		Reading: why, Threshold: fabricThreshold, Source: src}}, Do: []string{"fabric not run: " + why}}
}

// concludeChecks files the evidence of the node's own checks and of its fabric.
// The reason names what to do about the fabric, and not every check of it.
func (e *Engine) concludeChecks(n *inventory.Node, checks []acceptance.Check, of FabricVerdict) (PassedData, error) {
	data, err := e.conclude(n, Validated, slices.Concat(checks, of.Checks))
	var refused *Refused
	if !errors.As(err, &refused) {
		return data, err
	}
	var reasons []string
	if own := failures(checks); own != "" {
		reasons = append(reasons, own)
	}
	if (acceptance.Evidence{Checks: of.Checks}).Verdict() != acceptance.Pass {
		reasons = append(reasons, of.Do...)
	}
	if len(reasons) > 0 {
		err = &Refused{Reason: strings.Join(reasons, "; "), Person: refused.Person}
	}
	return data, err
}

// swept is the outcome of one reading.
type swept struct {
	began time.Time
	nodes map[string]FabricVerdict
	err   error
}

func (s swept) final() bool {
	var refused *Refused
	return errors.As(s.err, &refused)
}

func (s swept) of(n *inventory.Node) FabricVerdict {
	if s.err != nil {
		return unread(n, fmt.Sprintf("it could not be read: %v", s.err))
	}
	v, ok := s.nodes[n.Name]
	if !ok || len(v.Checks) == 0 {
		return unread(n, "it was read, and nothing was said of this node")
	}
	return v
}

// sweeps shares readings of the fabric among the nodes that wait for them.
type sweeps struct {
	mu      sync.Mutex
	waiting map[string]*waiter // by node
	wake    chan struct{}      // holds one when somebody has joined
}

// waiter is a node that waits; results holds the newest reading.
type waiter struct {
	since   time.Time
	window  time.Duration
	results chan swept
}

func newSweeps() *sweeps {
	return &sweeps{waiting: map[string]*waiter{}, wake: make(chan struct{}, 1)}
}

func (s *sweeps) join(node string, since time.Time, window time.Duration) *waiter {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := &waiter{since: since, window: window, results: make(chan swept, 1)}
	s.waiting[node] = w
	select {
	case s.wake <- struct{}{}:
	default:
	}
	return w
}

func (s *sweeps) leave(node string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.waiting, node)
}

// now is who waits, since when, and the shortest of their windows.
func (s *sweeps) now() (since map[string]time.Time, window time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	since = map[string]time.Time{}
	for node, w := range s.waiting {
		since[node] = w.since
		if window == 0 || w.window < window {
			window = w.window
		}
	}
	return since, window
}

// tell gives a reading to those it was made for. One that was not taken yet is
// replaced: only the newest counts.
func (s *sweeps) tell(r swept, to map[string]time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for node, since := range to {
		w := s.waiting[node]
		if w == nil || !w.since.Equal(since) {
			continue
		}
		select {
		case <-w.results:
		default:
		}
		w.results <- r
	}
}

// sweepFabric reads the fabric while nodes wait for it, one reading for all, and
// ends with ctx.
func (e *Engine) sweepFabric(ctx context.Context) {
	for ctx.Err() == nil {
		waiting, window := e.sweeps.now()
		if len(waiting) == 0 {
			select {
			case <-e.sweeps.wake:
			case <-ctx.Done():
			}
			continue
		}
		began := e.Now()
		nodes, err := e.Fabric.Sweep(ctx, e.snapshot(), waiting)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			e.Log.Warn("fabric not read", "error", err)
		}
		e.sweeps.tell(swept{began, nodes, err}, waiting)
		took := e.Now().Sub(began)
		sleep(ctx, max(min(max(window/sweepsPerWindow, shortestPause), longestPause), (sweepShare-1)*took))
	}
}
