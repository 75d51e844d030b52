package burnin

import (
	"context"
	"fmt"
	"sync"
	"time"

	"firstlight/provision/acceptance"
)

// The stages of a burn-in, as the inventory's acceptance block names them.
const (
	StageGEMM  = "gemm"      // quick: products for its duration
	StageSweep = "hbm_sweep" // quick: the whole memory once, pattern by pattern
	StageSoak  = "soak"      // long: every load in turns, all GPUs together
)

// Stage is one stage to carry out.
type Stage struct {
	Name    string  `json:"name"`
	Seconds float64 `json:"seconds,omitempty"` // StageSweep ends when the memory is done
	Source  string  `json:"source,omitempty"`  // where it is declared
}

// Phase is a part of a stage: all GPUs under the same load.
type Phase struct {
	Load    Load
	Type    Type
	Seconds float64
}

// soakTurn is the order of a soak's loads and their shares of a turn: products
// most of the time, for heat and for their checks; memory, the links and power
// transients in between. What an engine has not is left out, and said.
var soakTurn = []Phase{
	{LoadGEMM, BF16, 360}, {LoadMemory, "", 90}, {LoadGEMM, FP8, 60}, {LoadPulse, BF16, 60}, {LoadHost, "", 15}, {LoadPeer, "", 15},
}

// Loads lists what an engine can do.
func Loads(e acceptance.Engine) []Load {
	if e == acceptance.EngineReference {
		return []Load{LoadGEMM, LoadMemory, LoadPulse}
	}
	return []Load{LoadGEMM, LoadMemory, LoadStream, LoadHost, LoadPeer, LoadPulse}
}

// Phases cuts a stage into phases.
func (s Stage) Phases(e acceptance.Engine) []Phase {
	switch s.Name {
	case StageGEMM:
		return []Phase{{LoadGEMM, BF16, s.Seconds}}
	case StageSweep:
		return []Phase{{LoadMemory, "", 0}}
	}
	var turn []Phase
	sum := 0.0
	for _, p := range soakTurn {
		for _, l := range Loads(e) {
			if l == p.Load {
				turn = append(turn, p)
				sum += p.Seconds
			}
		}
	}
	// A soak shorter than a turn does a turn at once, each load for its share.
	scale := min(1, s.Seconds/sum)
	var out []Phase
	for left := s.Seconds; left > 0.001; {
		for _, p := range turn {
			p.Seconds = min(p.Seconds*scale, left)
			if left -= p.Seconds; p.Seconds > 0.001 {
				out = append(out, p)
			}
		}
	}
	return out
}

// GPU is one to burn in.
type GPU struct {
	Index int    `json:"index"` // in PCI order
	UUID  string `json:"uuid,omitempty"`
	PCI   string `json:"pci,omitempty"`
}

// String names it as an engineer finds it.
func (g GPU) String() string {
	s := fmt.Sprintf("GPU %d", g.Index)
	if g.PCI != "" {
		s += " (" + g.PCI + ")"
	}
	return s
}

// Limits end a stage at once.
type Limits struct {
	Temp    float64       // °C of the GPU; 0 means DefaultTemp
	Silence time.Duration // without a word of a worker; 0 means a minute
	Start   time.Duration // for the kernel, the golden result and the proof; 0 means three minutes
}

// DefaultTemp is where a burn-in ends, in °C: an H200 slows itself down at 87 and
// stops at 92 or so, and what is hotter is not cooled.
const DefaultTemp = 90

func (l Limits) orDefault() Limits {
	if l.Temp <= 0 {
		l.Temp = DefaultTemp
	}
	if l.Silence <= 0 {
		l.Silence = time.Minute
	}
	if l.Start <= 0 {
		l.Start = 3 * time.Minute
	}
	return l
}

// Progress is how far a burn-in is.
type Progress struct {
	Stage   string  `json:"stage"`
	Load    Load    `json:"load"`
	Elapsed float64 `json:"elapsed_s"` // of the whole burn-in
	Left    float64 `json:"left_s"`    // a sweep counts as nothing
	Wrong   int     `json:"wrong"`     // results so far
	TFLOPs  float64 `json:"tflops"`    // of all GPUs, of the last sample
	Temp    float64 `json:"temp"`      // of the hottest
}

