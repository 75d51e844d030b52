package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"firstlight/inventory"
	"firstlight/provision"
	"firstlight/provision/acceptance"
)

func (a *app) burninCommand() *cobra.Command {
	var opt applyOptions
	c := &cobra.Command{
		Use:   "burnin [DIR]",
		Short: "Burn in nodes again",
		Long: `Have nodes carry out the burn-in stages that their acceptance declares, once
more: the quick ones, a cold power cycle, the soak. Nodes are taken from validated
on; what they have proven before stands. A node that passes is ready again, with a
new record; one that does not is quarantined.

A node that is ready may be in use: it is burned in only where -target names it,
and not by its rack or class.

Exits 0 only if every node passes and none is unlike its peers, 2 if nothing was
done because a node cannot be burned in.`,
		Example: `  firstlight burnin -target hnode017 racks/a
  firstlight burnin -target 'hnode[001-064]' -auto-approve racks/a
  firstlight burnin -target hnode017 -auto-approve -json racks/a | jq 'select(.type == "burn-in").data'`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			a.burn = true // what apply plans
			return a.apply(c.Context(), dirArg(args, 0), opt)
		},
	}
	a.inventoryFlags(c)
	a.targetFlag(c)
	c.Flags().BoolVar(&opt.autoApprove, "auto-approve", false, "do not ask")
	return c
}

// burnable refuses what a plan would, before images are built for it.
func (a *app) burnable(ctx context.Context, s *site) error {
	if !a.burn {
		return nil
	}
	known, err := s.known(ctx)
	if err == nil {
		_, err = a.makePlan(s, known)
	}
	return err
}

// burnPlan is a plan that burns in nodes and does nothing else.
func (a *app) burnPlan(s *site, known provision.Known, want provision.Want, targets []*inventory.Node, plan func(provision.Want) provision.Plan) (provision.Plan, error) {
	if targets == nil {
		targets = s.Cluster.Nodes
	}
	want.Burn = map[string]bool{}
	named, err := a.namedOutright(s)
	if err != nil {
		return provision.Plan{}, err
	}
	var inUse, early []string
	for _, n := range targets {
		want.Burn[n.Name] = true
		k := known.Node(n.Name)
		switch {
		case !provision.BurnsIn(n):
			return provision.Plan{}, &exit{2, fmt.Errorf("%s: no burn-in stage is declared for it (%s)", n.Name, s.Cluster.DeclaredAt(n.Range))}
		case k.State == provision.Ready && !named[n.Name]:
			inUse = append(inUse, n.Name)
		case k.State != provision.Quarantined && k.State != provision.Maintenance && !k.Proven(provision.Validated):
			early = append(early, n.Name)
		}
	}
	switch {
	case len(inUse) > 0:
		return provision.Plan{}, &exit{2, fmt.Errorf("%s %s ready and may be in use: name %s with -target '%s'", inventory.Fold(inUse),
			plural(len(inUse), "is", "are"), plural(len(inUse), "it", "them"), inventory.Fold(inUse))}
	case len(early) > 0:
		return provision.Plan{}, &exit{2, fmt.Errorf("%s %s not validated yet: apply brings %s up and burns %s in", inventory.Fold(early),
			plural(len(early), "is", "are"), plural(len(early), "it", "them"), plural(len(early), "it", "them"))}
	}
	p := plan(want)
	for _, step := range p.Nodes {
		if i := slices.IndexFunc(step.Redo, func(st provision.State) bool { return st != provision.BurnedIn && st != provision.Ready }); i >= 0 {
			return p, &exit{2, fmt.Errorf("%s: what is declared for it has changed (%s): apply first", step.Name, strings.Join(step.Reasons, "; "))}
		}
	}
	return p, nil
}

// namedOutright are the nodes that -target names themselves.
func (a *app) namedOutright(s *site) (map[string]bool, error) {
	out := map[string]bool{}
	for _, t := range a.targets {
		if strings.Contains(t, "=") {
			continue
		}
		nodes, err := s.Cluster.Select([]string{t})
		if err != nil {
			return nil, err
		}
		for _, n := range nodes {
			out[n.Name] = true
		}
	}
	return out, nil
}

// burnOutcome says what the burn-ins of the plan's nodes and their peers say
// together.
func (a *app) burnOutcome(s *site, known provision.Known, plan provision.Plan) error {
	fleet := s.report(known).BurnIn
	if a.json {
		if err := a.event("burn-in", fleet); err != nil {
			return err
		}
	} else if fleet != nil {
		fmt.Fprintf(a.stdout, "\n%s\n", fleet.Covered())
		for _, c := range fleet.Checks {
			if c.Verdict != acceptance.Pass {
				fmt.Fprintf(a.stdout, "%s  %s: %s: %s (want %s)\n", c.Verdict, c.Name, c.Part, c.Reading, c.Threshold)
			}
		}
		for _, what := range fleet.NotRun {
			fmt.Fprintf(a.stdout, "not-run  %s\n", what)
		}
	}
	// What other nodes are like is said, and is not what was asked.
	for _, c := range fleet.Failed() {
		for _, step := range plan.Nodes {
			if slices.Contains(strings.FieldsFunc(c.Part, func(r rune) bool { return r == ' ' || r == ',' }), step.Name) {
				return &exit{code: 1}
			}
		}
	}
	return nil
}
