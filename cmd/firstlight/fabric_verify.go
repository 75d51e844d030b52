package main

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"firstlight/fabric"
	"firstlight/inventory"
)

func (a *app) fabricVerifyCommand() *cobra.Command {
	var src fabricSource
	var format, name string
	var off []string
	c := &cobra.Command{
		Use:   "verify [DIR]",
		Short: "Hold the fabric that is there against the declared cables",
		Long: `Read the fabric as fabric discover does, from this machine's InfiniBand ports or
from a dump, hold it against the cables that the inventory declares, and print a
line for everything there is to do, in the order of racks and units. Where it
declares partitions, the P_Key tables of a live fabric are held against them, too.
Cables in each other's place are one line, and so is a node without power.

Nodes and switches are known by their declared GUIDs, and those that inspection of
the nodes found during apply, then by their names where
these are set and their own, then by where most of their cables go; a fabric
in which no name is set yet is verified too. Nodes that are off are named with
-off. Without declared cables the structure is judged, as fabric discover does.
The ports to read through are those of the inventory's read_through, unless -device
or -ibsim names some. A live reading is kept for status and report.

The exit status is 0 where all is as declared, 2 where something was found, 1
for an error, or where the fabric could be read only in part.`,
		Example: `  firstlight fabric verify racks/a
  ibnetdiscover > fabric.txt; firstlight fabric verify -observed fabric.txt racks/a
  ssh head ibnetdiscover -p | firstlight fabric verify -observed - racks/a
  firstlight fabric verify -observed fabric.txt -o csv racks/a > todo.csv
  firstlight fabric verify -o html racks/a > fabric.html
  firstlight fabric verify -observed fabric.txt -off hnode[101-128] -target rack=a01 racks/a
  firstlight fabric verify -observed fabric.txt -json racks/a | jq .findings`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := a.findingsFormat(c, &format); err != nil {
				return err
			}
			return a.fabricVerify(c, dirArg(args, 0), src, format, name, off)
		},
	}
	a.inventoryFlags(c)
	sourceFlags(c, &src)
	formatFlag(c, &format)
	f := c.Flags()
	f.StringVar(&name, "fabric", "", "only the fabric of this `NAME`; by default all InfiniBand ones together")
	f.StringArrayVar(&off, "off", nil, "these `NODES` are off: names, ranges (hnode[001-064]), rack=a01; may be given again")
	f.StringArrayVar(&a.targets, "target", nil, "only findings at these `DEVICES`: nodes, switches, ranges (leaf-[01-08]), rack=a01; may be given again")
	complete(c, "fabric", a.completeFabrics)
	complete(c, "off", a.completeTargets)
	complete(c, "target", a.completeDevices)
	return c
}

// formatFlag adds -o to a verb that prints findings.
func formatFlag(c *cobra.Command, format *string) {
	c.Flags().StringVarP(format, "o", "o", "table", "print as `FORMAT`: table, csv, json, or html, which is a page with a picture of the fabric")
	complete(c, "o", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return []string{"table", "csv", "json", "html"}, cobra.ShellCompDirectiveNoFileComp
	})
}

func (a *app) findingsFormat(c *cobra.Command, format *string) error {
	if a.json {
		if c.Flags().Changed("o") && *format != "json" {
			return fmt.Errorf("-json and -o %s contradict each other", *format)
		}
		*format = "json"
	}
	if !slices.Contains([]string{"table", "csv", "json", "html"}, *format) {
		return fmt.Errorf("-o %s: one of table, csv, json, html", *format)
	}
	return nil
}

