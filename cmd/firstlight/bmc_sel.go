package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"firstlight/inventory"
	"firstlight/provision/bmc"
	"firstlight/provision/bmc/redfish"
)

// logEntry is one event of a BMC's log, by either protocol.
type logEntry struct {
	ID       string     `json:"id"`
	Time     *time.Time `json:"time"`       // null: the record has none
	SinceUp  float64    `json:"since_up_s"` // since the BMC's start, where its clock was not set
	Sensor   string     `json:"sensor"`     // "" by Redfish
	Type     string     `json:"type"`
	Event    string     `json:"event"`
	Asserted bool       `json:"asserted"` // false: the event has ended
	Severity string     `json:"severity"` // OK, Warning or Critical
	Detail   string     `json:"detail"`
}

// nodeLog is one node's log.
type nodeLog struct {
	Skew    *float64   `json:"clock_ahead_s"` // of the BMC's clock; null: not told
	Lost    bool       `json:"lost"`          // events were not logged, because it was full
	Entries []logEntry `json:"entries"`
}

// severities in rising order.
var severities = [...]string{"OK", "Warning", "Critical"}

func (a *app) bmcSELCommand() *cobra.Command {
	var least string
	var last int
	var since time.Duration
	c := &cobra.Command{
		Use:   "sel [NODE...] [DIR]",
		Short: "Print the BMCs' event logs",
		Long: `Print the event logs of the nodes' BMCs: the System Event Log by IPMI, the log
services by Redfish. A last argument that is a directory is the inventory. Times
are by each BMC's own clock; one that is more than a minute wrong is said.
Exits 1 when a BMC did not answer.`,
		Example: `  firstlight bmc sel hnode017 racks/a
  firstlight bmc sel -severity warning -since 24h racks/a
  firstlight bmc sel -target rack=a01 -last 5 racks/a
  firstlight bmc sel -json hnode017 racks/a | jq '.nodes[].entries[]'`,
		RunE: func(c *cobra.Command, args []string) error {
			i := slices.IndexFunc(severities[:], func(s string) bool { return strings.EqualFold(s, least) })
			if i < 0 {
				return fmt.Errorf("-severity %s: one of ok, warning, critical", least)
			}
			return a.bmcSEL(c.Context(), args, logFilter{least: i, last: last, since: since})
		},
	}
	a.bmcFlags(c)
	f := c.Flags()
	f.StringVar(&least, "severity", "ok", "only events of this `SEVERITY` or a graver one: ok, warning or critical")
	f.IntVar(&last, "last", 0, "only the last `N` of each node")
	f.DurationVar(&since, "since", 0, "only events of this last `TIME`, as 24h, by the BMC's own clock")
	complete(c, "severity", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return []string{"ok", "warning", "critical"}, cobra.ShellCompDirectiveNoFileComp
	})
	return c
}

// logFilter says which events are printed.
type logFilter struct {
	least int // index in severities
	last  int // 0: all
	since time.Duration
}

// keep takes the events that are wanted. now is by the clock that stamped them.
func (f logFilter) keep(all []logEntry, now time.Time) []logEntry {
	out := []logEntry{}
	for _, e := range all {
		grave := slices.Index(severities[:], e.Severity) >= f.least
		recent := f.since == 0 || e.Time != nil && now.Sub(*e.Time) <= f.since
		if grave && recent {
			out = append(out, e)
		}
	}
	if f.last > 0 && len(out) > f.last {
		out = out[len(out)-f.last:]
	}
	return out
}

