package burnin

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"firstlight/provision/acceptance"
)

// HealthRun is what the driver told of the GPUs in one run of a burn-in. One
// that was stopped and gone on with has several: counts may begin anew between
// them.
type HealthRun struct {
	Before   Health `json:"before"`
	Under    Health `json:"under"`    // the worst of the readings under load
	Readings int    `json:"readings"` // under load
	After    Health `json:"after"`    // the newest after a phase
}

// healthEvery is how often GPUs are read while they work.
const healthEvery = time.Minute

// vitals reads the GPUs beside their load. Only one goroutine at a time uses it.
type vitals struct {
	read  func(context.Context) Health
	every time.Duration
	burn  *Burn
	run   *HealthRun // of this run; nil before its first phase
	last  time.Time  // of the last reading under load
}

func newVitals(r *Runner, b *Burn) *vitals {
	return &vitals{read: r.Health, every: cmp.Or(r.HealthEvery, healthEvery), burn: b}
}

// before reads once, ahead of the first phase of this run.
func (v *vitals) before(ctx context.Context) {
	if v.read == nil || v.run != nil {
		return
	}
	h := v.read(ctx)
	if ctx.Err() != nil {
		return // nothing will be done, and a reading that was ended is no finding
	}
	v.run = &HealthRun{Before: h}
	v.burn.Health = append(v.burn.Health, v.run)
}

// underLoadEvery is how often it is looked whether all GPUs work by now.
const underLoadEvery = 50 * time.Millisecond

// under reads now and then until ctx ends, the first time as soon as every GPU
// has told of its load: a short stage is read as well.
func (v *vitals) under(ctx context.Context, p *progress, gpus int) {
	if v.run == nil {
		return
	}
	tick := time.NewTicker(min(v.every, underLoadEvery))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if !p.loaded(gpus) || v.run.Readings > 0 && time.Since(v.last) < v.every {
			continue
		}
		v.last = time.Now()
		h := v.read(ctx)
		if ctx.Err() != nil && (h.Library != "" || len(h.Stuck) > 0) {
			return // ended with the load: that it did not return is no finding
		}
		v.run.Under.worsen(h)
		v.run.Readings++
	}
}

// after reads at the end of a phase, also of one that was stopped: what changed
// until then is known however the burn-in goes on.
func (v *vitals) after(ctx context.Context) {
	if v.run != nil {
		v.run.After = v.read(context.WithoutCancel(ctx))
	}
}

// worsen takes over what is worse in another reading under load. Of a reading
// the rest is kept as it was first.
func (h *Health) worsen(o Health) {
	stuck := h.Stuck
	for _, s := range o.Stuck {
		if !slices.Contains(stuck, s) {
			stuck = append(stuck, s)
		}
	}
	library := cmp.Or(h.Library, o.Library) // that the driver failed once is kept
	if len(h.GPUs) == 0 {
		*h = o
		h.GPUs = nil
	}
	h.Stuck, h.Library = stuck, library
	for _, g := range o.GPUs {
		i := h.find(g)
		if i < 0 {
			i = len(h.GPUs)
			h.GPUs = append(h.GPUs, HealthGPU{Index: g.Index, PCI: g.PCI, First: maps.Clone(g.First)})
			for _, q := range underLoad() {
				h.GPUs[i].First[q] = g.loaded(q)
			}
			continue
		}
		for _, q := range underLoad() {
			h.GPUs[i].First[q] = worse(q, h.GPUs[i].First[q], g.loaded(q))
		}
	}
}

// find gives the place of a GPU in h, or -1. Its index may be another when one
// was lost.
func (h Health) find(g HealthGPU) int {
	return slices.IndexFunc(h.GPUs, func(o HealthGPU) bool {
		return g.PCI != "" && g.PCI == o.PCI || g.PCI == "" && o.PCI == "" && g.Index == o.Index
	})
}

// underLoad are the quantities whose worst reading under load counts.
func underLoad() []Quantity {
	return []Quantity{PCIeGen, PCIeWidth, TempMargin, ClockReasons, XidEvents}
}

// loaded is a reading of a GPU that is under load.
func (g HealthGPU) loaded(q Quantity) Value {
	v := g.newest(q)
	switch p := g.first(PState); {
	case !v.read():
	case q == PCIeGen && p.read() && p.Number > 0:
		return Value{Err: fmt.Sprintf("no reading at full clocks: P%d, where the link may run slower", p.Number)}
	case q == ClockReasons && g.first(q).read():
		v.Number |= g.first(q).Number
	}
	return v
}

// worse joins two readings. What was read goes before what was not, but that a
// GPU was lost stays.
func worse(q Quantity, a, b Value) Value {
	switch {
	case a.Lost || !b.read() && !b.Lost:
		return a
	case b.Lost || !a.read():
		return b
	case q == ClockReasons:
		b.Number |= a.Number
		return b
	case q == XidEvents:
		return Value{Number: a.Number + b.Number, Text: strings.Trim(a.Text+", "+b.Text, ", ")}
	case a.Number <= b.Number:
		return a
	}
	return b
}