func (a *app) fabricVerify(c *cobra.Command, dir string, src fabricSource, format, name string, off []string) error {
	s, err := a.loadQuietly(dir)
	if err != nil {
		return err
	}
	fabrics, err := infinibandFabrics(s.Cluster, name)
	if err != nil {
		return err
	}
	chosen, err := s.Cluster.SelectDevices(a.targets)
	if err != nil {
		return err
	}
	known := fabric.Known{Dark: map[string]bool{}}
	if len(off) > 0 {
		nodes, err := s.Cluster.Select(off)
		if err != nil {
			return fmt.Errorf("-off: %w", err)
		}
		for _, n := range nodes {
			known.Dark[n.Name] = true
		}
	}
	if src, err = src.or(s.Cluster, fabrics...); err != nil {
		return err
	}
	known.Learned = a.learned(c.Context(), s)
	read, err := a.readFabric(c.Context(), src)
	if err != nil {
		return err
	}
	a.sayGaps(read)
	declared := fabric.Declare(s.Cluster, fabrics...)
	v := declared.Verify(read.Observed, known)
	if src.observed == "" && name == "" {
		a.keepReading(c.Context(), s, read, declared, fabrics)
	}
	if len(a.targets) > 0 {
		v.Findings = slices.DeleteFunc(v.Findings, func(f fabric.Finding) bool {
			return !chosen[f.Node] && !slices.ContainsFunc(f.Ports, func(p fabric.PortRef) bool { return chosen[p.Name] })
		})
	}
	p := read.pictureOf(s, v, fabrics, declared, known)
	if len(a.targets) > 0 {
		p.Notes = append(p.Notes, "only findings at "+strings.Join(a.targets, ", "))
	}
	told := a.tellVerdict(p, format)
	if read.err != nil {
		return read.err // what was not read is not proven, whatever was found in the rest
	}
	return told
}

// infinibandFabrics are the fabrics that can be read: the one of a name, or all.
func infinibandFabrics(c *inventory.Cluster, name string) ([]*inventory.Fabric, error) {
	names := slices.Sorted(maps.Keys(c.Fabrics))
	if len(names) == 0 {
		return nil, errors.New("the inventory declares no fabric; firstlight fabric discover judges one by itself")
	}
	var out []*inventory.Fabric
	for _, n := range names {
		if f := c.Fabrics[n]; f.LinkLayer == "infiniband" && (name == "" || name == n) {
			out = append(out, f)
		}
	}
	switch {
	case len(out) > 0:
		return out, nil
	case name == "":
		return nil, fmt.Errorf("fabric %s is Ethernet, and only InfiniBand is verified", strings.Join(names, ", "))
	case c.Fabrics[name] != nil:
		return nil, fmt.Errorf("fabric %s (%s) is Ethernet, and only InfiniBand is verified", name, c.DeclaredAt(c.Fabrics[name].Range))
	}
	meant := ""
	if near := closest(name, names); near != "" {
		meant = fmt.Sprintf("; did you mean %q?", near)
	}
	return nil, fmt.Errorf("no fabric %q is declared; there are %s%s", name, strings.Join(names, ", "), meant)
}

func fabricNames(fabrics []*inventory.Fabric) string {
	names := make([]string, len(fabrics))
	for i, f := range fabrics {
		names[i] = f.Name
	}
	return strings.Join(names, ", ")
}

// picture is a verdict with what was read, and with what was not.
func (read *readFabric) picture(v fabric.Verdict) fabric.Picture {
	p := fabric.Picture{From: read.from, Made: time.Now(), Observed: read.Observed, Verdict: v}
	if read.err != nil {
		p.Notes = append(p.Notes, "read only in part: "+read.err.Error())
	}
	return p
}

// pictureOf is picture, with what the inventory declares.
func (read *readFabric) pictureOf(s *site, v fabric.Verdict, fabrics []*inventory.Fabric, declared *fabric.Declared, known fabric.Known) fabric.Picture {
	p := read.picture(v)
	p.Title, p.Declared, p.Off = s.Cluster.Name+" · "+fabricNames(fabrics), declared, known.Dark
	if gaps := len(readFindings(read)); gaps > 0 {
		p.Notes = append(p.Notes, fmt.Sprintf("%d %s of the fabric did not answer or cannot be so: what is missing may be there", gaps, plural(gaps, "part", "parts")))
	}
	return p
}

// sayGaps says on stderr what did not answer and what cannot be so: findings may
// come from that.
func (a *app) sayGaps(read *readFabric) {
	gaps := readFindings(read)
	for i, f := range gaps {
		if i == 10 {
			fmt.Fprintf(a.stderr, "firstlight: %s: %d more of this kind\n", read.from, len(gaps)-i)
			break
		}
		fmt.Fprintf(a.stderr, "firstlight: %s: %s\n", read.from, f.Found)
	}
}

