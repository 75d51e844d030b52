package burnin

import (
	"math"
	"sync"
	"time"
)

// progress adds up what the workers tell, for whoever watches.
type progress struct {
	tell  func(Progress)
	began time.Time // of the burn-in: what samples count from
	start time.Time // of this run
	done  float64   // seconds of phases done before this one
	total float64   // of all phases

	mu      sync.Mutex
	last    Progress
	entered time.Time
	length  float64 // of the phase
	told    time.Time
	rates   map[int]Sample
}

func newProgress(r *Runner, stages []Stage, b *Burn) *progress {
	p := &progress{tell: r.Progress, began: b.Began, start: time.Now(), rates: map[int]Sample{}}
	for i, s := range stages {
		for j, ph := range s.Phases(r.Engine) {
			p.total += ph.Seconds
			if i < len(b.Stages) && j < b.Stages[i].Done {
				p.done += ph.Seconds
			}
		}
	}
	return p
}

// now is the time that samples have, in seconds.
func (p *progress) now() int64 { return int64(time.Since(p.began) / time.Second) }

// phase begins one.
func (p *progress) phase(stage string, ph Phase) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done += p.length
	p.length, p.entered = ph.Seconds, time.Now()
	p.last.Stage, p.last.Load = stage, ph.Load
	clear(p.rates)
	p.say(true)
}

func (p *progress) wrong() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last.Wrong++
	p.say(false)
}

func (p *progress) sample(gpu int, s Sample) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rates[gpu] = s
	p.say(false)
}

// loaded says whether so many GPUs have told of the load of this phase.
func (p *progress) loaded(gpus int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return gpus > 0 && len(p.rates) >= gpus
}

// say tells at most once a second; p.mu is held.
func (p *progress) say(atOnce bool) {
	now := time.Now()
	if p.tell == nil || !atOnce && now.Sub(p.told) < time.Second {
		return
	}
	p.told = now
	out := p.last
	for _, s := range p.rates {
		out.TFLOPs += s.TFLOPs
		out.Temp = math.Max(out.Temp, s.Temp)
	}
	out.Elapsed = now.Sub(p.start).Seconds()
	out.Left = max(0, p.total-p.done-min(now.Sub(p.entered).Seconds(), p.length))
	p.tell(out)
}
