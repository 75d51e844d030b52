package provision

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"firstlight/inventory"
	"firstlight/provision/acceptance"
	"firstlight/provision/agent/api"
)

// viaColdCycle is a boot between the quick stages and the soak: off, without
// power for a moment, and on. Parts that fail to start cold do it here.
const viaColdCycle = "cold-cycle"

// How long a machine stays without power in a cold cycle: the capacitors of its
// power supplies must empty. A virtual one has none.
const (
	coldOff      = 15 * time.Second
	coldOffInLab = 0
)

// burnSeed is that of every burn-in, so that the right answers are the same on
// all nodes and can be compared.
const burnSeed = 0x6669727374

// burnSilence is how long a node under load may be silent: its agent polls every
// few seconds, and its CPUs have little to do.
const burnSilence = 10 * time.Minute

// burnInStage is one burn-in stage that the inventory declares.
type burnInStage struct {
	Name, Want, Source string
	Time               time.Duration // 0: it ends by itself
}

// burnInStages lists what a node's acceptance asks for, in order.
func burnInStages(n *inventory.Node) []burnInStage {
	a := n.Acceptance
	if a == nil {
		return nil
	}
	var out []burnInStage
	add := func(name, want string, d time.Duration) {
		out = append(out, burnInStage{name, want, where(a.Range), d})
	}
	if a.Node != nil && a.Node.GEMM.Duration > 0 {
		add("gemm", a.Node.GEMM.Text, a.Node.GEMM.Duration)
	}
	if a.Node != nil && a.Node.HBMSweep {
		add("hbm_sweep", "whole memory", 0)
	}
	if a.Rack != nil && a.Rack.Soak.Duration > 0 {
		add("soak", a.Rack.Soak.Text, a.Rack.Soak.Duration)
	}
	return out
}

// BurnsIn reports whether a node's acceptance declares a burn-in stage.
func BurnsIn(n *inventory.Node) bool { return burnInStages(n) != nil }

// burnInTime is how long the declared stages take one after the other. A sweep
// declares no time: it ends when the memory is done.
func burnInTime(n *inventory.Node) time.Duration {
	var d time.Duration
	for _, s := range burnInStages(n) {
		d += s.Time
	}
	return d
}

// burnInPart is the stages that run without a power cycle between them.
type burnInPart struct {
	Name   string
	Stages []burnInStage
}

// burnInParts are the quick stages, and the soak: a cold power cycle lies
// between the two.
func burnInParts(n *inventory.Node) []burnInPart {
	var quick, soak []burnInStage
	for _, s := range burnInStages(n) {
		if s.Name == "soak" {
			soak = append(soak, s)
		} else {
			quick = append(quick, s)
		}
	}
	var out []burnInPart
	if quick != nil {
		out = append(out, burnInPart{"quick", quick})
	}
	if soak != nil {
		out = append(out, burnInPart{"soak", soak})
	}
	return out
}

// burnEngine is what computes: a CPU in place of the GPUs that a virtual machine
// has not.
func (e *Engine) burnEngine() acceptance.Engine {
	if e.Lab {
		return acceptance.EngineReference
	}
	return acceptance.EngineCUDA
}

// burnIn carries out the burn-in stages that are declared, with a cold power
// cycle between the quick ones and the soak. A part that is done is not done
// again after a restart of the controller.
func (e *Engine) burnIn(ctx context.Context, n *inventory.Node, act Action) (PassedData, error) {
	parts := burnInParts(n)
	if parts == nil {
		src := where(n.Range)
		if n.Acceptance != nil {
			src = where(n.Acceptance.Range)
		}
		return e.conclude(n, BurnedIn, []acceptance.Check{{Name: "burn-in", Verdict: acceptance.NotApplicable, Part: "node",
			Reading: "no burn-in stage is declared", Threshold: "none declared", Source: src}})
	}
	whole := acceptance.Evidence{Node: n.Name, State: string(BurnedIn), Engine: e.burnEngine(), Lab: e.Lab}
	for i, p := range parts {
		ev, err := e.burnPart(ctx, n, act, p, i > 0)
		if err != nil {
			return PassedData{}, err
		}
		whole.Checks = append(whole.Checks, ev.Checks...)
		whole.Data = append(whole.Data, ev.Data...)
		if ev.Engine != whole.Engine {
			whole.Engine = ev.Engine // the record is refused for it where it matters
		}
		if ev.Verdict() != acceptance.Pass {
			break // what was not begun is said below
		}
	}
	for _, p := range parts[min(e.partsDone(n, parts), len(parts)):] {
		for _, s := range p.Stages {
			if !slices.ContainsFunc(whole.Checks, func(c acceptance.Check) bool { return c.Name == "burn-in."+s.Name }) {
				whole.Checks = append(whole.Checks, acceptance.Check{Name: "burn-in." + s.Name, Verdict: acceptance.NotRun, Part: "GPUs",
					Reading: "not begun: an earlier stage did not pass", Threshold: s.Want, Source: s.Source})
			}
		}
	}
	return e.concludeBurnIn(n, whole)
}

