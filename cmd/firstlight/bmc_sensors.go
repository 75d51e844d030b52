package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"firstlight/inventory"
	"firstlight/provision/bmc"
	"firstlight/provision/bmc/redfish"
)

// sensorRow is one sensor's reading, by either protocol.
type sensorRow struct {
	Name   string   `json:"name"`
	Type   string   `json:"type"`  // "" by Redfish
	Value  *float64 `json:"value"` // null: there is none now
	Unit   string   `json:"unit"`
	Health string   `json:"health"` // OK, Warning, Critical, or "" without a reading
	States []string `json:"states"`
	Reason string   `json:"reason"` // why there is no reading
}

// nodeSensors are one node's readings.
type nodeSensors struct {
	Inlet   *float64    `json:"inlet_celsius"` // null: not measured
	Watts   *float64    `json:"watts"`         // null: not measured
	Sensors []sensorRow `json:"sensors"`
}

func (a *app) bmcSensorsCommand() *cobra.Command {
	var all bool
	c := &cobra.Command{
		Use:   "sensors [NODE...] [DIR]",
		Short: "Print what the BMCs measure: inlet temperature, power, and what is out of bounds",
		Long: `Print inlet temperature, power drawn and the sensors that are out of bounds of
each node; all sensors of a single node, or with -all. A last argument that is a
directory is the inventory. Exits 1 when a BMC did not answer.`,
		Example: `  firstlight bmc sensors racks/a
  firstlight bmc sensors hnode017 racks/a
  firstlight bmc sensors -json racks/a | jq '[.nodes[].watts] | add'`,
		RunE: func(c *cobra.Command, args []string) error {
			return a.bmcSensors(c.Context(), args, all)
		},
	}
	a.bmcFlags(c)
	c.Flags().BoolVar(&all, "all", false, "print every sensor of every node")
	return c
}

func (a *app) bmcSensors(ctx context.Context, args []string, all bool) error {
	boards, nodes, err := a.openBoards(ctx, args)
	if err != nil {
		return err
	}
	defer boards.Close()
	answers := askBMCs(ctx, a, boards, nodes, boards.sensors)
	switch {
	case a.json:
		type row struct {
			Name string `json:"name"`
			nodeSensors
			Error string `json:"error"`
		}
		rows := make([]row, len(answers))
		for i := range answers {
			rows[i] = row{answers[i].node.Name, answers[i].value, answers[i].failure()}
			rows[i].Sensors = append([]sensorRow{}, rows[i].Sensors...)
		}
		if err := printJSON(a.stdout, map[string]any{"nodes": rows}); err != nil {
			return err
		}
	case all || len(nodes) == 1:
		a.printSensors(answers)
	default:
		a.printSensorSummary(answers)
	}
	return failures(a, answers)
}

// sensors reads one node's.
func (b *boards) sensors(ctx context.Context, n *inventory.Node) (out nodeSensors, err error) {
	err = b.rich(ctx, n, func(s *bmc.Session) error {
		got, err := s.Sensors(ctx)
		out = ipmiSensors(got)
		return err
	}, func(s *redfish.Session) error {
		got, err := s.Sensors(ctx)
		out = redfishSensors(got)
		return err
	})
	return out, err
}

// Watts implements provision.Meter. By IPMI it is one question: all sensors would be
// hundreds.
func (b *boards) Watts(ctx context.Context, n *inventory.Node) (float64, error) {
	var now *float64
	err := b.rich(ctx, n, func(s *bmc.Session) (err error) {
		now, err = s.Watts(ctx)
		return err
	}, func(s *redfish.Session) error {
		got, err := s.Sensors(ctx)
		now = got.Watts
		return err
	})
	if err != nil || now == nil {
		return 0, err
	}
	return *now, nil
}

func ipmiSensors(got bmc.Sensors) nodeSensors {
	out := nodeSensors{Inlet: got.Inlet, Watts: got.Watts}
	for _, r := range got.Readings {
		out.Sensors = append(out.Sensors, sensorRow{Name: r.Name, Type: r.Type, Value: r.Value, Unit: r.Unit, Health: r.Health,
			States: append([]string{}, r.States...), Reason: r.Reason})
	}
	return out
}

