package provision

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"firstlight/inventory"
	"firstlight/provision/acceptance"
	"firstlight/provision/agent/api"
)

// Baseboard is what the engine needs of a node's BMC. A *Refused error is
// final; any other is tried again.
type Baseboard interface {
	// Identity reads who the BMC and its machine say they are.
	Identity(ctx context.Context, n *inventory.Node) (BMCIdentity, error)
	// Power reads the power state: "on" or "off".
	Power(ctx context.Context, n *inventory.Node) (string, error)
	// SetPower carries out "on", "off" or "cycle" and reads back. An
	// *Unconfirmed error says that it may have been done.
	SetPower(ctx context.Context, n *inventory.Node, op string) error
	// SetBootPXE asks for UEFI PXE at the next boot, or at every boot when
	// persistent, and reads back.
	SetBootPXE(ctx context.Context, n *inventory.Node, persistent bool) error
}

// Agents is what the engine needs of the agents on the nodes.
type Agents interface {
	// Do hands a job to the agent of one boot and waits for its result.
	Do(ctx context.Context, node, bootID string, job api.Job) (api.Result, error)
	// Seen is when the node's agent last spoke; false when it never did.
	Seen(node string) (time.Time, bool)
}

// Archive keeps evidence by digest.
type Archive interface {
	Put(content []byte) (digest string, err error)
	Get(digest string) ([]byte, error)
}

// BMCIdentity is what a BMC says of itself. Empty: it did not say.
type BMCIdentity struct {
	Manufacturer, Product, Serial, Firmware string
	// Detour says by which protocol it was asked instead of the one declared
	// first, and why; "" when it was not.
	Detour string
}

// Refused is an answer that trying again does not change.
type Refused struct {
	Reason string
	Person bool // nothing is tried again until a person has acted
}

func (e *Refused) Error() string { return e.Reason }

// Unconfirmed is a power action that was sent and not answered: whether it was
// carried out shows on the wire, and it must not be sent again before.
type Unconfirmed struct{ Reason string }

func (e *Unconfirmed) Error() string { return e.Reason }

// Image is what the catalogue holds of an image.
type Image struct {
	Name   string
	Digest string // of the manifest
	Root   string // digest of the root file system; "" when it has none
	Kernel string // release
}

// Update is one thing that happened, for whoever watches.
type Update struct {
	Event Event
	Node  Node // after the event; zero for an event about the cluster
}

// Engine carries out recorded plan steps. Its fields are set before Run and
// left alone.
type Engine struct {
	Want      Want
	BringUp   Image
	Images    map[string]Image // by image name
	Journal   Journal
	Archive   Archive
	Baseboard Baseboard
	Other     Baseboard // BMCs by the other protocol declared for them; nil: none is
	Recovery  Recovery
	Meter     Meter // nil: no BMC is asked what its node draws
	Agents    Agents
	Fabric    Fabric                                  // nil: no node that declares an HCA is validated
	Signer    func(acceptance.Record) ([]byte, error) // the signed record
	By        string                                  // who applies: program, version, process and host
	Lab       bool                                    // machines are virtual or simulated
	Engine    acceptance.Engine                       // what readings come from
	Now       func() time.Time
	NewID     func() string // fresh identity of a boot
	Watch     func(Update)  // called in journal order; must not block
	// MeterEvery is the time between two readings of the power of a node that starts;
	// 0: ten seconds.
	MeterEvery time.Duration
	// Console is the last lines that a node's serial console showed, which a failed
	// boot is told with; nil: nobody looks at consoles.
	Console func(node string) []string
	// SwitchedOn is when nodes were switched on by hand last: they count as starting.
	SwitchedOn map[string]time.Time
	Log        *slog.Logger

	mu      sync.Mutex
	known   Known
	changed chan struct{}     // closed and renewed at each change
	acts    map[string]Action // pending by node
	writes  chan writeRequest // to the journal
	bmcs    chan struct{}     // BMC conversations at once
	slots   chan struct{}     // nodes at once
	turns   *turns            // who may be switched on
	cabling *cabling
	sweeps  *sweeps
	failed  context.CancelCauseFunc
	byMAC   map[string]*inventory.Node
	nodes   map[string]*inventory.Node
	foreign map[string]time.Time // undeclared MACs, last journalled
	scripts sync.Mutex           // one boot is handed out at a time
	sights  chan sighted         // seen on the wire, to be journalled
}