// partsDone is how many parts have been carried out, passed or not.
func (e *Engine) partsDone(n *inventory.Node, parts []burnInPart) int {
	return min(len(e.node(n.Name).Burned), len(parts))
}

// concludeBurnIn files the evidence. What a GPU computed wrongly once is a
// person's to look at: trying again would only find a moment when it does not.
func (e *Engine) concludeBurnIn(n *inventory.Node, ev acceptance.Evidence) (PassedData, error) {
	data, err := e.file(n, ev)
	var refused *Refused
	if errors.As(err, &refused) {
		refused.Person = slices.ContainsFunc(ev.Checks, func(c acceptance.Check) bool { return c.Verdict == acceptance.Fail })
	}
	return data, err
}

// burnPart carries out one part, or takes up what is journalled of it.
func (e *Engine) burnPart(ctx context.Context, n *inventory.Node, act Action, p burnInPart, cold bool) (acceptance.Evidence, error) {
	for _, done := range e.node(n.Name).Burned {
		if done.Part == p.Name {
			return e.evidence(done.Evidence)
		}
	}
	ev := acceptance.Evidence{Node: n.Name, State: string(BurnedIn), Engine: e.burnEngine(), Lab: e.Lab}
	if cold {
		checks, err := e.coldCycle(ctx, n, act)
		if err != nil {
			return ev, err
		}
		ev.Checks = checks
	}
	res, err := e.askBurnIn(ctx, n, act, p)
	var crashed *Refused
	switch {
	case errors.As(err, &crashed):
		ev.Checks = append(ev.Checks, acceptance.Check{Name: "burn-in.uptime", Verdict: acceptance.Fail, Part: "node: power, cooling, PCIe; see its console log",
			Reading: crashed.Reason, Threshold: "runs on under load", Source: "firstlight: a node that stops under load stops in a training run"})
	case err != nil:
		return ev, err
	default:
		ev.Checks = append(ev.Checks, burnChecks(p, res)...)
	}
	if b := res.BurnIn; b != nil {
		ev.Engine = acceptance.Engine(b.Engine)
		digest, err := e.Archive.Put(b.Data)
		if err != nil {
			return ev, fmt.Errorf("file burn-in data: %w", err)
		}
		ev.Data = append(ev.Data, digest)
	}
	ev.Time = e.Now().UTC()
	raw, err := json.Marshal(ev)
	if err != nil {
		return ev, err
	}
	digest, err := e.Archive.Put(raw)
	if err != nil {
		return ev, fmt.Errorf("file evidence: %w", err)
	}
	return ev, e.recordOne(ctx, n.Name, EventBurned, BurnedData{Part: p.Name, Evidence: digest})
}

// burnChecks are the agent's, or what it could not do.
func burnChecks(p burnInPart, res api.Result) []acceptance.Check {
	var out []acceptance.Check
	for _, c := range res.Checks {
		out = append(out, acceptance.Check{Name: c.Name, Verdict: acceptance.Verdict(c.Verdict), Reading: c.Reading,
			Threshold: c.Threshold, Source: c.Source, Part: c.Part})
	}
	for _, s := range p.Stages {
		// A stage is passed by a line of its own, never by silence.
		if slices.ContainsFunc(out, func(c acceptance.Check) bool { return c.Name == "burn-in."+s.Name }) {
			continue
		}
		reading := "the agent does not say"
		if res.Error != "" {
			reading = res.Error
		}
		out = append(out, acceptance.Check{Name: "burn-in." + s.Name, Verdict: acceptance.NotRun, Part: "GPUs", Reading: reading, Threshold: s.Want, Source: s.Source})
	}
	return out
}

func (e *Engine) evidence(digest string) (acceptance.Evidence, error) {
	var ev acceptance.Evidence
	raw, err := e.Archive.Get(digest)
	if err == nil {
		err = json.Unmarshal(raw, &ev)
	}
	if err != nil {
		return ev, fmt.Errorf("evidence %s: %w", digest, err)
	}
	return ev, nil
}

// Why a burn-in is not waited for any longer.
var (
	errBootedAgain = errors.New("the node booted again by itself under load")
	errSilent      = errors.New("the node fell silent under load")
)

