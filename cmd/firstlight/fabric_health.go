package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"firstlight/fabric"
	"firstlight/inventory"
	"firstlight/provision/acceptance"
)

// notMeasured is what health is not read from, so that nobody takes it for good.
func notMeasured(read *readFabric) []string {
	for _, n := range read.Nodes {
		for _, p := range n.Ports {
			if p.Optics != nil {
				return []string{}
			}
		}
	}
	return []string{"temperatures and bit error rates of modules: no device tells them in NVIDIA's class"}
}

// linkJudge is what the links of a fabric are judged with.
type linkJudge struct {
	site    *site // nil: without an inventory
	fabrics []*inventory.Fabric
	limits  fabric.Limits
	names   func(*fabric.Observed) fabric.Names
	chosen  map[string]bool // devices; nil: all
}

// linkJudge reads the inventory, where one is given.
func (a *app) linkJudge(ctx context.Context, dir, name string) (*linkJudge, error) {
	j := &linkJudge{limits: fabric.DefaultLimits(), names: func(*fabric.Observed) fabric.Names { return nil }}
	if dir == "" {
		if len(a.targets) > 0 || name != "" {
			return nil, errors.New("-target and -fabric need an inventory: give its directory")
		}
		return j, nil
	}
	s, err := a.loadQuietly(dir)
	if err != nil {
		return nil, err
	}
	fabrics, err := infinibandFabrics(s.Cluster, name)
	if err != nil {
		return nil, err
	}
	if j.limits, err = limitsOf(s.Cluster, fabrics); err != nil {
		return nil, fmt.Errorf("%w: name one with -fabric", err)
	}
	if len(a.targets) > 0 {
		if j.chosen, err = s.Cluster.SelectDevices(a.targets); err != nil {
			return nil, err
		}
	}
	declared, known := fabric.Declare(s.Cluster, fabrics...), fabric.Known{Learned: a.learned(ctx, s)}
	j.site, j.names = s, func(o *fabric.Observed) fabric.Names { return declared.Names(o, known) }
	j.fabrics = fabrics
	return j, nil
}

// source is where the fabric is read from: what the flags name, or the inventory.
func (j *linkJudge) source(from fabricSource) (fabricSource, error) {
	if j.site == nil {
		return from, nil
	}
	from, err := from.or(j.site.Cluster, j.fabrics...)
	from.pkeys = false // links are not judged by their partitions
	return from, err
}

// wants reports that a link ends at what -target chose.
func (j *linkJudge) wants(checks []fabric.LinkCheck) bool {
	return j.chosen == nil || slices.ContainsFunc(checks[0].Ports, func(p fabric.PortRef) bool { return j.chosen[p.Name] })
}

// judgeFlags adds what the verbs of links have in common.
func (a *app) judgeFlags(c *cobra.Command, name *string) {
	f := c.Flags()
	f.StringVar(name, "fabric", "", "names and limits of the fabric of this `NAME`; by default of all InfiniBand ones together")
	f.StringArrayVar(&a.targets, "target", nil, "only links that end at these `DEVICES`: nodes, switches, ranges (leaf-[01-08]), rack=a01; may be given again")
	complete(c, "fabric", a.completeFabrics)
	complete(c, "target", a.completeDevices)
}

// liveOnly takes -observed from a verb that reads counters.
func liveOnly(c *cobra.Command, from *fabricSource) error {
	from.counters = true
	if c.Flags().Changed("observed") {
		return errors.New("-observed: a dump of ibnetdiscover has no counters; firstlight fabric links reads it")
	}
	return nil
}

func hideObserved(c *cobra.Command) {
	if err := c.Flags().MarkHidden("observed"); err != nil {
		panic(err) // the flag was defined by sourceFlags
	}
}

