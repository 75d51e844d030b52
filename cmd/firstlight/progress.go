package main

import (
	"encoding/json"
	"fmt"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"firstlight/provision"
)

// progress shows an apply as it goes: a bar per rack on a terminal, a line per
// thing that happened otherwise, events under -json.
type progress struct {
	app   *app
	start time.Time

	queue   chan provision.Update // to the writer
	written chan struct{}         // closed when the writer has ended
	missed  atomic.Int64          // updates that a stopped terminal or pipe had no room for

	mu    sync.Mutex
	racks map[string]*rackProgress
	rack  map[string]string // by node
	bars  *mpb.Progress     // nil: plain lines or JSON
}

type rackProgress struct {
	nodes map[string]provision.Node
	bar   *mpb.Bar
}

// event writes one line of apply -json.
func (a *app) event(kind string, data any) error {
	return json.NewEncoder(a.stdout).Encode(map[string]any{"time": time.Now().UTC(), "type": kind, "data": data})
}

func (a *app) newProgress(s *site, plan provision.Plan) *progress {
	p := &progress{app: a, start: time.Now(), queue: make(chan provision.Update, queued), written: make(chan struct{}), racks: map[string]*rackProgress{}, rack: map[string]string{}}
	if drawable(a.stderr) && !a.json {
		p.bars = mpb.New(mpb.WithOutput(a.stderr), mpb.WithWidth(30), mpb.WithRefreshRate(200*time.Millisecond))
	}
	for _, step := range plan.Nodes {
		if step.Action != provision.ActionBringUp && step.Action != provision.ActionChange {
			continue
		}
		r := p.racks[step.Rack]
		if r == nil {
			r = &rackProgress{nodes: map[string]provision.Node{}}
			p.racks[step.Rack] = r
		}
		n := provision.NewNode(step.Name)
		n.State = step.From
		r.nodes[step.Name] = n
		p.rack[step.Name] = step.Rack
	}
	if p.bars != nil {
		names := make([]string, 0, len(p.racks))
		for name := range p.racks {
			names = append(names, name)
		}
		sort.Strings(names)
		for _, name := range names {
			p.addBar(name, p.racks[name])
		}
	}
	go p.write() // ends with close
	return p
}

// queued is how many updates may wait for whoever reads them: a pager or a
// stopped terminal must not hold up a bring-up.
const queued = 1 << 16

// update takes one journalled event. It is called in order and does not block.
func (p *progress) update(u provision.Update) {
	select {
	case p.queue <- u:
	default:
		p.missed.Add(1)
	}
}

func (p *progress) write() {
	defer close(p.written)
	for u := range p.queue {
		p.show(u)
	}
	if n := p.missed.Load(); n > 0 {
		fmt.Fprintf(p.app.stderr, "firstlight: %d updates were not shown, because nobody read them in time; the journal has them\n", n)
	}
}

// addBar counts proofs: a rack is done when each of its nodes has all.
func (p *progress) addBar(name string, r *rackProgress) {
	total := int64(len(r.nodes) * (len(provision.Chain) - 1))
	r.bar = p.bars.AddBar(total,
		mpb.PrependDecorators(decor.Name("rack "+dash(name)+" ", decor.WCSyncSpaceR)),
		mpb.AppendDecorators(decor.Any(func(decor.Statistics) string { return p.summary(r) })))
}

// summary says how a rack stands and who is slowest.
func (p *progress) summary(r *rackProgress) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	ready, bad, waits := 0, 0, 0
	slowest := provision.Node{}
	for _, n := range r.nodes {
		switch n.State {
		case provision.Ready:
			ready++
			continue
		case provision.Failed, provision.Quarantined:
			bad++
			continue
		}
		if n.Waits != "" {
			waits++
		}
		if !n.Since.IsZero() && (slowest.Name == "" || n.Since.Before(slowest.Since)) {
			slowest = n
		}
	}
	text := fmt.Sprintf(" %d/%d ready", ready, len(r.nodes))
	if bad > 0 {
		text += fmt.Sprintf(", %d failed", bad)
	}
	if waits > 0 {
		text += fmt.Sprintf(", %d %s for power", waits, plural(waits, "waits", "wait"))
	}
	if slowest.Name != "" {
		text += fmt.Sprintf("; %s %s %s", slowest.Name, step(slowest), about(time.Since(slowest.Since)))
	}
	return text
}