// over puts a reading before and one after a burn-in side by side, as First and
// Later.
func (r *HealthRun) over() Health {
	h := r.After
	h.GPUs = nil
	for _, g := range r.Before.GPUs {
		g.First, g.Later = maps.Clone(g.First), map[Quantity]Value{}
		for q := range g.First {
			g.First[q] = g.newest(q)
		}
		i := r.After.find(g)
		for q, first := range g.First {
			switch {
			case r.After.Version == 0 && r.After.Library == "":
				g.Later[q] = Value{Err: "not read again: the burn-in did not come to the end of a phase"}
				continue
			case i < 0:
				g.Later[q] = Value{Err: "the driver does not know this GPU any more", Lost: r.After.Library == ""}
				continue
			}
			v := r.After.GPUs[i].newest(q)
			if q.grows() && v.read() && first.read() && v.Number < first.Number {
				v = Value{Err: fmt.Sprintf("counts anew (%d, then %d): the GPU was reset, or the driver loaded again", first.Number, v.Number)}
			}
			g.Later[q] = v
		}
		h.GPUs = append(h.GPUs, g)
	}
	return h
}

// grows says whether a quantity can only grow.
func (q Quantity) grows() bool {
	return q.Counting() && q != ClockReasons && q != XidEvents || q == RemapUncorrected || q == SRAMUncorrect
}

// BurnHealthChecks are those of the health checks that a burn-in is judged by:
// over it, by what is another after than before, and under load, by the worst of
// the readings.
func BurnHealthChecks() (over, under []HealthCheck) {
	for _, k := range HealthChecks() {
		k.Name, k.UnderUse = "burn-in.health."+strings.TrimPrefix(k.Name, "gpu."), false
		switch k.Reads {
		case ECCUncorrected, SRAMUncorrect:
			k.Rule, k.Limit, k.Want = unchanged, nil, "no more over the burn-in"
			over = append(over, k)
		case PCIeReplays, NVLinkErrors, NVLinkRecovers, SlowHWThermal, SlowSWThermal, SlowBrake:
			k.Want += " over the burn-in"
			over = append(over, k)
		case SRAMOver, RemapPending, RemapFailed, RecoveryAction, NVLinks:
			k.Want += ", after the load"
			over = append(over, k)
		case PCIeGen, PCIeWidth, TempMargin, ClockReasons, XidEvents:
			k.Want += ", under load"
			under = append(under, k)
		}
	}
	return append(over, HealthCheck{Name: "burn-in.health.remap.rows", Reads: RemapUncorrected, Rule: unchanged, Want: "no more over the burn-in", Source: memorySource,
		Meaning: "A row of memory went bad under load and was, or will be, remapped: reset the GPU and burn in again; replace it when more come."}), under
}

// healthChecks judges what the driver told before, during and after.
func (b *Burn) healthChecks() []acceptance.Check {
	whole := acceptance.Check{Name: "burn-in.health", Verdict: acceptance.NotApplicable, Part: "GPUs", Reading: fmt.Sprintf("the %s engine uses no GPU", b.Engine),
		Threshold: "GPUs read before, during and after the load", Source: "firstlight: what a load breaks is seen only by who looked before"}
	if b.Engine != acceptance.EngineCUDA {
		return []acceptance.Check{whole}
	}
	if len(b.Health) == 0 {
		whole.Verdict, whole.Reading = acceptance.NotRun, "the GPUs were not read"
		return []acceptance.Check{whole}
	}
	var out []acceptance.Check
	for i, r := range b.Health {
		for _, c := range r.checks(whole) {
			if len(b.Health) > 1 {
				c.Reading = fmt.Sprintf("run %d of %d: %s", i+1, len(b.Health), c.Reading)
			}
			out = append(out, c)
		}
	}
	return out
}

// checks judges one run. whole is the line of the reading itself, to be filled
// in.
func (r *HealthRun) checks(whole acceptance.Check) []acceptance.Check {
	whole.Verdict, whole.Reading = acceptance.Pass, fmt.Sprintf("read before, under load (%d) and after; driver %s", r.Readings, r.Before.Driver.Text)
	switch why := cmp.Or(r.Before.Library, r.After.Library, r.Under.Library); {
	case why != "":
		whole.Verdict, whole.Reading = acceptance.NotRun, why
	case len(r.Before.GPUs) == 0:
		whole.Verdict, whole.Reading = acceptance.NotRun, "the driver has no GPU"
	case r.Readings == 0:
		whole.Verdict, whole.Reading = acceptance.NotRun, "not read under load: it ended before every GPU told of its load"
	}
	over, under := r.over(), r.Under
	over.Stuck = slices.Clone(r.Before.Stuck)
	for _, s := range slices.Concat(r.Under.Stuck, r.After.Stuck) {
		if !slices.Contains(over.Stuck, s) {
			over.Stuck = append(over.Stuck, s)
		}
	}
	out := []acceptance.Check{whole}
	for _, c := range stuckChecks(over) {
		c.Name = "burn-in.health.hang"
		out = append(out, c)
	}
	if len(r.Before.GPUs) == 0 {
		return out
	}
	class := ClassOf(Declared{}, r.Before)
	responds := respondCheck(over, nil)
	responds.Name = "burn-in.health.responds"
	out = append(out, responds)
	left := gone{}
	overLoad, underLoad := BurnHealthChecks()
	for _, k := range overLoad {
		out = append(out, k.judge(over, class, left)...)
	}
	if r.Readings > 0 { // said above
		for _, k := range underLoad {
			out = append(out, k.judge(under, class, left)...)
		}
	}
	for _, c := range left.checks(over) {
		c.Name = "burn-in.health.unread"
		out = append(out, c)
	}
	return out
}
