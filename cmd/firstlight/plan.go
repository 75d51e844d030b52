package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"firstlight/inventory"
	"firstlight/provision"
	"firstlight/provision/journal"
)

// savedPlan is the content of a plan file.
type savedPlan struct {
	Format string         `json:"format"`
	Made   time.Time      `json:"made"`
	Plan   provision.Plan `json:"plan"`
}

const planFormat = "firstlight plan 1"

func (a *app) planCommand() *cobra.Command {
	var out string
	var detailed bool
	c := &cobra.Command{
		Use:   "plan [DIR]",
		Short: "Show what apply would do, and why",
		Long: `Compare the inventory with what the journal knows and print, per node, what
apply would do and why, and what that disrupts. Nothing is touched.`,
		Example: `  firstlight plan racks/a
  firstlight plan -target 'hnode[001-008]' -out a.plan racks/a
  firstlight apply -plan a.plan racks/a
  firstlight plan -detailed-exitcode racks/a   # 0 nothing to do, 1 error, 2 changes`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.plan(c.Context(), dirArg(args, 0), out, detailed)
		},
	}
	a.inventoryFlags(c)
	a.targetFlag(c)
	c.Flags().StringVar(&out, "out", "", "save the plan to a `FILE` for apply -plan")
	c.Flags().BoolVar(&detailed, "detailed-exitcode", false, "exit 0 when there is nothing to do, 1 on error, 2 when there are changes")
	return c
}

func (a *app) plan(ctx context.Context, dir, out string, detailed bool) error {
	s, err := a.load(dir)
	if err != nil {
		return err
	}
	known, err := s.known(ctx)
	if err != nil {
		return err
	}
	p, err := a.makePlan(s, known)
	if err != nil {
		return err
	}
	if out != "" {
		if err := savePlan(out, p); err != nil {
			return err
		}
	}
	a.warnOldImages(s)
	if a.json {
		err = printJSON(a.stdout, p)
	} else {
		printPlan(a.stdout, p, colour(a.stdout))
		if out != "" {
			fmt.Fprintf(a.stdout, "\nSaved to %s. Carry it out with: firstlight apply -plan %s %s\n", out, out, dir)
		}
	}
	if err == nil && detailed && p.Changes() {
		return &exit{code: 2}
	}
	return err
}

// known reads the journal, which apply may be writing.
func (s *site) known(ctx context.Context) (provision.Known, error) {
	known := provision.NewKnown()
	j, err := journal.Open(ctx, journal.Options{Dir: s.path("etcd"), Cluster: s.Cluster.Name, ReadOnly: true})
	if err != nil {
		return known, err
	}
	defer j.Close()
	events, _, err := j.Read(ctx, 0)
	if err != nil {
		return known, err
	}
	_, err = known.Fold(events)
	return known, err
}

func (a *app) makePlan(s *site, known provision.Known) (provision.Plan, error) {
	targets, err := a.targetNodes(s)
	if err != nil {
		return provision.Plan{}, err
	}
	want, err := s.want(s.keyIfAny)
	if err != nil {
		return provision.Plan{}, err
	}
	return provision.MakePlan(want, known, targets, time.Now()), nil
}

func savePlan(file string, p provision.Plan) error {
	raw, err := json.MarshalIndent(savedPlan{Format: planFormat, Made: time.Now().UTC(), Plan: p}, "", "  ")
	if err != nil {
		return err
	}
	return writeFileAtomic(file, append(raw, '\n'), 0o644)
}

func loadPlan(file string) (provision.Plan, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return provision.Plan{}, err
	}
	var saved savedPlan
	if err := json.Unmarshal(raw, &saved); err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			line := 1 + bytes.Count(raw[:min(int(syntax.Offset), len(raw))], []byte("\n"))
			return provision.Plan{}, fmt.Errorf("%s:%d is not a saved plan: %w; make a new one with plan -out", file, line, err)
		}
		return provision.Plan{}, fmt.Errorf("%s is not a saved plan: %w; make a new one with plan -out", file, err)
	}
	if saved.Format != planFormat {
		return provision.Plan{}, fmt.Errorf("%s is not a plan of this version (format %q, want %q)", file, saved.Format, planFormat)
	}
	return saved.Plan, nil
}

// stale says why a saved plan may not be carried out any more.
func stale(file string, saved, now provision.Plan) error {
	switch {
	case saved.Cluster != now.Cluster:
		return fmt.Errorf("%s is a plan of cluster %q, this is %q", file, saved.Cluster, now.Cluster)
	case saved.Serial != now.Serial:
		return fmt.Errorf("%s is stale: it was made at serial %d of the journal, which is at %d now; make a new plan", file, saved.Serial, now.Serial)
	case saved.Inventory != now.Inventory:
		return fmt.Errorf("%s is stale: the inventory has changed since it was made; make a new plan", file)
	}
	return nil
}

