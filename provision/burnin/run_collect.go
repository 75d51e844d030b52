package burnin

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"firstlight/provision/acceptance"
)

// GPURun is what one GPU did in a stage.
type GPURun struct {
	GPU      GPU        `json:"gpu"`
	Device   string     `json:"device,omitempty"`
	Driver   string     `json:"driver,omitempty"`
	Loads    []*LoadRun `json:"loads"` // in the order in which they first ran
	Samples  Series     `json:"samples"`
	MaxTemp  float64    `json:"max_temp,omitempty"`
	MaxPower float64    `json:"max_power,omitempty"`
	Throttle uint64     `json:"throttle,omitempty"` // every reason seen
	Hot      string     `json:"hot,omitempty"`      // the reading that ended the stage
}

// LoadRun adds up every phase of one load on one GPU.
type LoadRun struct {
	Load    Load              `json:"load"`
	Type    Type              `json:"type,omitempty"`
	Engine  acceptance.Engine `json:"engine,omitempty"` // as the worker told
	Kernel  string            `json:"kernel,omitempty"`
	Shape   Shape             `json:"shape"`
	Ready   bool              `json:"ready"`  // it told what it found
	Done    int               `json:"done"`   // phases carried out to their end
	Begun   int               `json:"begun"`  // phases begun
	Golden  Hex               `json:"golden"` // of the last phase
	Proven  int               `json:"proven"` // phases whose planted corruption was caught
	Proof   *Proof            `json:"proof,omitempty"`
	Asked   bool              `json:"asked"` // for a proof
	Micros  Histogram         `json:"micros"`
	Bad     []Mismatch        `json:"bad,omitempty"`
	Wrong   int               `json:"wrong"` // results, words or bytes
	Sweeps  int               `json:"sweeps"`
	BadWord *Sweep            `json:"bad_word,omitempty"` // the first
	Moved   []Transfer        `json:"moved,omitempty"`    // by path, added up
	Cover   Coverage          `json:"coverage"`
	Trouble string            `json:"trouble,omitempty"` // why a worker ended before its end
}

func newRuns(gpus []GPU) []*GPURun {
	var out []*GPURun
	for _, g := range gpus {
		out = append(out, &GPURun{GPU: g})
	}
	return out
}

// load is the record of one load, made at its first phase.
func (g *GPURun) load(o Order) *LoadRun {
	for _, l := range g.Loads {
		if l.Load == o.Load && l.Type == o.Type {
			return l
		}
	}
	l := &LoadRun{Load: o.Load, Type: o.Type, Asked: o.Prove}
	g.Loads = append(g.Loads, l)
	return l
}

func (g *GPURun) faulty() bool {
	for _, l := range g.Loads {
		if l.Wrong > 0 || l.Trouble != "" || (l.Asked && l.Proof != nil && !l.Proof.Caught) {
			return true
		}
	}
	return g.Hot != ""
}

// collector follows one worker through its order.
type collector struct {
	run      *GPURun
	load     *LoadRun
	order    Order
	limits   Limits
	abort    *aborted
	progress *progress

	running bool // past the golden result and the proof
	done    bool // it said so
	said    string
}

// stopsWithin is how long a worker that was asked to stop may take: it ends the
// product or the pattern that it is at.
const stopsWithin = 20 * time.Second

// sweepWithin bounds a sweep that has no time of its own.
const sweepWithin = 30 * time.Minute

// work runs the worker to its end. Whatever it does, work returns.
func (c *collector) work(ctx context.Context, start Starter) {
	c.load = c.run.load(c.order)
	c.load.Begun++
	w, err := start(c.order)
	if err != nil {
		c.trouble("%v", err)
		return
	}
	events := make(chan Event)
	gone := make(chan struct{})
	defer close(gone)
	torn := make(chan error, 1)
	go func() { // ends when the worker does, or with gone
		torn <- readEvents(w, events, gone)
		close(events)
	}()
	killed := c.follow(ctx, w, events)
	if killed {
		w.Kill()
	}
	w.Stop()
	err = w.Wait()
	stopped := ctx.Err() != nil
	switch {
	case c.load.Trouble != "":
	case stopped && (killed || err == nil) && c.said == "":
		c.load.Begun-- // what it did counts; the phase is to be done again
	case c.said != "":
		c.trouble("%s", c.said)
	case !c.done:
		if tornErr := <-torn; tornErr != nil {
			c.trouble("%v", tornErr)
		} else if err != nil {
			c.trouble("it ended without a word: %v", err)
		} else {
			c.trouble("it ended without a word")
		}
	case err != nil:
		c.trouble("%v", err)
	default:
		c.load.Done++
	}
}

func (c *collector) trouble(format string, args ...any) {
	if c.load.Trouble == "" {
		c.load.Trouble = fmt.Sprintf(format, args...)
	}
}

// longestEvent is more than a second of iterations takes.
const longestEvent = 4 << 20

func readEvents(w *Worker, events chan<- Event, gone <-chan struct{}) error {
	defer w.Events.Close()
	lines := bufio.NewScanner(w.Events)
	lines.Buffer(make([]byte, 64<<10), longestEvent)
	for lines.Scan() {
		var e Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return fmt.Errorf("worker says what is no event: %w", err)
		}
		select {
		case events <- e:
		case <-gone:
			return nil
		}
	}
	return nil // how it ended says more than how its pipe did
}

