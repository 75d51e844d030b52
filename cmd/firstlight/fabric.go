package main

import (
	"cmp"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/hashicorp/hcl/v2"
	"github.com/spf13/cobra"

	"firstlight/inventory"
)

func (a *app) fabricCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "fabric",
		Short: "Work with the fabric: its cables, which to move, and how its links are",
		Example: `  firstlight fabric discover
  firstlight fabric cables racks/a
  firstlight fabric cables -o csv racks/a > cables.csv
  firstlight fabric verify racks/a
  firstlight fabric verify -observed fabric.txt racks/a
  firstlight fabric links racks/a
  firstlight fabric counters racks/a
  firstlight fabric watch racks/a`,
	}
	c.AddCommand(a.fabricCablesCommand(), a.fabricVerifyCommand(), a.fabricDiscoverCommand())
	c.AddCommand(a.fabricLinksCommand(), a.fabricCountersCommand(), a.fabricWatchCommand())
	return c
}

// cableRow is a row of fabric cables, as JSON; csvColumns has the same as CSV.
type cableRow struct {
	Fabric     string   `json:"fabric"`
	Tier       string   `json:"tier"` // "" for a declared cable
	ADevice    string   `json:"a_device"`
	APort      string   `json:"a_port"`
	ALabel     string   `json:"a_label"`
	ARack      string   `json:"a_rack"`
	AUnit      int      `json:"a_unit"` // 0: not declared
	BDevice    string   `json:"b_device"`
	BPort      string   `json:"b_port"`
	BLabel     string   `json:"b_label"`
	BRack      string   `json:"b_rack"`
	BUnit      int      `json:"b_unit"`
	Rate       string   `json:"rate"`
	Length     *float64 `json:"length_m"` // null: a place of an end is not declared
	Class      string   `json:"class"`
	DeclaredAt string   `json:"declared_at"`
}

var csvColumns = []string{"fabric", "tier", "a_device", "a_port", "a_label", "a_rack", "a_unit",
	"b_device", "b_port", "b_label", "b_rack", "b_unit", "rate", "length_m", "class", "declared_at"}

// values are the row's cells, in the order of csvColumns. What is not declared
// is an empty cell.
func (r *cableRow) values() []string {
	length := ""
	if r.Length != nil {
		length = strconv.FormatFloat(*r.Length, 'f', 1, 64)
	}
	return []string{r.Fabric, r.Tier, r.ADevice, r.APort, r.ALabel, r.ARack, unitCell(r.AUnit),
		r.BDevice, r.BPort, r.BLabel, r.BRack, unitCell(r.BUnit), r.Rate, length, r.Class, r.DeclaredAt}
}

func unitCell(unit int) string {
	if unit == 0 {
		return ""
	}
	return strconv.Itoa(unit)
}

func (a *app) fabricCablesCommand() *cobra.Command {
	var format, fabric string
	c := &cobra.Command{
		Use:   "cables [DIR]",
		Short: "Print the cable plan, one row for each cable",
		Long: `Print every cable of the declared fabrics, those that a topology makes too,
with rack, unit and port label at both ends, rate, estimated length and the
cable to order. Rows are in the order of the A ends: rack, unit, port. CSV can be
declared again: cables = csvdecode(file("cables.csv")). A length needs the racks'
row and position; docs/inventory.md has the rule.`,
		Example: `  firstlight fabric cables racks/a
  firstlight fabric cables -o csv -fabric compute racks/a > cables.csv
  firstlight fabric cables -target rack=a01 racks/a    # what one rack needs
  firstlight fabric cables -json racks/a | jq .summary.classes`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if a.json {
				if c.Flags().Changed("o") && format != "json" {
					return fmt.Errorf("-json and -o %s contradict each other", format)
				}
				format = "json"
			}
			return a.fabricCables(dirArg(args, 0), format, fabric)
		},
	}
	a.inventoryFlags(c)
	f := c.Flags()
	f.StringVarP(&format, "o", "o", "table", "print as `FORMAT`: table, csv or json")
	f.StringVar(&fabric, "fabric", "", "only the fabric of this `NAME`")
	f.StringArrayVar(&a.targets, "target", nil, "only cables that end at these `DEVICES`: nodes, switches, ranges (leaf-[01-08]), rack=a01; may be given again")
	complete(c, "o", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return []string{"table", "csv", "json"}, cobra.ShellCompDirectiveNoFileComp
	})
	complete(c, "fabric", a.completeFabrics)
	complete(c, "target", a.completeDevices)
	return c
}

// complete registers the completion of a flag that was defined just before.
func complete(c *cobra.Command, flag string, fn cobra.CompletionFunc) {
	if err := c.RegisterFlagCompletionFunc(flag, fn); err != nil {
		panic(err)
	}
}