// Runner burns in the GPUs of one node. Engine, Start and GPUs are needed.
type Runner struct {
	Engine acceptance.Engine
	Start  Starter
	GPUs   []GPU
	Limits Limits
	Seed   uint64
	Fault  *Fault // planted by tests and labs
	// Watch is told of trouble outside the workers, as the kernel log has it: it
	// calls report until ctx ends. What is reported ends the stage. nil: nobody
	// watches, and the evidence says so.
	Watch func(ctx context.Context, report func(Trouble))
	// Health reads the GPUs through their driver: before the first phase, under
	// load, and after each phase. It has a deadline of its own, and returns soon
	// after ctx ends. nil: nobody reads them, and the evidence of GPUs says so.
	Health      func(ctx context.Context) Health
	HealthEvery time.Duration // under load; 0 means a minute
	// Progress is called now and then, by one goroutine at a time. nil: nobody
	// has to know.
	Progress func(Progress)
	// Saved is called after each phase with what is done so far, for Resume. nil
	// keeps nothing.
	Saved func(*Burn)
}

// Trouble is something the driver or the kernel said of a GPU.
type Trouble struct {
	PCI  string `json:"pci,omitempty"` // of the GPU; "" when not known
	Code int    `json:"code"`          // Xid
	Line string `json:"line"`
}

// Burn is what was done and seen, stage by stage.
type Burn struct {
	Engine  acceptance.Engine `json:"engine"`
	GPUs    []GPU             `json:"gpus"`
	Seed    uint64            `json:"seed"`
	Planted bool              `json:"planted,omitempty"` // with a fault on purpose
	Began   time.Time         `json:"began"`
	Stages  []*StageBurn      `json:"stages"`
	Health  []*HealthRun      `json:"health,omitempty"` // of each run of it
}

// StageBurn is one stage of a Burn.
type StageBurn struct {
	Stage   Stage     `json:"stage"`
	Done    int       `json:"done"`   // phases
	Phases  int       `json:"phases"` // of them
	Seconds float64   `json:"seconds"`
	Stopped string    `json:"stopped,omitempty"` // why it ended before its end
	Trouble []Trouble `json:"trouble,omitempty"`
	Watched bool      `json:"watched"` // for trouble
	GPUs    []*GPURun `json:"gpus"`
}

// Run carries out the stages one after the other. It ends with the first that
// shows a fault, and with ctx: then it has stopped cleanly, and Run with what
// it returned as resume goes on at the phase that was under way. resume is nil
// for a new burn-in.
func (r *Runner) Run(ctx context.Context, stages []Stage, resume *Burn) *Burn {
	b := resume
	if b == nil {
		b = &Burn{Engine: r.Engine, GPUs: r.GPUs, Seed: r.Seed, Planted: r.Fault != nil, Began: time.Now().UTC()}
	}
	p, v := newProgress(r, stages, b), newVitals(r, b)
	for i, s := range stages {
		if i == len(b.Stages) {
			b.Stages = append(b.Stages, &StageBurn{Stage: s, Phases: len(s.Phases(r.Engine)), GPUs: newRuns(r.GPUs)})
		}
		sb := b.Stages[i]
		r.stage(ctx, sb, p, v, b)
		if ctx.Err() != nil || sb.faulty() {
			break
		}
	}
	return b
}

// faulty reports a stage after which going on says nothing more.
func (s *StageBurn) faulty() bool {
	if s.Stopped != "" || len(s.Trouble) > 0 {
		return true
	}
	for _, g := range s.GPUs {
		if g.faulty() {
			return true
		}
	}
	return false
}

// stage carries out what is left of a stage.
func (r *Runner) stage(ctx context.Context, sb *StageBurn, p *progress, v *vitals, b *Burn) {
	phases := sb.Stage.Phases(r.Engine)
	watching, stop := context.WithCancel(ctx)
	defer stop()
	w := &watch{}
	if r.Watch != nil {
		sb.Watched = true
		var ended sync.WaitGroup
		ended.Go(func() { r.Watch(watching, w.report) }) // ends with watching
		defer ended.Wait()
		defer stop()
	}
	sb.Stopped = ""
	for sb.Done < len(phases) && ctx.Err() == nil && !sb.faulty() {
		if v.before(ctx); ctx.Err() != nil {
			break
		}
		began := time.Now()
		p.phase(sb.Stage.Name, phases[sb.Done])
		why := r.phase(ctx, sb, phases[sb.Done], w, p, v)
		sb.Seconds += time.Since(began).Seconds()
		v.after(ctx)
		sb.Trouble = append(sb.Trouble, w.take()...)
		if ctx.Err() != nil {
			break
		}
		if sb.Stopped = why; why == "" {
			sb.Done++
		}
		if r.Saved != nil {
			r.Saved(b)
		}
	}
}