// follow takes events until they end, and says whether the worker must be
// killed.
func (c *collector) follow(ctx context.Context, w *Worker, events <-chan Event) (kill bool) {
	whole := time.Duration(c.order.Seconds*float64(time.Second)) + c.limits.Start + c.limits.Silence
	if c.order.Seconds == 0 {
		whole = sweepWithin
	}
	limit := time.NewTimer(whole)
	defer limit.Stop()
	quiet := time.NewTimer(c.limits.Start)
	defer quiet.Stop()
	stop := ctx.Done()
	var late <-chan time.Time
	for {
		select {
		case e, ok := <-events:
			if !ok {
				return false
			}
			c.take(e)
			quiet.Reset(c.silence())
		case <-stop:
			stop, late = nil, time.After(stopsWithin)
			w.Stop()
		case <-late:
			return true // it was told to stop: whatever it does now is no finding
		case <-quiet.C:
			c.trouble("no word for %s: it hangs", c.silence())
			return true
		case <-limit.C:
			c.trouble("it was not done after %s", whole)
			return true
		}
	}
}

func (c *collector) silence() time.Duration {
	if !c.running {
		return c.limits.Start
	}
	return c.limits.Silence
}

// take files one event.
func (c *collector) take(e Event) {
	l := c.load
	switch {
	case e.Kind == EventReady && e.Ready != nil:
		l.Ready, l.Engine, l.Kernel, l.Shape = true, e.Ready.Engine, e.Ready.Kernel, e.Ready.Shape
		c.run.Device, c.run.Driver = e.Ready.Device, e.Ready.Driver
		if e.Ready.Engine != c.order.Engine {
			c.trouble("the %s engine answered an order for the %s engine", e.Ready.Engine, c.order.Engine)
		}
		if e.Ready.PCI != "" {
			c.run.GPU.PCI = e.Ready.PCI
		}
		if e.Ready.UUID != "" {
			c.run.GPU.UUID = e.Ready.UUID
		}
	case e.Kind == EventGolden && e.Golden != nil:
		l.Golden = e.Golden.Hash
	case e.Kind == EventProof && e.Proof != nil:
		c.running, l.Proof = true, e.Proof
		if e.Proof.Caught {
			l.Proven++
		}
	case e.Kind == EventSample && e.Sample != nil:
		c.sample(*e.Sample)
	case e.Kind == EventIterations && e.Iterations != nil:
		c.running = true
		for _, us := range e.Iterations.Micros {
			l.Micros.Add(us)
		}
	case e.Kind == EventMismatch && e.Mismatch != nil:
		if l.Wrong++; len(l.Bad) < mostMismatches {
			l.Bad = append(l.Bad, *e.Mismatch)
		}
		c.progress.wrong()
	case e.Kind == EventSweep && e.Sweep != nil:
		c.sweep(*e.Sweep)
	case e.Kind == EventTransfer && e.Transfer != nil:
		l.moved(*e.Transfer)
	case e.Kind == EventCoverage && e.Coverage != nil:
		l.Cover.add(*e.Coverage)
	case e.Kind == EventError:
		c.said = e.Error
		if c.said == "" {
			c.said = "it failed and does not say why"
		}
	case e.Kind == EventDone:
		c.done = true
	}
}

func (c *collector) sweep(s Sweep) {
	c.running = true
	l := c.load
	l.Sweeps++
	if s.Errors == 0 {
		return
	}
	l.Wrong += int(min(s.Errors, 1<<40))
	if l.BadWord == nil {
		l.BadWord = &s
	}
	c.progress.wrong()
}

func (c *collector) sample(s Sample) {
	g := c.run
	g.MaxTemp, g.MaxPower = max(g.MaxTemp, s.Temp), max(g.MaxPower, s.Power)
	g.Throttle |= s.Throttle
	// Samples that were read from a damaged file are not worth a burn-in.
	if err := g.Samples.Add(c.progress.now(), s); err != nil {
		g.Samples = Series{}
	}
	c.progress.sample(g.GPU.Index, s)
	if s.Temp > c.limits.Temp && g.Hot == "" {
		g.Hot = fmt.Sprintf("%.0f °C", s.Temp)
		c.abort.set(fmt.Sprintf("%s is at %.0f °C; the limit is %.0f °C", g.GPU, s.Temp, c.limits.Temp))
	}
}

// moved adds a transfer to those of its path.
func (l *LoadRun) moved(t Transfer) {
	l.Wrong += int(min(t.Errors, 1<<40))
	for i := range l.Moved {
		if m := &l.Moved[i]; m.Path == t.Path {
			m.Bytes, m.Seconds, m.Errors = m.Bytes+t.Bytes, m.Seconds+t.Seconds, m.Errors+t.Errors
			return
		}
	}
	l.Moved = append(l.Moved, t)
}

// add sums up two phases.
func (c *Coverage) add(o Coverage) {
	c.Iterations += o.Iterations
	c.FLOPs += o.FLOPs
	c.Bytes += o.Bytes
	c.Seconds += o.Seconds
	c.SMs, c.Pairs = max(c.SMs, o.SMs), max(c.Pairs, o.Pairs)
}