func (a *app) completeFabrics(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	cluster, _, diags := a.read(dirArg(args, 0))
	if diags.HasErrors() {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return slices.Sorted(maps.Keys(cluster.Fabrics)), cobra.ShellCompDirectiveNoFileComp
}

// completeDevices completes -target with switches, besides nodes and racks.
func (a *app) completeDevices(c *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	names, directive := a.completeTargets(c, args, typed)
	if cluster, _, diags := a.read(dirArg(args, 0)); !diags.HasErrors() {
		for _, s := range cluster.Switches {
			names = append(names, s.Name)
		}
	}
	return names, directive
}

func (a *app) fabricCables(dir, format, fabric string) error {
	if !slices.Contains([]string{"table", "csv", "json"}, format) {
		return fmt.Errorf("-o %s: one of table, csv, json", format)
	}
	s, err := a.loadQuietly(dir)
	if err != nil {
		return err
	}
	rows, err := cableRows(s.Cluster, fabric, a.targets)
	if err != nil {
		return err
	}
	switch format {
	case "csv":
		return writeCables(a.stdout, rows)
	case "json":
		return printJSON(a.stdout, map[string]any{"summary": summarise(rows), "cables": rows})
	}
	a.printCables(rows)
	return nil
}

// cableRows are those of one fabric, or of all, that end at a target.
func cableRows(c *inventory.Cluster, fabric string, targets []string) ([]cableRow, error) {
	names := slices.Sorted(maps.Keys(c.Fabrics))
	if len(names) == 0 {
		return nil, errors.New("the inventory declares no fabric")
	}
	if fabric != "" {
		if c.Fabrics[fabric] == nil {
			meant := ""
			if near := closest(fabric, names); near != "" {
				meant = fmt.Sprintf("; did you mean %q?", near)
			}
			return nil, fmt.Errorf("no fabric %q is declared; there are %s%s", fabric, strings.Join(names, ", "), meant)
		}
		names = []string{fabric}
	}
	chosen, err := c.SelectDevices(targets)
	if err != nil {
		return nil, err
	}
	rows := []cableRow{}
	for _, name := range names {
		var last hcl.Range
		at := ""
		for _, r := range c.CablePlan(c.Fabrics[name]) {
			if len(targets) > 0 && !chosen[r.A.Device] && !chosen[r.B.Device] {
				continue
			}
			if r.Range != last { // a topology's cables have one place for all
				last, at = r.Range, c.DeclaredAt(r.Range)
			}
			rows = append(rows, cableRowOf(r, at))
		}
	}
	return rows, nil
}

func cableRowOf(r inventory.CableRun, at string) cableRow {
	out := cableRow{Fabric: r.Fabric, Tier: r.Tier, Rate: r.Rate.Text, Class: r.Class, DeclaredAt: at,
		ADevice: r.A.Device, APort: r.A.Port, ALabel: r.A.Label, AUnit: r.A.Unit,
		BDevice: r.B.Device, BPort: r.B.Port, BLabel: r.B.Label, BUnit: r.B.Unit}
	if r.A.Rack != nil {
		out.ARack = r.A.Rack.Name
	}
	if r.B.Rack != nil {
		out.BRack = r.B.Rack.Name
	}
	if r.Class != "" {
		out.Length = &r.Length
	}
	return out
}

// cableSummary counts rows: what to lay, and what to order.
type cableSummary struct {
	Cables  int            `json:"cables"`
	Tiers   map[string]int `json:"tiers"`   // by tier; "declared" without one
	Classes map[string]int `json:"classes"` // by class; "unknown" without one
}

func summarise(rows []cableRow) cableSummary {
	s := cableSummary{Cables: len(rows), Tiers: map[string]int{}, Classes: map[string]int{}}
	for _, r := range rows {
		s.Tiers[cmp.Or(r.Tier, "declared")]++
		s.Classes[cmp.Or(r.Class, "unknown")]++
	}
	return s
}

func writeCables(w io.Writer, rows []cableRow) error {
	out := csv.NewWriter(w)
	if err := out.Write(csvColumns); err != nil {
		return err
	}
	for i := range rows {
		if err := out.Write(rows[i].values()); err != nil {
			return err
		}
	}
	out.Flush()
	return out.Error()
}

func (a *app) printCables(rows []cableRow) {
	if len(rows) == 0 {
		fmt.Fprintln(a.stdout, "no cables")
		return
	}
	tw := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "FABRIC\tTIER\tFROM\tPORT\tRACK\tUNIT\tTO\tPORT\tRACK\tUNIT\tRATE\tCABLE")
	for _, r := range rows {
		fmt.Fprintln(tw, strings.Join([]string{r.Fabric, dash(r.Tier), r.ADevice, r.ALabel, dash(r.ARack), dash(unitCell(r.AUnit)),
			r.BDevice, r.BLabel, dash(r.BRack), dash(unitCell(r.BUnit)), dash(r.Rate), dash(r.Class)}, "\t"))
	}
	tw.Flush()
	s := summarise(rows)
	fmt.Fprintf(a.stdout, "\n%d %s: %s\n", s.Cables, plural(s.Cables, "cable", "cables"),
		countList(s.Tiers, []string{"node-leaf", "leaf-spine", "spine-core", "declared"}))
	fmt.Fprintf(a.stdout, "to order: %s\n", countList(s.Classes, slices.SortedFunc(maps.Keys(s.Classes), byLength)))
}

// countList is "8 node-leaf, 4 leaf-spine".
func countList(counts map[string]int, order []string) string {
	var parts []string
	for _, name := range order {
		if n := counts[name]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d × %s", n, name))
		}
	}
	return strings.Join(parts, ", ")
}

// byLength orders cable classes by their metres; those over 100m and the
// unknown are last.
func byLength(a, b string) int {
	metres := func(class string) int {
		n := 1 << 20
		_, _ = fmt.Sscanf(class, "%dm", &n)
		return n
	}
	return cmp.Or(cmp.Compare(metres(a), metres(b)), strings.Compare(a, b))
}