func (a *app) fabricCountersCommand() *cobra.Command {
	var from fabricSource
	var name string
	var window time.Duration
	var all bool
	c := &cobra.Command{
		Use:   "counters [DIR]",
		Short: "Read the error counters of every link twice, and say which links are bad",
		Long: `Read the counters of every connected port, wait, read them again, and hold what
was counted between against limits: those of the field, each printed with its
source, or those of the limits block in the inventory's fabric. What a counter
held before does not matter; a counter that is full, or was cleared meanwhile, is
said to be and never counts as good.

A bit error rate takes its time under traffic: until then the verdict is "not yet
decided", with the time to go. firstlight fabric watch keeps count for that long.
Prints what is off; everything with -all. It needs a running subnet manager, since
counters are asked for by LID.

Exits 0 when nothing is off, 2 when something is, 1 when the counters could not
be read, or only in part.`,
		Example: `  firstlight fabric counters racks/a
  firstlight fabric counters -window 15m -target rack=a01 racks/a
  firstlight fabric counters -all -json racks/a | jq '.checks[] | select(.name == "symbol-errors-1e-15")'`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := liveOnly(c, &from); err != nil {
				return err
			}
			if window <= 0 {
				return fmt.Errorf("-window %v: counting takes time, as 60s", window)
			}
			return a.fabricCounters(c.Context(), from, optionalDir(args), name, window, all)
		},
	}
	a.inventoryFlags(c)
	sourceFlags(c, &from)
	hideObserved(c)
	a.judgeFlags(c, &name)
	f := c.Flags()
	f.DurationVar(&window, "window", time.Minute, "the `TIME` between the two readings")
	f.BoolVar(&all, "all", false, "print what is good and what is undecided, too")
	complete(c, "window", cobra.NoFileCompletions)
	return c
}

func (a *app) fabricCounters(ctx context.Context, from fabricSource, dir, name string, window time.Duration, all bool) error {
	judge, err := a.linkJudge(ctx, dir, name)
	if err != nil {
		return err
	}
	if from, err = judge.source(from); err != nil {
		return err
	}
	before, err := a.readCounters(ctx, from)
	if err != nil {
		return err
	}
	if err := a.waitFor(ctx, window); err != nil {
		return err
	}
	from.modules = true
	after, err := a.readCounters(ctx, from)
	if err != nil {
		return err
	}
	a.sayGaps(after)
	first := fabric.ReadingsOf(before.Observed)
	recent := map[fabric.PortID]*fabric.Recent{}
	for id, r := range fabric.ReadingsOf(after.Observed) {
		if was, ok := first[id]; ok {
			span := fabric.Since(was.Reading, r.Reading, judge.limits.Load*r.Rate)
			recent[id] = judge.limits.Recent([]fabric.Span{span}, &r.Reading, r.Rate)
		}
	}
	t := judge.judge(before, after, recent, nil)
	if a.json {
		checks := t.off
		if all {
			checks = t.all
		}
		err = printJSON(a.stdout, map[string]any{"source": after.from, "complete": after.err == nil && before.err == nil, "window_s": window.Seconds(),
			"summary": t.summary(), "undecided": t.undecided, "checks": checks, "not_read": notMeasured(after)})
	} else {
		a.printLinkVerdicts(t, all, notMeasured(after))
	}
	switch {
	case err != nil:
		return err
	case before.err != nil || after.err != nil:
		return cmp.Or(after.err, before.err)
	case len(t.off) > 0:
		return &exit{code: 2}
	}
	return nil
}

// readCounters reads the fabric with its counters. Without any there is no
// fabric to judge.
func (a *app) readCounters(ctx context.Context, from fabricSource) (*readFabric, error) {
	read, err := a.readFabric(ctx, from)
	if err != nil {
		return nil, err
	}
	if len(fabric.ReadingsOf(read.Observed)) > 0 {
		return read, nil
	}
	why := read.err
	for _, u := range read.unanswered {
		if why == nil || strings.Contains(u.What, "counters") {
			why = errors.New(u.String())
		}
	}
	return nil, fmt.Errorf("%s: the counters of no port could be read: %w", read.from, cmp.Or(why, errors.New("no port is connected")))
}

// waitFor waits, and shows on a terminal how long still.
func (a *app) waitFor(ctx context.Context, window time.Duration) error {
	end := time.NewTimer(window)
	defer end.Stop()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	began := time.Now()
	draw := drawable(a.stderr) && !a.json
	if draw {
		defer fmt.Fprint(a.stderr, "\r\x1b[K")
	}
	for {
		if draw {
			fmt.Fprintf(a.stderr, "\r\x1b[Kcounting, %v to go", (window - time.Since(began)).Round(time.Second))
		}
		select {
		case <-ctx.Done():
			return &exit{130, errors.New("interrupted before the second reading; nothing was judged")}
		case <-end.C:
			return nil
		case <-tick.C:
		}
	}
}

// linkVerdicts are the verdicts of all links at one time.
type linkVerdicts struct {
	links     int
	all, off  []fabric.LinkCheck
	undecided map[string]int // links by check that is only a matter of time
	verdicts  map[acceptance.Verdict]int
	offLinks  int
	gone      []goneLink
}