// step is what a node is at: the last thing seen of its boot, or its state.
func step(n provision.Node) string {
	if n.Waits != "" {
		return fmt.Sprintf("%s, %s", n.State, n.Why())
	}
	if n.Boot != nil && n.Boot.Home == nil && len(n.Boot.Seen) > 0 {
		return fmt.Sprintf("%s, %s", n.State, n.Boot.Seen[len(n.Boot.Seen)-1].What)
	}
	return string(n.State)
}

// show shows one journalled event.
func (p *progress) show(u provision.Update) {
	if p.app.json {
		_ = p.app.event("event", map[string]any{"event": u.Event, "state": u.Node.State, "reason": u.Node.Why()})
		return
	}
	if line := describe(u); line != "" && p.bars == nil {
		fmt.Fprintf(p.app.stderr, "%7s  %s\n", fmt.Sprintf("+%.1fs", time.Since(p.start).Seconds()), line)
	}
	p.mu.Lock()
	r := p.racks[p.rack[u.Event.Node]]
	if r == nil || r.nodes[u.Event.Node].Name == "" {
		p.mu.Unlock()
		return
	}
	r.nodes[u.Event.Node] = u.Node
	done := 0
	for _, n := range r.nodes {
		done += len(n.Proofs)
	}
	p.mu.Unlock()
	if r.bar != nil {
		r.bar.SetCurrent(int64(done))
	}
}

// closeWithin is how long close waits for whoever reads the output.
const closeWithin = 10 * time.Second

// close shows what is left. No update may come after it.
func (p *progress) close() {
	close(p.queue)
	select {
	case <-p.written:
	case <-time.After(closeWithin):
		return
	}
	if p.bars == nil {
		return
	}
	for _, r := range p.racks {
		if r.bar != nil && !r.bar.Completed() {
			r.bar.Abort(false)
		}
	}
	p.bars.Wait()
}

// describe is the plain line of an event; "" for what is not worth one.
func describe(u provision.Update) string {
	ev, n := u.Event, u.Node
	var d struct {
		Op, Power, What, Detail, Proof, Reason, MAC, Kernel, Address, Detour, Rung, For string
		Boot                                                                            json.RawMessage
		Watts                                                                           int64
	}
	if err := json.Unmarshal(ev.Data, &d); err != nil {
		return ""
	}
	switch ev.Kind {
	case provision.EventPowered:
		if d.Op == "status" {
			detour := ""
			if d.Detour != "" {
				detour = "; its BMC was " + d.Detour
			}
			return fmt.Sprintf("%s: power is %s%s", ev.Node, d.Power, detour)
		}
		return fmt.Sprintf("%s: power %s confirmed by its BMC", ev.Node, d.Op)
	case provision.EventMeasured:
		return fmt.Sprintf("%s: drew %s at most while it started", ev.Node, kilowatts(d.Watts))
	case provision.EventWaits:
		return fmt.Sprintf("%s: waits for power: %s", ev.Node, d.For)
	case provision.EventSeen:
		return fmt.Sprintf("%s: %s %s", ev.Node, d.What, d.Detail)
	case provision.EventHello:
		return fmt.Sprintf("%s: agent called home from %s, kernel %s", ev.Node, d.Address, d.Kernel)
	case provision.EventClimb:
		return fmt.Sprintf("%s: %s begins", ev.Node, provision.Rung(d.Rung).Does())
	case provision.EventClimbed:
		return fmt.Sprintf("%s: %s done", ev.Node, provision.Rung(d.Rung).Does())
	case provision.EventPassed:
		return fmt.Sprintf("%s: %s", ev.Node, n.State)
	case provision.EventMissed, provision.EventRefused:
		return fmt.Sprintf("%s: %s: %s", ev.Node, n.State, n.Reason)
	case provision.EventDiscovered:
		return fmt.Sprintf("undeclared %s asked for a boot (%s) and was not answered", d.MAC, dash(d.Detail))
	}
	return ""
}
