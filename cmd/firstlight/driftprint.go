package main

import (
	"fmt"
	"slices"
	"strings"

	"firstlight/inventory"
	"firstlight/provision"
)

// driftSummary counts a report.
type driftSummary struct {
	Nodes   int `json:"nodes"`
	Read    int `json:"read"`
	NotRead int `json:"not_read"`
	Drifted int `json:"drifted"`
}

// undeclared are nodes that the journal knows and the inventory does not name.
func undeclared(c *inventory.Cluster, known provision.Known) []driftNode {
	declared := make(map[string]bool, len(c.Nodes))
	for _, n := range c.Nodes {
		declared[n.Name] = true
	}
	var rows []driftNode
	for name, k := range known.Nodes {
		if !declared[name] {
			rows = append(rows, driftNode{Name: name, State: string(k.State), NotRead: "no longer in the inventory",
				Drift: []driftItem{{What: "node", Known: string(k.State), Found: "not declared", In: driftInventory}}})
		}
	}
	slices.SortFunc(rows, func(a, b driftNode) int { return strings.Compare(a.Name, b.Name) })
	return rows
}

// printDrift writes the report and returns how many nodes have drifted.
func (a *app) printDrift(s *site, known provision.Known, rows []driftNode, unread string) (int, error) {
	sum := driftSummary{Nodes: len(rows)}
	var items []item
	for i, r := range rows {
		if r.Read {
			sum.Read++
		} else {
			sum.NotRead++
		}
		if len(r.Drift) == 0 {
			continue
		}
		sum.Drifted++
		it := item{index: i, name: r.Name, rack: r.Rack, key: r.State}
		for _, d := range r.Drift {
			it.reasons = append(it.reasons, d.String())
		}
		items = append(items, it)
	}
	if a.json {
		return sum.Drifted, printJSON(a.stdout, map[string]any{"serial": known.Serial, "cluster": s.Cluster.Name, "summary": sum, "nodes": rows, "fabric_not_read": unread})
	}
	on := colour(a.stdout)
	printAlike(a.stdout, alike(items), func(g group) {
		fmt.Fprintf(a.stdout, "%s %s%s: %s\n", paint(on, "33", "~"), g.nodes(), g.places(), rows[g.first].State)
		for _, r := range g.reasons {
			fmt.Fprintf(a.stdout, "    %s\n", r)
		}
	})
	if sum.Drifted > 0 {
		fmt.Fprintf(a.stdout, "\n%d of %d %s drifted. ", sum.Drifted, sum.Nodes, plural(sum.Nodes, "node has", "nodes have"))
	} else {
		fmt.Fprintf(a.stdout, "No drift. ")
	}
	fmt.Fprintf(a.stdout, "%d %s read; nothing was changed.\n", sum.Read, plural(sum.Read, "BMC was", "BMCs were"))
	a.printUnread(rows)
	if unread != "" {
		fmt.Fprintf(a.stdout, "Not read: the fabric (%s)\n", unread)
	}
	return sum.Drifted, nil
}

// printUnread names the nodes whose BMC was not asked, by reason.
func (a *app) printUnread(rows []driftNode) {
	var reasons []string
	names := map[string][]string{}
	for _, r := range rows {
		if r.Read {
			continue
		}
		if names[r.NotRead] == nil {
			reasons = append(reasons, r.NotRead)
		}
		names[r.NotRead] = append(names[r.NotRead], r.Name)
	}
	for _, why := range reasons {
		fmt.Fprintf(a.stdout, "Not read: %s (%s)\n", foldWithin(names[why]), why)
	}
}
