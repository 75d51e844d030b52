package main

import (
	"context"
	"encoding/json"
	"fmt"
	"sort"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"firstlight/fabric"
	"firstlight/inventory"
	"firstlight/provision"
	"firstlight/provision/acceptance"
)

// nodeStatus is a row of status -json.
type nodeStatus struct {
	Name   string     `json:"name"`
	Rack   string     `json:"rack"`
	State  string     `json:"state"`
	Reason string     `json:"reason"`
	Since  *time.Time `json:"since"` // null: never left declared
	Power  string     `json:"power"`
	Detour string     `json:"detour,omitempty"` // by which protocol its BMC was asked instead of the declared one, and why
	// Fabric is what the last reading of the fabric found that concerns the node.
	Fabric []nodeFinding `json:"fabric"`
}

// nodeFinding is a finding of the fabric in brief; all of it is under "fabric".
type nodeFinding struct {
	Class    fabric.Class    `json:"class"`
	Severity fabric.Severity `json:"severity"`
	Action   string          `json:"action"`
	Message  string          `json:"message"`
}

// discovered is a machine that asked for a boot and is not declared.
type discovered struct {
	MAC    string    `json:"mac"`
	Detail string    `json:"detail"`
	First  time.Time `json:"first"`
	Last   time.Time `json:"last"`
}

func (a *app) statusCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "status [DIR]",
		Short: "Show where every node stands",
		Long: `Show where every node stands, from the journal; it may be asked while apply
runs. A node that must wait before it is switched on says for what, as it was when it
began to wait. Machines that asked for a boot and are not declared are listed too. The
power column is what the BMC last confirmed; ask it now with firstlight power
status. Once the fabric was read, by apply or by firstlight fabric verify, the fabric
column has what was found that concerns the node, also of nodes that are ready.`,
		Example: `  firstlight status racks/a
  firstlight status -target rack=a01 -json racks/a | jq -r '.nodes[] | select(.state != "ready") | .name'`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.status(c.Context(), dirArg(args, 0))
		},
	}
	a.inventoryFlags(c)
	a.targetFlag(c)
	return c
}

func (a *app) status(ctx context.Context, dir string) error {
	s, known, err := a.recall(ctx, dir)
	if err != nil {
		return err
	}
	nodes, err := a.chosenNodes(s)
	if err != nil {
		return err
	}
	reading, err := s.reading()
	if err != nil {
		return err
	}
	rows := statusRows(nodes, known, reading)
	strangers := discoveries(known)
	if a.json {
		return printJSON(a.stdout, map[string]any{"serial": known.Serial, "nodes": rows, "discovered": strangers, "fabric": reading})
	}
	a.printStatus(rows, strangers, reading)
	return nil
}

func statusRows(nodes []*inventory.Node, known provision.Known, reading *fabricReading) []nodeStatus {
	rows := []nodeStatus{}
	for _, n := range nodes {
		k := known.Node(n.Name)
		r := nodeStatus{Name: n.Name, State: string(k.State), Reason: k.Why(), Power: k.Power, Detour: k.Detour, Fabric: []nodeFinding{}}
		for _, f := range reading.of(n.Name) {
			r.Fabric = append(r.Fabric, nodeFinding{f.Class, f.Severity, f.Action, f.Message})
		}
		if !k.Since.IsZero() {
			r.Since = &k.Since
		}
		if n.Rack != nil {
			r.Rack = n.Rack.Name
		}
		if k.Active && r.Reason == "" {
			if pending := k.Pending(time.Time{}); len(pending) > 0 {
				r.Reason = fmt.Sprintf("%s under way or to be resumed", pending[0].Do)
			}
		}
		if r.Reason == "" && k.Detour != "" {
			r.Reason = "its BMC was " + k.Detour
		}
		rows = append(rows, r)
	}
	return rows
}

func discoveries(known provision.Known) []discovered {
	out := []discovered{}
	for _, d := range known.Discovered {
		out = append(out, discovered{MAC: d.MAC, Detail: d.Detail, First: d.First, Last: d.Last})
	}
	sort.Slice(out, func(i, j int) bool { return out[i].MAC < out[j].MAC })
	return out
}

var stateColours = map[string]string{"ready": "32", "failed": "31", "quarantined": "35", "maintenance": "36", "declared": "2"}

func (a *app) printStatus(rows []nodeStatus, strangers []discovered, reading *fabricReading) {
	on := colour(a.stdout)
	tw := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	column := ""
	if reading != nil {
		column = "FABRIC\t"
	}
	fmt.Fprintln(tw, "NODE\tRACK\tSTATE\tSINCE\tPOWER\t"+column+"REASON")
	counts := map[string]int{}
	for _, r := range rows {
		counts[r.State]++
		since := "-"
		if r.Since != nil {
			since = about(time.Since(*r.Since)) + " ago"
		}
		if reading != nil {
			column = fabricCell(r.Fabric) + "\t"
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s%s\n", r.Name, dash(r.Rack), r.State, since, dash(r.Power), column, r.Reason)
	}
	tw.Flush()
	var parts []string
	for _, st := range provision.States() {
		if n := counts[string(st)]; n > 0 {
			parts = append(parts, paint(on, stateColours[string(st)], fmt.Sprintf("%d %s", n, st)))
		}
	}
	fmt.Fprintf(a.stdout, "\n%d %s: %s\n", len(rows), plural(len(rows), "node", "nodes"), strings.Join(parts, ", "))
	for _, d := range strangers {
		fmt.Fprintf(a.stdout, "undeclared: %s asked for a boot, last %s ago (%s); it was not answered\n", d.MAC, about(time.Since(d.Last)), dash(d.Detail))
	}
	if reading != nil {
		a.printReading(reading)
	}
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// showNode prints all that is known of one node.
func (a *app) showNode(ctx context.Context, name, dir string) error {
	s, known, err := a.recall(ctx, dir)
	if err != nil {
		return err
	}
	n, ok := known.Nodes[name]
	if !ok {
		if s.Cluster.Node(name) == nil {
			_, err := s.Cluster.Select([]string{name})
			return fmt.Errorf("%q is neither a saved plan nor a node: %w", name, errorOr(err, errNoNode))
		}
		n = provision.NewNode(name)
	}
	if a.json {
		return printJSON(a.stdout, n)
	}
	fmt.Fprintf(a.stdout, "%s\n", n)
	if n.Rung > 0 && n.Rung < len(n.Ladder) {
		fmt.Fprintf(a.stdout, "  boots: %s was tried last, of %s\n", n.Ladder[n.Rung].Does(), joined(n.Ladder))
	}
	if n.Detour != "" {
		fmt.Fprintf(a.stdout, "  its BMC was %s\n", n.Detour)
	}
	for _, e := range n.History {
		fmt.Fprintf(a.stdout, "  %s  %-12s %s\n", e.At.Local().Format("15:04:05"), e.State, e.Reason)
		if e.Evidence == "" {
			continue
		}
		raw, err := s.evidence().Get(e.Evidence)
		var ev acceptance.Evidence
		if err != nil || json.Unmarshal(raw, &ev) != nil {
			continue // the record of ready is not a table of checks
		}
		for _, c := range ev.Checks {
			fmt.Fprintf(a.stdout, "              %-14s %s: found %s; wanted %s (%s)\n", c.Verdict, c.Name, c.Reading, c.Threshold, c.Source)
		}
	}
	return nil
}

func joined(rungs []provision.Rung) string {
	var b strings.Builder
	for i, r := range rungs {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(string(r))
	}
	return b.String()
}

func errorOr(err, other error) error {
	if err != nil {
		return err
	}
	return other
}