func redfishSensors(got redfish.Sensors) nodeSensors {
	out := nodeSensors{Watts: got.Watts}
	for _, r := range got.Readings {
		row := sensorRow{Name: r.Name, Value: r.Value, Unit: r.Unit, Health: r.Health, States: []string{}}
		if r.Value == nil {
			row.Reason = "no reading now"
		}
		if r.Unit == "Cel" && r.Value != nil && out.Inlet == nil && bmc.InletName(r.Name) {
			out.Inlet = r.Value
		}
		out.Sensors = append(out.Sensors, row)
	}
	for _, u := range got.Unread {
		out.Sensors = append(out.Sensors, sensorRow{Name: u.URI, States: []string{}, Reason: u.Reason})
	}
	return out
}

// text is the reading as a table has it.
func (r *sensorRow) text() string {
	switch {
	case r.Value != nil:
		return strings.TrimSpace(strconv.FormatFloat(*r.Value, 'f', -1, 64) + " " + shownUnit(r.Unit))
	case len(r.States) > 0:
		return strings.Join(r.States, ", ")
	case r.Reason != "":
		return r.Reason
	}
	return "-"
}

func shownUnit(unit string) string {
	if unit == "Cel" {
		return "°C"
	}
	return unit
}

func (a *app) printSensors(answers []answer[nodeSensors]) {
	tw := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "NODE\tSENSOR\tREADING\tHEALTH")
	for i := range answers {
		v := &answers[i].value
		for j := range v.Sensors {
			fmt.Fprintf(tw, "%s\t%s\t%s\t%s\n", answers[i].node.Name, v.Sensors[j].Name, v.Sensors[j].text(), dash(v.Sensors[j].Health))
		}
	}
	tw.Flush()
	a.printMeasured(answers)
}

func (a *app) printSensorSummary(answers []answer[nodeSensors]) {
	tw := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "NODE\tINLET\tPOWER\tSENSORS\tOUT OF BOUNDS")
	for i := range answers {
		if answers[i].err != nil {
			continue
		}
		v := &answers[i].value
		var bad []string
		for j := range v.Sensors {
			if s := &v.Sensors[j]; s.Health == "Warning" || s.Health == "Critical" {
				bad = append(bad, fmt.Sprintf("%s %s (%s)", s.Name, s.text(), strings.ToLower(s.Health)))
			}
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%d\t%s\n", answers[i].node.Name, measured(v.Inlet, "°C"), measured(v.Watts, "W"), len(v.Sensors), dash(strings.Join(bad, ", ")))
	}
	tw.Flush()
	a.printMeasured(answers)
}

// measured is a value that may be none.
func measured(v *float64, unit string) string {
	if v == nil {
		return "-"
	}
	return strconv.FormatFloat(*v, 'f', -1, 64) + " " + unit
}

// printMeasured sums up power and inlet temperatures.
func (a *app) printMeasured(answers []answer[nodeSensors]) {
	var total float64
	var inlets []float64
	watts := 0
	for i := range answers {
		if w := answers[i].value.Watts; w != nil {
			total += *w
			watts++
		}
		if t := answers[i].value.Inlet; t != nil {
			inlets = append(inlets, *t)
		}
	}
	var parts []string
	if watts > 0 {
		parts = append(parts, fmt.Sprintf("%s W drawn by %d %s", strconv.FormatFloat(total, 'f', -1, 64), watts, plural(watts, "node", "nodes")))
	}
	if len(inlets) > 0 {
		parts = append(parts, fmt.Sprintf("inlet %s to %s", measured(new(slices.Min(inlets)), "°C"), measured(new(slices.Max(inlets)), "°C")))
	}
	if len(parts) > 0 {
		fmt.Fprintf(a.stdout, "\n%s\n", strings.Join(parts, "; "))
	}
}