type writeRequest struct {
	events []Event
	done   chan error
}

// Load reads the journal and prepares the engine. It is called once, before
// Run and before anything of the outside reaches the engine.
func (e *Engine) Load(ctx context.Context) (Known, error) {
	e.known = NewKnown()
	events, _, err := e.Journal.Read(ctx, 0)
	if err != nil {
		return Known{}, err
	}
	if _, err := e.known.Fold(events); err != nil {
		return Known{}, err
	}
	e.changed = make(chan struct{})
	e.acts = map[string]Action{}
	e.writes = make(chan writeRequest)
	e.sights = make(chan sighted, 4096)
	e.cabling, e.sweeps = newCabling(e.Want.Cluster), newSweeps()
	e.Want.cables = e.cabling
	s := e.Want.Cluster.Settings
	e.bmcs = make(chan struct{}, max(s.BMCConcurrency, 1))
	e.slots = make(chan struct{}, max(s.Concurrency, 1))
	e.byMAC, e.nodes, e.foreign = map[string]*inventory.Node{}, map[string]*inventory.Node{}, map[string]time.Time{}
	for _, n := range e.Want.Cluster.Nodes {
		e.nodes[n.Name] = n
		for _, nic := range n.NICs {
			e.byMAC[nic.MAC.String()] = n
		}
	}
	e.takeUpTurns()
	return e.snapshot(), nil
}

// Run carries out a plan and returns when every node of it has come to rest,
// or when ctx ends or the journal fails. One node's failure never stops
// another. The returned state is that of the moment it ends.
func (e *Engine) Run(ctx context.Context, plan Plan) (Known, error) {
	// Nothing is written before the writer starts, so what the outside has to
	// say already cannot make the plan stale.
	if plan.Serial != e.known.Serial {
		return e.snapshot(), fmt.Errorf("plan is stale: it was made at serial %d and the journal is at %d: %w", plan.Serial, e.known.Serial, ErrConflict)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	e.failed = cancel
	var writer sync.WaitGroup
	writerCtx, stopWriter := context.WithCancel(context.WithoutCancel(ctx))
	writer.Go(func() { e.write(writerCtx) })
	writer.Go(func() { e.recordSights(writerCtx) })
	defer writer.Wait()
	defer stopWriter()
	sweeping, stopSweeping := context.WithCancel(ctx)
	writer.Go(func() { e.sweepFabric(sweeping) })
	defer stopSweeping()
	defer e.turns.stop()

	if err := e.begin(ctx, plan); err != nil {
		return e.snapshot(), err
	}
	var workers sync.WaitGroup
	for _, s := range plan.Nodes {
		if n := e.nodes[s.Name]; n != nil {
			workers.Go(func() { e.drive(ctx, n) })
		}
	}
	workers.Wait()
	return e.snapshot(), context.Cause(ctx)
}

// snapshot is what is known now, in maps of its own.
func (e *Engine) snapshot() Known {
	e.mu.Lock()
	defer e.mu.Unlock()
	return Known{Serial: e.known.Serial, Nodes: maps.Clone(e.known.Nodes), Discovered: maps.Clone(e.known.Discovered)}
}

// begin records what the plan starts. A node whose step is already under way
// (an earlier apply was interrupted) and needs nothing else is left to resume.
func (e *Engine) begin(ctx context.Context, plan Plan) error {
	s := e.Want.Cluster.Settings
	var events []Event
	add := func(node, kind string, data any) error {
		ev, err := newEvent(e.Now(), node, kind, data)
		events = append(events, ev)
		return err
	}
	err := add("", EventApply, ApplyData{Inventory: plan.Inventory, By: e.By, Targets: plan.Targets})
	for _, step := range plan.Nodes {
		switch step.Action {
		case ActionRemove:
			err = errors.Join(err, add(step.Name, EventForget, ReasonData{Reason: "no longer declared"}))
		case ActionBringUp, ActionChange:
			if known := e.node(step.Name); known.Active && len(step.Redo) == 0 {
				continue
			}
			if step.Release {
				err = errors.Join(err, add(step.Name, EventRelease, ReasonData{Reason: "what held it has changed"}))
			}
			err = errors.Join(err, add(step.Name, EventStart, StartData{Redo: step.Redo, Reasons: step.Reasons,
				Attempts: s.Attempts, Backoff: secondsOf(s.Backoff), Ladder: step.Ladder}))
		}
	}
	if err != nil {
		return err
	}
	if err := e.record(ctx, events...); err != nil {
		return err
	}
	e.resume(plan)
	return nil
}

// resume takes up what was under way before a restart.
func (e *Engine) resume(plan Plan) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, step := range plan.Nodes {
		if step.Action != ActionBringUp && step.Action != ActionChange {
			continue
		}
		for _, a := range e.known.Node(step.Name).Pending(e.Now()) {
			e.acts[step.Name] = a
			if n := e.nodes[step.Name]; n != nil && step.Wave > 0 {
				c := e.Want.Cluster
				e.turns.expect(loadOf(c, n, e.known.Node(n.Name), settleOf(c)))
			}
		}
	}
}