// phase puts all GPUs under a load, and says why it ended early.
func (r *Runner) phase(ctx context.Context, sb *StageBurn, ph Phase, w *watch, p *progress, v *vitals) string {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	abort := &aborted{cancel: cancel}
	w.use(abort)
	defer w.use(nil)
	var all sync.WaitGroup
	for i, g := range sb.GPUs {
		if ph.Load == LoadPeer && len(sb.GPUs) < 2 {
			break // it has none
		}
		o := Order{Version: ProtocolVersion, Engine: r.Engine, GPU: g.GPU.Index, UUID: g.GPU.UUID, Load: ph.Load, Type: ph.Type,
			Seed: r.Seed, Seconds: ph.Seconds, Sample: 1, Prove: ph.Load == LoadGEMM || ph.Load == LoadPulse, Fault: r.Fault}
		if ph.Load == LoadPeer {
			o.Peer = sb.GPUs[(i+1)%len(sb.GPUs)].GPU.Index
		}
		all.Go(func() { // ends with the worker, which is killed when it is silent
			c := &collector{run: g, order: o, limits: r.Limits.orDefault(), abort: abort, progress: p}
			c.work(ctx, r.Start)
		})
	}
	looking, enough := context.WithCancel(ctx)
	var look sync.WaitGroup
	look.Go(func() { v.under(looking, p, len(sb.GPUs)) }) // ends with looking
	all.Wait()
	enough()
	look.Wait()
	return abort.why()
}

// aborted ends a phase for all GPUs; the first reason counts.
type aborted struct {
	cancel context.CancelFunc
	mu     sync.Mutex
	reason string
}

func (a *aborted) set(reason string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.reason == "" {
		a.reason = reason
	}
	a.cancel()
}

func (a *aborted) why() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.reason
}

// watch takes what is reported beside the workers.
type watch struct {
	mu      sync.Mutex
	abort   *aborted
	trouble []Trouble
}

func (w *watch) use(a *aborted) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.abort = a
	if a != nil && len(w.trouble) > 0 {
		a.set(w.trouble[0].Line)
	}
}

func (w *watch) report(t Trouble) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.trouble = append(w.trouble, t)
	if w.abort != nil {
		w.abort.set(t.Line)
	}
}

func (w *watch) take() []Trouble {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := w.trouble
	w.trouble = nil
	return t
}

// Seed is that of a burn-in that nobody gives another: nodes that share one have
// the same right answers, and can be compared.
const Seed = 0x6669727374

// Continues says why a burn-in is not an earlier part of this one; "" when it
// is.
func (b *Burn) Continues(e acceptance.Engine, stages []Stage) string {
	if b.Engine != e {
		return fmt.Sprintf("by the %s engine", b.Engine)
	}
	if len(b.Stages) > len(stages) {
		return "it has other stages"
	}
	for i, s := range b.Stages {
		if s.Stage.Name != stages[i].Name || s.Stage.Seconds != stages[i].Seconds {
			return fmt.Sprintf("its stage %d is %s of %.0f s", i+1, s.Stage.Name, s.Stage.Seconds)
		}
	}
	return ""
}

// Device is what kind of GPU was burned in; "" when no worker told.
func (b *Burn) Device() string {
	for _, s := range b.Stages {
		for _, g := range s.GPUs {
			if g.Device != "" {
				return g.Device
			}
		}
	}
	return ""
}

// Coverage adds up what all GPUs did: iterations, FLOPs and bytes verified, and
// the GPU-hours that it took.
func (b *Burn) Coverage() (c Coverage, hours float64) {
	for _, s := range b.Stages {
		for _, g := range s.GPUs {
			for _, l := range g.Loads {
				c.add(l.Cover)
			}
		}
	}
	return c, c.Seconds / 3600
}

// Covered is Coverage in words.
func (b *Burn) Covered() string {
	c, hours := b.Coverage()
	return fmt.Sprintf("%s verified bit for bit, %s of memory swept, %.3g GPU-hours by the %s engine",
		quantity(c.FLOPs, "FLOP"), quantity(float64(c.Bytes), "B"), hours, b.Engine)
}