// tellVerdict prints the verdict of a picture, or all of it; with findings the
// exit status is 2.
func (a *app) tellVerdict(p fabric.Picture, format string) error {
	var err error
	v := p.Verdict
	switch format {
	case "html":
		err = fabric.WritePicture(a.stdout, p)
	case "csv":
		err = writeFindings(a.stdout, v.Findings)
	case "json":
		err = printJSON(a.stdout, map[string]any{"summary": verdictSummary(v), "findings": v.Findings, "not_read": v.NotRead})
	default:
		a.printFindings(v)
		fmt.Fprintf(a.stdout, "%d %s, %d %s, %d %s: %s\n", v.Switches, plural(v.Switches, "switch", "switches"), v.HCAs, plural(v.HCAs, "adapter", "adapters"),
			v.Links, plural(v.Links, "link", "links"), findingCount(v, "as declared"))
		for _, n := range v.NotRead {
			fmt.Fprintf(a.stdout, "not judged: %s\n", n)
		}
	}
	if err == nil && len(v.Findings) > 0 {
		return &exit{code: 2}
	}
	return err
}

func verdictSummary(v fabric.Verdict) map[string]int {
	return map[string]int{"switches": v.Switches, "hcas": v.HCAs, "links": v.Links, "findings": len(v.Findings)}
}

// findingCount is "3 findings (1 × missing-cable, …)", or what is said of none.
func findingCount(v fabric.Verdict, none string) string {
	if len(v.Findings) == 0 {
		return none
	}
	count := map[string]int{}
	for _, f := range v.Findings {
		count[string(f.Class)]++
	}
	return fmt.Sprintf("%d %s (%s)", len(v.Findings), plural(len(v.Findings), "finding", "findings"), countList(count, slices.Sorted(maps.Keys(count))))
}

// place is where to go: "rack a01 unit 41".
func place(p fabric.PortRef) string {
	switch {
	case p.Rack == "":
		return "place not declared"
	case p.Unit == 0:
		return "rack " + p.Rack
	}
	return fmt.Sprintf("rack %s unit %d", p.Rack, p.Unit)
}

// printFindings prints what there is to do, by place where any is known.
func (a *app) printFindings(v fabric.Verdict) {
	at := ""
	placed := slices.ContainsFunc(v.Findings, func(f fabric.Finding) bool { return len(f.Ports) > 0 && f.Ports[0].Rack != "" })
	on := colour(a.stdout)
	for _, f := range v.Findings {
		var first fabric.PortRef
		if len(f.Ports) > 0 {
			first = f.Ports[0]
		}
		if p := place(first); placed && p != at {
			at = p
			fmt.Fprintln(a.stdout, p)
		}
		shade := "33"
		if f.Severity == fabric.Error {
			shade = "31"
		}
		fmt.Fprintf(a.stdout, "  %s  %s\n", paint(on, shade, string(f.Class)), f.Message)
		if f.Action != "" {
			fmt.Fprintf(a.stdout, "      %s\n", f.Action)
		}
	}
	if len(v.Findings) > 0 {
		fmt.Fprintln(a.stdout)
	}
}

var findingColumns = []string{"rack", "unit", "device", "port", "label", "class", "severity", "action", "declared", "found",
	"other_rack", "other_unit", "other_device", "other_port", "other_label", "declared_at", "message"}

// writeFindings prints a row for each finding: where to go, what to do, and the
// other end.
func writeFindings(w io.Writer, all []fabric.Finding) error {
	out := csv.NewWriter(w)
	if err := out.Write(findingColumns); err != nil {
		return err
	}
	for _, f := range all {
		var at, other fabric.PortRef
		if len(f.Ports) > 0 {
			at = f.Ports[0]
		}
		if len(f.Ports) > 1 {
			other = f.Ports[1]
		}
		if err := out.Write([]string{at.Rack, unitCell(at.Unit), at.Name, at.Port, at.Label, string(f.Class), string(f.Severity), f.Action, f.Declared, f.Found,
			other.Rack, unitCell(other.Unit), other.Name, other.Port, other.Label, f.DeclaredAt, f.Message}); err != nil {
			return err
		}
	}
	out.Flush()
	return out.Error()
}