// drive works on one node until nothing more is asked for it.
func (e *Engine) drive(ctx context.Context, n *inventory.Node) {
	select {
	case e.slots <- struct{}{}:
		defer func() { <-e.slots }()
	case <-ctx.Done():
		return
	}
	for ctx.Err() == nil {
		act, ok := e.take(n.Name)
		if !ok {
			return
		}
		if !sleep(ctx, act.NotBefore.Sub(e.Now())) {
			return
		}
		e.attempt(ctx, n, act)
	}
}

func (e *Engine) take(name string) (Action, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	a, ok := e.acts[name]
	delete(e.acts, name)
	return a, ok
}

// attempt runs one activity and records its outcome. An outcome that comes of
// our own shutdown is not the node's and is not recorded.
func (e *Engine) attempt(ctx context.Context, n *inventory.Node, act Action) {
	if act.Do == Identify {
		select {
		case e.bmcs <- struct{}{}:
			defer func() { <-e.bmcs }()
		case <-ctx.Done():
			return
		}
	}
	ev, late, err := e.inTurn(ctx, n, act)
	if ctx.Err() != nil {
		return
	}
	var refused *Refused
	switch {
	case err == nil:
		err = e.recordOne(ctx, n.Name, EventPassed, ev)
	case errors.As(err, &refused):
		data := RefusedData{Proof: act.Proof, Reason: refused.Reason, Person: refused.Person, Evidence: ev.Evidence, Adapters: ev.Adapters}
		if refused.Person {
			// Whatever was being done, it is a BMC that sent us to a person.
			data.Facets = only(e.Want.Facets(n), stagePrefixes(Reachable))
		}
		err = e.recordOne(ctx, n.Name, EventRefused, data)
	default:
		reason := err.Error()
		if late && errors.Is(err, context.DeadlineExceeded) {
			reason = fmt.Sprintf("%s did not end within %s: %s", act.Do, e.allowed(n, act.Proof), reason)
		}
		err = e.recordOne(ctx, n.Name, EventMissed, MissedData{Proof: act.Proof, Reason: reason, Stuck: isObstacle(err)})
	}
	if err != nil && ctx.Err() == nil {
		e.Log.Error("outcome not recorded", "node", n.Name, "error", err)
		e.failed(err)
	}
}

// deadline of one attempt at a proof.
func (e *Engine) deadline(proof State) time.Duration { return deadlineFor(e.Want.Cluster, proof) }

func deadlineFor(c *inventory.Cluster, proof State) time.Duration {
	if d, ok := c.Settings.Deadlines[string(proof)]; ok && d > 0 {
		return d
	}
	st, _ := StageOf(proof)
	return st.Deadline
}

// node returns what is known of a node now.
func (e *Engine) node(name string) Node {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.known.Node(name)
}

// await waits until a node fulfils a condition.
func (e *Engine) await(ctx context.Context, name string, cond func(Node) bool) (Node, error) {
	for {
		e.mu.Lock()
		n, changed := e.known.Node(name), e.changed
		e.mu.Unlock()
		if cond(n) {
			return n, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return n, ctx.Err()
		}
	}
}

// wake lets every await look again.
func (e *Engine) wake() {
	close(e.changed)
	e.changed = make(chan struct{})
}

func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
