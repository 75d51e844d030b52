package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"firstlight/provision"
	"firstlight/provision/acceptance"
	"firstlight/provision/agent/hub"
	"firstlight/provision/journal"
)

type applyOptions struct {
	planFile    string
	autoApprove bool
}

func (a *app) applyCommand() *cobra.Command {
	var opt applyOptions
	c := &cobra.Command{
		Use:   "apply [DIR]",
		Short: "Bring nodes to ready",
		Long: `Make a plan, ask, and carry it out: power nodes on through their BMCs, boot
them over the network, inspect them, boot their image, check them and the fabric
at their adapters, and sign their records. One node's failure does not stop
another. Interrupt it and run it again: it goes on where it was, without a second
power cycle.

Exits 0 only if every targeted node is ready.`,
		Example: `  firstlight apply racks/a
  firstlight apply -target rack=a01 -exclude hnode007 -auto-approve racks/a
  firstlight apply -replace hnode017 racks/a # prove it anew from the BMC up
  firstlight apply -plan a.plan racks/a      # exactly what was saved, or nothing`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.apply(c.Context(), dirArg(args, 0), opt)
		},
	}
	a.inventoryFlags(c)
	a.targetFlag(c)
	a.replaceFlag(c)
	c.Flags().StringVar(&opt.planFile, "plan", "", "carry out a saved plan")
	c.Flags().BoolVar(&opt.autoApprove, "auto-approve", false, "do not ask")
	return c
}

func (a *app) apply(ctx context.Context, dir string, opt applyOptions) error {
	if opt.planFile != "" && len(a.targets)+len(a.exclude)+len(a.replace) > 0 {
		return errors.New("a saved plan has its targets and replacements already: leave -target, -exclude and -replace out")
	}
	s, err := a.load(dir)
	if err != nil {
		return err
	}
	// Building fetches packages: that is done outside, for a lab's namespace
	// reaches nothing but its machines.
	if !a.entered {
		if err := a.burnable(ctx, s); err != nil {
			return err
		}
		if err := a.labIsUp(ctx, s); err != nil {
			return err
		}
		if err := a.somebodyToAsk(ctx, s, opt); err != nil {
			return err
		}
		if _, err := a.build(ctx, s); err != nil {
			return err
		}
	}
	if err := a.enterLab(s); err != nil {
		return err
	}
	log, closeLog, err := s.logFile()
	if err != nil {
		return err
	}
	defer closeLog()
	j, unlock, err := s.openLocked(ctx, "apply")
	if err != nil {
		return err
	}
	defer j.Close()
	defer unlock()

	e := &provision.Engine{Journal: j, Archive: s.evidence(), Lab: s.Cluster.Lab != nil, Engine: acceptance.EngineNode,
		Now: time.Now, NewID: newID, Log: log, By: holder("apply")}
	if err := catalogued(s, e); err != nil {
		return err
	}
	if e.Want, err = s.want(s.key); err != nil {
		return err
	}
	if e.SwitchedOn, err = s.switchedOn(); err != nil {
		return err
	}
	known, err := e.Load(ctx)
	if err != nil {
		return err
	}
	plan, err := a.agreedPlan(s, known, opt)
	if err != nil {
		return err
	}
	if !plan.Changes() {
		if a.json {
			err = a.doneEvent(s, known, plan)
		}
		return errorOr(err, heldError(plan))
	}
	return a.carryOut(ctx, s, e, plan)
}

// agreedPlan is the plan to carry out, once a person or a flag agreed to it.
func (a *app) agreedPlan(s *site, known provision.Known, opt applyOptions) (provision.Plan, error) {
	var saved provision.Plan
	if opt.planFile != "" {
		var err error
		if saved, err = loadPlan(opt.planFile); err != nil {
			return saved, err
		}
		a.targets, a.replace = saved.Targets, saved.Replace
	}
	plan, err := a.makePlan(s, known)
	if err != nil {
		return plan, err
	}
	if opt.planFile != "" {
		if err := stale(opt.planFile, saved, plan); err != nil {
			return plan, err
		}
		plan = saved
	}
	if a.json {
		if err := a.event("plan", plan); err != nil {
			return plan, err
		}
	} else {
		printPlan(a.stdout, plan, colour(a.stdout))
	}
	if plan.Changes() && !opt.autoApprove && opt.planFile == "" {
		return plan, a.ask(plan)
	}
	return plan, nil
}

var errNobody = errors.New("nobody is there to ask: give -auto-approve, or save a plan with plan -out and give it with -plan")

// somebodyToAsk refuses what ask would refuse, before images are built for it.
func (a *app) somebodyToAsk(ctx context.Context, s *site, opt applyOptions) error {
	if opt.autoApprove || opt.planFile != "" || a.watched() {
		return nil
	}
	known, err := s.known(ctx)
	if err != nil {
		return err
	}
	plan, err := a.makePlan(s, known)
	if err == nil && plan.Changes() {
		return errNobody
	}
	return err
}

// watched reports whether a person can answer.
func (a *app) watched() bool { return terminal(a.stdin) && !a.json }

// ask asks before anything is disrupted.
func (a *app) ask(p provision.Plan) error {
	if !a.watched() {
		return errNobody
	}
	fmt.Fprintf(a.stderr, "\nCarry this out? Only \"yes\" is taken as yes: ")
	answer, err := bufio.NewReader(a.stdin).ReadString('\n')
	if err != nil || strings.TrimSpace(answer) != "yes" {
		return errors.New("not agreed; nothing was done")
	}
	return nil
}