var planSigns = map[string][2]string{
	provision.ActionBringUp: {"+", "32"},
	provision.ActionChange:  {"~", "33"},
	provision.ActionRemove:  {"-", "31"},
	provision.ActionHeld:    {"!", "35"},
}

// printPlan writes the plan for a person. Nodes whose steps are alike share one
// entry.
func printPlan(w io.Writer, p provision.Plan, colour bool) {
	if !p.Changes() && p.Summary.Held == 0 {
		fmt.Fprintf(w, "No changes. %d %s ready and rest on what is declared.\n", p.Summary.NoChange, plural(p.Summary.NoChange, "node is", "nodes are"))
		return
	}
	for _, g := range groupSteps(p.Nodes) {
		s := g.step
		sign := planSigns[s.Action]
		what := fmt.Sprintf("%s -> %s", s.From, s.To)
		switch s.Action {
		case provision.ActionRemove:
			what = "close the record"
		case provision.ActionHeld:
			what = "left alone"
		}
		rack := ""
		if s.Rack != "" {
			rack = " (rack " + s.Rack + ")"
		}
		fmt.Fprintf(w, "%s %s%s: %s\n", paint(colour, sign[1], sign[0]), inventory.Fold(g.names), rack, what)
		for _, r := range s.Reasons {
			fmt.Fprintf(w, "    because %s\n", r)
		}
		if d := disruption(s.Disruption, len(g.names)); d != "" {
			fmt.Fprintf(w, "    costs %s, about %s\n", d, about(seconds(s.DurationS)))
		}
	}
	fmt.Fprintln(w)
	fmt.Fprintln(w, summaryLine(p.Summary))
	if p.Summary.Held > 0 {
		fmt.Fprintf(w, "%d %s for a person.\n", p.Summary.Held, plural(p.Summary.Held, "node waits", "nodes wait"))
	}
}

// summaryLine is the disruption line.
func summaryLine(s provision.Summary) string {
	return fmt.Sprintf("Plan: %d to bring up, %d to change, %d to remove. %d power %s, %d disk %s, about %s.",
		s.BringUp, s.Change, s.Remove, s.PowerCycles, plural(s.PowerCycles, "cycle", "cycles"),
		s.DiskErasures, plural(s.DiskErasures, "erasure", "erasures"), about(seconds(s.DurationS)))
}

type stepGroup struct {
	step  provision.PlanStep
	names []string
}

func groupSteps(steps []provision.PlanStep) []stepGroup {
	var groups []stepGroup
	index := map[string]int{}
	for _, s := range steps {
		if s.Action == provision.ActionNone {
			continue
		}
		key := fmt.Sprint(s.Action, s.Rack, s.From, s.To, s.Reasons, s.Disruption)
		i, ok := index[key]
		if !ok {
			i = len(groups)
			index[key] = i
			groups = append(groups, stepGroup{step: s})
		}
		groups[i].names = append(groups[i].names, s.Name)
	}
	return groups
}

func disruption(d provision.Disruption, nodes int) string {
	var parts []string
	add := func(n int, one, many string) {
		if n > 0 {
			each := ""
			if nodes > 1 {
				each = " each"
			}
			parts = append(parts, fmt.Sprintf("%d %s%s", n, plural(n, one, many), each))
		}
	}
	add(d.PowerCycles, "power cycle", "power cycles")
	add(d.Reboots, "reboot", "reboots")
	add(d.DiskErasures, "disk erasure", "disk erasures")
	return strings.Join(parts, ", ")
}

func plural(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

func (a *app) showCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "show PLAN|NODE [DIR]",
		Short: "Show a saved plan, or all that is known of one node",
		Long: `Show a saved plan, or all that is known of one node: its states with times,
the boots seen on the wire, and the evidence.`,
		Example: `  firstlight show a.plan
  firstlight show -json a.plan | jq .summary
  firstlight show hnode017 racks/a`,
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: a.completeShow,
		RunE: func(c *cobra.Command, args []string) error {
			if info, err := os.Stat(args[0]); err == nil && info.Mode().IsRegular() {
				return a.showPlan(args[0])
			}
			return a.showNode(c.Context(), args[0], dirArg(args, 1))
		},
	}
	a.inventoryFlags(c)
	return c
}

func (a *app) showPlan(file string) error {
	p, err := loadPlan(file)
	if err != nil {
		return err
	}
	if a.json {
		return printJSON(a.stdout, p)
	}
	printPlan(a.stdout, p, colour(a.stdout))
	return nil
}

var errNoNode = errors.New("no such node")
