package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
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
	var refresh bool
	c := &cobra.Command{
		Use:   "plan [DIR]",
		Short: "Show what apply would do, and why",
		Long: `Compare the inventory with what the journal knows and print, per node, what
apply would do and why, and what that disrupts. Nothing is touched. Nodes whose
steps are alike share an entry; sums by rack and by hardware class follow.

With -refresh-only it makes no plan: it asks the BMC of every node that has a
proof who it is and whether the node is on, and reports what is no longer as it
is known, and what is declared otherwise than it was proven. It changes nothing,
not even the journal.`,
		Example: `  firstlight plan racks/a
  firstlight plan -target 'hnode[001-008]' -out a.plan racks/a
  firstlight apply -plan a.plan racks/a
  firstlight plan -exclude rack=a07 -exclude hardware=spare racks/a
  firstlight plan -replace hnode017 racks/a    # prove it anew from the BMC up
  firstlight plan -refresh-only racks/a        # what has drifted
  firstlight plan -detailed-exitcode racks/a   # 0 nothing to do, 1 error, 2 changes or drift`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if refresh {
				return a.drift(c.Context(), dirArg(args, 0), out, detailed)
			}
			return a.plan(c.Context(), dirArg(args, 0), out, detailed)
		},
	}
	a.inventoryFlags(c)
	a.targetFlag(c)
	a.replaceFlag(c)
	c.Flags().BoolVar(&refresh, "refresh-only", false, "report what has drifted from what is known, and plan nothing")
	c.Flags().StringVar(&out, "out", "", "save the plan to a `FILE` for apply -plan")
	c.Flags().BoolVar(&detailed, "detailed-exitcode", false, "exit 0 when there is nothing to do, 1 on error, 2 when there are changes (with -refresh-only: drift)")
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
	_, err = j.Each(ctx, 0, func(events []provision.Event) error {
		_, err := known.Fold(events)
		return err
	})
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
	if want.Replace, err = a.replaced(s); err != nil {
		return provision.Plan{}, err
	}
	if a.burn {
		return a.burnPlan(s, known, want, targets, func(want provision.Want) provision.Plan {
			return provision.MakePlan(want, known, targets, time.Now())
		})
	}
	p := provision.MakePlan(want, known, targets, time.Now())
	return p, refusedReplacement(p, want.Replace)
}

// replaced resolves -replace.
func (a *app) replaced(s *site) (map[string]bool, error) {
	if len(a.replace) == 0 {
		return nil, nil
	}
	nodes, err := s.Cluster.Select(a.replace)
	if err != nil {
		return nil, fmt.Errorf("-replace: %w", err)
	}
	names := map[string]bool{}
	for _, n := range nodes {
		names[n.Name] = true
	}
	return names, nil
}

// refusedReplacement says which nodes cannot be proven anew: those that wait
// for a person, and those that the plan is not about.
func refusedReplacement(p provision.Plan, replace map[string]bool) error {
	left := maps.Clone(replace)
	for _, step := range p.Nodes {
		if replace[step.Name] && step.Action == provision.ActionHeld {
			return fmt.Errorf("-replace: %s waits for a person (%s) and is left alone", step.Name, strings.Join(step.Reasons, "; "))
		}
		delete(left, step.Name)
	}
	if len(left) > 0 {
		return fmt.Errorf("-replace: %s %s not among the nodes that -target and -exclude leave",
			inventory.Fold(slices.Collect(maps.Keys(left))), plural(len(left), "is", "are"))
	}
	return nil
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