// askBurnIn has the node's agent carry out a part. A *Refused error says that
// the node itself did not stand it. While it waits, others may have its place
// among the nodes that are worked on: burning in takes a day and no controller.
func (e *Engine) askBurnIn(ctx context.Context, n *inventory.Node, act Action, p burnInPart) (api.Result, error) {
	order := &api.BurnIn{Engine: string(e.burnEngine()), Seed: burnSeed}
	if n.Hardware != nil && n.Hardware.GPU != nil {
		order.GPUs = n.Hardware.GPU.Count
	}
	for _, s := range p.Stages {
		order.Stages = append(order.Stages, api.BurnInStage{Name: s.Name, Seconds: s.Time.Seconds(), Source: s.Source})
	}
	if l := e.Want.Cluster.Lab; l != nil && l.Machines[n.Name] != nil && l.Machines[n.Name].GPUFault != "" {
		order.Fault = &api.BurnInFault{Kind: l.Machines[n.Name].GPUFault, SM: 3, After: 2, Bit: 4}
	}
	<-e.slots
	defer func() { e.slots <- struct{}{} }()
	boot := e.node(n.Name).Boot
	if boot == nil || boot.Home == nil {
		return api.Result{}, errors.New("no agent has called home")
	}
	began := e.Now()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() { // ends with ctx
		_, err := e.await(ctx, n.Name, func(k Node) bool { return k.Boot == nil || k.Boot.ID != boot.ID })
		if err == nil {
			cancel(errBootedAgain)
		}
	}()
	go func() { // ends with ctx
		for sleep(ctx, burnSilence/20) {
			if at, _ := e.Agents.Seen(n.Name); e.Now().Sub(at) > burnSilence && e.Now().Sub(began) > burnSilence {
				cancel(errSilent)
			}
		}
	}()
	res, err := e.Agents.Do(ctx, n.Name, boot.ID, api.Job{ID: e.jobID(n.Name, act, "burn-in-"+p.Name), Kind: api.JobBurnIn, BurnIn: order})
	switch why := context.Cause(ctx); {
	case err == nil:
		return res, nil
	case errors.Is(why, errBootedAgain):
		return res, &Refused{Reason: fmt.Sprintf("%v, %s into its %s burn-in", why, e.Now().Sub(began).Round(time.Second), p.Name)}
	case errors.Is(why, errSilent):
		return res, fmt.Errorf("%w, %s into its %s burn-in; %s", why, e.Now().Sub(began).Round(time.Second), p.Name, e.lastWord(n.Name))
	}
	return res, fmt.Errorf("burn-in: %w; %s", err, e.lastWord(n.Name))
}

// coldCycle takes the power from a node and gives it back, and waits until its
// image runs again. It is not repeated after a restart of the controller.
func (e *Engine) coldCycle(ctx context.Context, n *inventory.Node, act Action) ([]acceptance.Check, error) {
	img := e.Images[n.Image.Name]
	known := e.node(n.Name)
	boot := known.Boot
	fresh := boot == nil || boot.Via != viaColdCycle || len(known.Burned) == 0 || boot.Ordered.Before(known.Burned[len(known.Burned)-1].At)
	if fresh || !boot.cycled() {
		if err := e.myTurn(ctx, n); err != nil {
			return nil, err
		}
		defer e.turns.giveBack(n.Name) // where it was not used
	}
	ctx, cancel := context.WithTimeout(ctx, e.deadline(Provisioned))
	defer cancel()
	if fresh {
		id := BootID{ID: e.NewID(), Kind: api.BootImage, Image: img.Digest, Via: viaColdCycle, Persistent: true}
		if err := e.announce(ctx, n, act, &id); err != nil {
			return nil, err
		}
		boot = &BootRecord{BootID: id}
	}
	if !boot.cycled() {
		if err := e.cyclePower(ctx, n, boot); err != nil {
			return nil, err
		}
	}
	known, err := e.homecoming(ctx, n, *boot, img.Root)
	if err != nil {
		return nil, fmt.Errorf("after the cold power cycle: %w", err)
	}
	checks := append(imageChecks(n, img, known.Boot), e.bootChecks(n, known.Boot)...)
	for i := range checks {
		checks[i].Name = "cold-cycle." + checks[i].Name
	}
	return checks, nil
}

// myTurn waits until a node may be switched on, before its power is taken: it is
// not to lie in the dark for want of watts.
func (e *Engine) myTurn(ctx context.Context, n *inventory.Node) error {
	load := e.loadFor(n)
	var wait *notYet
	if err := e.turns.due(load); !errors.As(err, &wait) {
		return err
	}
	turn, err := e.turns.ask(load)
	if err != nil {
		return err
	}
	return e.awaitPlace(ctx, load, turn)
}

// cycled reports whether the power is known to be back after a cold cycle.
func (b *BootRecord) cycled() bool {
	return b.Home != nil || !b.Powered.IsZero() || len(b.Seen) > 0
}

// cyclePower takes a cold cycle up where it is: what the BMC confirmed is
// journalled, so a machine that is on either was not turned off yet, or is on
// again.
func (e *Engine) cyclePower(ctx context.Context, n *inventory.Node, boot *BootRecord) error {
	if boot.Set.IsZero() {
		if err := e.setBoot(ctx, n, boot.BootID); err != nil {
			return err
		}
	}
	if boot.Off.IsZero() {
		err := e.bmc(ctx, func() error { return e.board(n).SetPower(ctx, n, "off") })
		if err != nil {
			return err
		}
		if err := e.recordOne(ctx, n.Name, EventPowered, PoweredData{Op: "off", Power: "off"}); err != nil {
			return err
		}
	} else if power, err := e.powerState(ctx, n); err != nil || power == "on" {
		return err
	}
	pause := coldOff
	if e.Lab {
		pause = coldOffInLab
	}
	if !sleep(ctx, pause) {
		return ctx.Err()
	}
	return e.power(ctx, n, viaPowerOn)
}

func (e *Engine) powerState(ctx context.Context, n *inventory.Node) (power string, err error) {
	err = e.bmc(ctx, func() (err error) { power, err = e.board(n).Power(ctx, n); return err })
	return power, err
}
