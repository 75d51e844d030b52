package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"firstlight/inventory"
	"firstlight/provision"
	"firstlight/provision/journal"
)

func (a *app) quarantineCommand() *cobra.Command {
	var reason string
	var maintenance bool
	c := &cobra.Command{
		Use:   "quarantine NODES [DIR]",
		Short: "Take nodes out until a person releases them",
		Long: `Take nodes out until a person releases them. apply leaves them alone, plan and
status say why. Nothing is done to the machines, and what was proven is kept.
NODES are names, ranges or rack=NAME, as for -target.`,
		Example: `  firstlight quarantine -reason "burnt smell" hnode017 racks/a
  firstlight quarantine -maintenance -reason "DIMM swap" 'hnode[017-018]' racks/a
  firstlight release hnode017 racks/a`,
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: a.completeNodes,
		RunE: func(c *cobra.Command, args []string) error {
			kind := provision.EventQuarantine
			if maintenance {
				kind = provision.EventMaintain
			}
			return a.hold(c.Context(), dirArg(args, 1), args[0], kind, reason)
		},
	}
	a.inventoryFlags(c)
	c.Flags().StringVar(&reason, "reason", "", "why, as `TEXT`; shown by status and plan")
	c.Flags().BoolVar(&maintenance, "maintenance", false, "planned work rather than a fault")
	return c
}

func (a *app) releaseCommand() *cobra.Command {
	c := &cobra.Command{
		Use:               "release NODES [DIR]",
		Short:             "Release nodes from quarantine or maintenance",
		Long:              "Release nodes from quarantine or maintenance. What a person took out counts as\nunproven but for its BMC: apply boots, inspects and checks it anew. What was\nquarantined over a BMC password returns to the last state that is proven.",
		Example:           `  firstlight release hnode017 racks/a && firstlight apply -target hnode017 racks/a`,
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: a.completeNodes,
		RunE: func(c *cobra.Command, args []string) error {
			return a.hold(c.Context(), dirArg(args, 1), args[0], provision.EventRelease, "")
		},
	}
	a.inventoryFlags(c)
	return c
}

// hold records a person's decision about nodes.
func (a *app) hold(ctx context.Context, dir, target, kind, reason string) error {
	s, err := a.loadQuietly(dir)
	if err != nil {
		return err
	}
	nodes, err := s.Cluster.Select([]string{target})
	if err != nil {
		return err
	}
	j, unlock, err := s.openLocked(ctx, "quarantine or release")
	if err != nil {
		return err
	}
	defer j.Close()
	defer unlock()
	known := provision.NewKnown()
	past, serial, err := j.Read(ctx, 0)
	if err != nil {
		return err
	}
	if _, err := known.Fold(past); err != nil {
		return err
	}
	events, err := holdEvents(nodes, known, kind, reason)
	if err != nil {
		return err
	}
	if _, err := j.Append(ctx, serial, events...); err != nil {
		return err
	}
	for i := range events {
		events[i].Serial = serial + int64(i) + 1
	}
	if _, err := known.Fold(events); err != nil {
		return err
	}
	rows := statusRows(nodes, known, nil)
	if a.json {
		return printJSON(a.stdout, map[string]any{"nodes": rows})
	}
	for _, r := range rows {
		fmt.Fprintf(a.stdout, "%s is now %s\n", r.Name, r.State)
	}
	return nil
}

func holdEvents(nodes []*inventory.Node, known provision.Known, kind, reason string) ([]provision.Event, error) {
	data, err := json.Marshal(provision.ReasonData{Reason: reason})
	if err != nil {
		return nil, err
	}
	var events []provision.Event
	for _, n := range nodes {
		k := kind
		state := known.Node(n.Name).State
		if kind == provision.EventRelease {
			switch state {
			case provision.Quarantined:
			case provision.Maintenance:
				k = provision.EventReturn
			default:
				return nil, fmt.Errorf("%s is %s: there is nothing to release it from", n.Name, state)
			}
		}
		events = append(events, provision.Event{Time: time.Now().UTC(), Node: n.Name, Kind: k, Data: data})
	}
	return events, nil
}

// openLocked opens the journal as its one writer.
func (s *site) openLocked(ctx context.Context, verb string) (*journal.Journal, func(), error) {
	dir, err := s.mkdir("etcd")
	if err != nil {
		return nil, nil, err
	}
	j, err := journal.Open(ctx, journal.Options{Dir: dir, Cluster: s.Cluster.Name})
	if err != nil {
		return nil, nil, err
	}
	unlock, err := j.Lock(ctx, holder(verb))
	if err != nil {
		j.Close()
		return nil, nil, err
	}
	return j, unlock, nil
}

// holder names this process to whoever finds the journal locked.
func holder(verb string) string {
	host, _ := os.Hostname()
	return fmt.Sprintf("%s, process %d on %s", verb, os.Getpid(), host)
}