// goneLink is a link that was there at an earlier reading.
type goneLink struct {
	link  fabric.Link
	check fabric.LinkCheck
}

// judge judges the links of the newest reading. before is the reading before it,
// or nil; gone are links that went away earlier.
func (j *linkJudge) judge(before, after *readFabric, recent map[fabric.PortID]*fabric.Recent, gone []goneLink) *linkVerdicts {
	t := &linkVerdicts{off: []fabric.LinkCheck{}, undecided: map[string]int{}, verdicts: map[acceptance.Verdict]int{}}
	names := j.names(after.Observed)
	for _, l := range after.Links() {
		checks := append(fabric.JudgeLink(l, names), j.limits.Judge(l, recent[l.A.ID()], recent[l.B.ID()], names)...)
		t.add(j, append(checks, j.limits.JudgeModules(l, names)...))
	}
	for _, g := range gone {
		if g.link.Dark(after.Observed) {
			t.gone = append(t.gone, g)
		}
	}
	// Of what did not answer it is not known what is behind it.
	if before != nil && after.err == nil && before.err == nil && len(after.unanswered) == 0 {
		names := j.names(before.Observed)
		for _, l := range fabric.Gone(before.Observed, after.Observed) {
			t.gone = append(t.gone, goneLink{l, fabric.GoneCheck(l, names)})
		}
	}
	for _, g := range t.gone {
		t.add(j, []fabric.LinkCheck{g.check})
	}
	return t
}

// add takes the checks of one link.
func (t *linkVerdicts) add(j *linkJudge, checks []fabric.LinkCheck) {
	if !j.wants(checks) {
		return
	}
	t.links++
	off, unread := len(t.off), false
	for _, c := range checks {
		t.verdicts[c.Verdict]++
		switch {
		case c.Off():
			t.off = append(t.off, c)
			unread = unread || c.Name == fabric.CountersRead
		case c.Verdict == acceptance.NotRun && !unread:
			t.undecided[c.Name]++
		}
	}
	t.all = append(t.all, checks...)
	if len(t.off) > off {
		t.offLinks++
	}
}

func (t *linkVerdicts) summary() map[string]int {
	return map[string]int{"links": t.links, "off": t.offLinks, "pass": t.verdicts[acceptance.Pass], "fail": t.verdicts[acceptance.Fail],
		"not_run": t.verdicts[acceptance.NotRun], "not_applicable": t.verdicts[acceptance.NotApplicable]}
}

// String is "512 links, 2 with something off; undecided: flaps on 512".
func (t *linkVerdicts) String() string {
	text := fmt.Sprintf("%d %s, %d with something off", t.links, plural(t.links, "link", "links"), t.offLinks)
	var open []string
	for _, c := range t.all {
		if n := t.undecided[c.Name]; n > 0 && !slices.Contains(open, fmt.Sprintf("%s on %d", c.Name, n)) {
			open = append(open, fmt.Sprintf("%s on %d", c.Name, n))
		}
		if len(open) == len(t.undecided) {
			break
		}
	}
	if len(open) > 0 {
		text += "; undecided: " + strings.Join(open, ", ")
	}
	return text
}

var verdictColours = map[acceptance.Verdict]string{acceptance.Fail: "31", acceptance.NotRun: "33", acceptance.Pass: "32", acceptance.NotApplicable: "2"}

func (a *app) printLinkVerdicts(t *linkVerdicts, all bool, unread []string) {
	checks := t.off
	if all {
		checks = t.all
	}
	on := colour(a.stdout)
	part := ""
	for _, c := range checks {
		if c.Part != part {
			part = c.Part
			fmt.Fprintln(a.stdout, part)
		}
		fmt.Fprintf(a.stdout, "  %s  %s: %s; wanted %s (%s)\n", paint(on, verdictColours[c.Verdict], string(c.Verdict)), c.Name, c.Reading, c.Threshold, c.Source)
		if c.Suspect != "" {
			fmt.Fprintf(a.stdout, "      suspect: %s\n", c.Suspect)
		}
	}
	if len(checks) > 0 {
		fmt.Fprintln(a.stdout)
	}
	fmt.Fprintln(a.stdout, t)
	for _, n := range unread {
		fmt.Fprintf(a.stdout, "not read: %s\n", n)
	}
}