func heldError(p provision.Plan) error {
	if p.Summary.Held == 0 {
		return nil
	}
	return fmt.Errorf("%d %s for a person and %s left alone", p.Summary.Held, plural(p.Summary.Held, "node waits", "nodes wait"), plural(p.Summary.Held, "was", "were"))
}

// carryOut starts the services and runs the engine until every node rests.
func (a *app) carryOut(ctx context.Context, s *site, e *provision.Engine, plan provision.Plan) error {
	key, err := acceptance.LoadOrCreateKey(s.path("keys", "record"))
	if err != nil {
		return err
	}
	e.Signer = func(r acceptance.Record) ([]byte, error) { return signRecord(key, r) }
	boards, err := s.newBoards(e.Log)
	if err != nil {
		return err
	}
	defer boards.Close()
	if err := boards.credentials.readable(plan); err != nil {
		return fmt.Errorf("%w; nothing was done", err)
	}
	e.Baseboard, e.Other, e.Recovery, e.Meter = boards, boards.byOther(), boards, boards
	reader, err := a.newFabricReader(s, e.Log)
	if err != nil {
		return err
	}
	if reader != nil {
		e.Fabric = reader
	}
	h, err := newHub(s, e, e.Log)
	if err != nil {
		return err
	}
	e.Agents = h
	show := a.newProgress(s, plan)
	consoles := newConsoleLogs(s, boards, e.Log)
	defer consoles.Close()
	e.Console = consoles.last
	e.Watch = func(u provision.Update) {
		consoles.update(u)
		show.update(u)
	}

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stopServices, err := a.startServices(ctx, cancel, s, e, h)
	if err != nil {
		show.close()
		return err
	}
	known, err := e.Run(ctx, plan)
	stopServices()
	show.close()
	reader.draw()
	// However it ended, what is known by now is worth a report.
	_, reportErr := a.writeReport(s, known, "")
	if err != nil {
		if reportErr != nil {
			e.Log.Error("report not written", "error", reportErr)
		}
		return errorOr(context.Cause(ctx), err)
	}
	if reportErr != nil {
		return reportErr
	}
	err = a.outcome(s, known, plan)
	if a.burn {
		err = errorOr(err, a.burnOutcome(s, known, plan))
	}
	return err
}

// startServices opens every boot service before any machine is powered on. A
// service that fails later ends the run through cancel.
func (a *app) startServices(ctx context.Context, cancel context.CancelCauseFunc, s *site, e *provision.Engine, h *hub.Hub) (func(), error) {
	servers, err := bootServers(s, e, h, e.Log)
	if err != nil {
		return nil, err
	}
	var services []service
	for _, srv := range servers {
		services = append(services, func(ctx context.Context, ready func()) error {
			srv.Ready = ready
			return srv.Serve(ctx)
		})
	}
	return startAll(ctx, cancel, services)
}

// service serves until ctx ends, which is no error; ready is called once it does.
type service func(ctx context.Context, ready func()) error

// startAll returns when all services are ready, and how to end them; or, with
// all of them ended, why not.
func startAll(ctx context.Context, cancel context.CancelCauseFunc, services []service) (func(), error) {
	serving, stop := context.WithCancel(ctx)
	done := make(chan error, len(services))
	ready := make(chan struct{}, len(services))
	for _, serve := range services {
		go func() { // ends with serving
			err := serve(serving, func() { ready <- struct{}{} })
			if err != nil {
				cancel(err)
			}
			done <- err
		}()
	}
	stopAll := func() {
		stop()
		for range services {
			<-done
		}
	}
	for range services {
		select {
		case <-ready:
		case err := <-done:
			done <- err
			stopAll()
			// One that was ended because of another, or by Ctrl-C, has no error
			// of its own.
			return nil, errorOr(err, context.Cause(ctx))
		}
	}
	return stopAll, nil
}

// outcome says how it ended; the error carries the exit status.
func (a *app) outcome(s *site, known provision.Known, plan provision.Plan) error {
	ready, total, short := tally(known, plan)
	if a.json {
		if err := a.doneEvent(s, known, plan); err != nil {
			return err
		}
	} else {
		for _, n := range short {
			fmt.Fprintf(a.stderr, "%s: %s: %s\n", n.Name, n.State, orNothing(n.Reason))
		}
		fmt.Fprintf(a.stdout, "\n%d/%d ready. Report: %s\n", ready, total, s.path("report", "index.html"))
	}
	if ready < total {
		return &exit{code: 1}
	}
	return nil
}

// tally counts the plan's nodes that are ready, and lists those that are not.
func tally(known provision.Known, plan provision.Plan) (ready, total int, short []provision.Node) {
	for _, step := range plan.Nodes {
		if step.Action == provision.ActionRemove {
			continue
		}
		total++
		if n := known.Node(step.Name); n.State == provision.Ready {
			ready++
		} else {
			short = append(short, n)
		}
	}
	return ready, total, short
}

// doneEvent is the last line of apply -json.
func (a *app) doneEvent(s *site, known provision.Known, plan provision.Plan) error {
	ready, total, _ := tally(known, plan)
	return a.event("done", map[string]any{"ready": ready, "total": total, "report": s.path("report", "index.html")})
}

func orNothing(s string) string {
	if s == "" {
		return "no reason recorded"
	}
	return s
}

var _ provision.Journal = (*journal.Journal)(nil)