func (a *app) bmcSEL(ctx context.Context, args []string, filter logFilter) error {
	boards, nodes, err := a.openBoards(ctx, args)
	if err != nil {
		return err
	}
	defer boards.Close()
	answers := askBMCs(ctx, a, boards, nodes, boards.eventLog)
	for i := range answers {
		l := &answers[i].value
		now := time.Now()
		if l.Skew != nil {
			now = now.Add(time.Duration(*l.Skew * float64(time.Second)))
		}
		l.Entries = filter.keep(l.Entries, now)
	}
	if a.json {
		type row struct {
			Name string `json:"name"`
			nodeLog
			Error string `json:"error"`
		}
		rows := make([]row, len(answers))
		for i := range answers {
			rows[i] = row{answers[i].node.Name, answers[i].value, answers[i].failure()}
		}
		if err := printJSON(a.stdout, map[string]any{"nodes": rows}); err != nil {
			return err
		}
		return failures(a, answers)
	}
	a.printLogs(answers)
	return failures(a, answers)
}

// eventLog reads one node's log.
func (b *boards) eventLog(ctx context.Context, n *inventory.Node) (out nodeLog, err error) {
	err = b.rich(ctx, n, func(s *bmc.Session) error {
		l, err := s.EventLog(ctx)
		out = ipmiLog(l)
		return err
	}, func(s *redfish.Session) error {
		entries, err := s.EventLog(ctx)
		out = redfishLog(entries)
		return err
	})
	return out, err
}

func ipmiLog(l bmc.EventLog) nodeLog {
	out := nodeLog{Lost: l.Lost}
	if !l.Clock.IsZero() {
		ahead := l.Skew().Seconds()
		out.Skew = &ahead
	}
	for _, e := range l.Entries {
		row := logEntry{ID: strconv.Itoa(int(e.ID)), SinceUp: e.SinceUp.Seconds(), Sensor: e.Sensor, Type: e.Type, Event: e.Event,
			Asserted: e.Asserted, Severity: e.Severity, Detail: e.Detail}
		if !e.Time.IsZero() {
			row.Time = &e.Time
		}
		out.Entries = append(out.Entries, row)
	}
	return out
}

func redfishLog(entries []redfish.LogEntry) (out nodeLog) {
	for _, e := range entries {
		row := logEntry{ID: e.ID, Event: e.Message, Asserted: true, Severity: e.Severity}
		if !slices.Contains(severities[:], row.Severity) {
			row.Severity = "OK"
		}
		if !e.Created.IsZero() {
			row.Time = &e.Created
		}
		out.Entries = append(out.Entries, row)
	}
	return out
}

func (a *app) printLogs(answers []answer[nodeLog]) {
	tw := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "NODE\tTIME\tSEVERITY\tSENSOR\tEVENT")
	printed, quiet := 0, 0
	for i := range answers {
		r := &answers[i]
		if r.err == nil && len(r.value.Entries) == 0 {
			quiet++
		}
		for _, e := range r.value.Entries {
			printed++
			event := e.Event
			if !e.Asserted {
				event += ", ended"
			}
			if e.Detail != "" {
				event += " (" + e.Detail + ")"
			}
			fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\n", r.node.Name, e.when(), e.Severity, dash(e.Sensor), event)
		}
	}
	if printed > 0 {
		tw.Flush()
		fmt.Fprintln(a.stdout)
	}
	fmt.Fprintf(a.stdout, "%d %s; %d %s none\n", printed, plural(printed, "event", "events"), quiet, plural(quiet, "node has", "nodes have"))
	for i := range answers {
		r := &answers[i]
		if r.value.Lost {
			fmt.Fprintf(a.stderr, "%s: the log is full and events were lost: save it, then clear it on the bmc\n", r.node.Name)
		}
		if s := r.value.Skew; s != nil && (*s > 60 || *s < -60) {
			fmt.Fprintf(a.stderr, "%s: the BMC's clock is %s %s\n", r.node.Name, about(time.Duration(max(*s, -*s))*time.Second),
				map[bool]string{true: "ahead", false: "behind"}[*s > 0])
		}
	}
}

// when is the event's time, as a table has it.
func (e *logEntry) when() string {
	switch {
	case e.Time != nil:
		return e.Time.UTC().Format("2006-01-02 15:04:05")
	case e.SinceUp > 0:
		return "start+" + (time.Duration(e.SinceUp) * time.Second).String()
	}
	return "-"
}
