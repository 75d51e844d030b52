package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"firstlight/fabric"
)

func (a *app) fabricLinksCommand() *cobra.Command {
	var from fabricSource
	var name string
	var failed bool
	c := &cobra.Command{
		Use:   "links [DIR]",
		Short: "List every link of a fabric: its ends, its rate, its state, and what is off",
		Long: `Read a fabric as fabric discover does and list its links: both ends, the rate,
lanes and state, and what is off: an end that is not Active, ends that disagree on
width or speed, a link that runs below what both ends can do and may, a module that
is too warm, bits that are wrong after correction. Modules, forward error correction
and bit error rates are what NVIDIA's devices tell by LID, once a subnet manager has
run; of others nothing is said. With DIR,
ends have their declared names, places and labels. A dump tells no state, and
nothing of what an end could do.

Exits 0 when nothing is off, 2 when something is, 1 when the fabric could not be
read, or only in part.`,
		Example: `  firstlight fabric links racks/a
  firstlight fabric links -failed -target rack=a01 racks/a
  firstlight fabric links -observed fabric.txt
  firstlight fabric links -json racks/a | jq '.links[] | select(.lanes != "4xNDR")'`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.fabricLinks(c.Context(), from, optionalDir(args), name, failed)
		},
	}
	a.inventoryFlags(c)
	sourceFlags(c, &from)
	a.judgeFlags(c, &name)
	c.Flags().BoolVar(&failed, "failed", false, "only links with something off")
	return c
}

// optionalDir is the inventory directory, or "" without one.
func optionalDir(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}

// linkStatus is a row of fabric links.
type linkStatus struct {
	A     linkPort           `json:"a"`
	B     linkPort           `json:"b"`
	Rate  string             `json:"rate"`  // "" is not known
	Lanes string             `json:"lanes"` // "4xNDR"; of both ends where they differ; "" is not known
	State string             `json:"state"` // "Active"; of both ends where they differ; "" is not known
	Off   []fabric.LinkCheck `json:"off"`
}

type linkPort struct {
	fabric.PortRef
	GUID   string     `json:"guid"`
	Module *moduleRow `json:"module,omitempty"` // absent where the device tells nothing
}

// moduleRow is what a port says of its module and of the bits that it receives.
// What it does not say is absent.
type moduleRow struct {
	Celsius      *float64 `json:"temperature_c,omitempty"`
	Vendor       string   `json:"vendor,omitempty"`
	PartNumber   string   `json:"part_number,omitempty"`
	Serial       string   `json:"serial,omitempty"`
	FEC          string   `json:"fec,omitempty"`
	RawBER       *float64 `json:"raw_ber,omitempty"`
	EffectiveBER *float64 `json:"effective_ber,omitempty"` // after correction; 0: no error
	SymbolBER    *float64 `json:"symbol_ber,omitempty"`
	BERWindow    *float64 `json:"ber_window_s,omitempty"` // what these are of
}

func moduleRowOf(p *fabric.Port) *moduleRow {
	if p.Optics == nil {
		return nil
	}
	row := &moduleRow{FEC: p.FEC()}
	if degrees, ok := p.Celsius(); ok {
		row.Celsius = &degrees
	}
	if m := p.Optics.Module; m != nil {
		row.Vendor, row.PartNumber, row.Serial = m.Vendor, m.PartNumber, m.Serial
	}
	if s := p.Optics.Stats; s != nil {
		raw, effective, symbol, window := s.Raw.Value(), s.Effective.Value(), s.Symbol.Value(), float64(s.SinceClear)/1000
		row.RawBER, row.EffectiveBER, row.SymbolBER, row.BERWindow = &raw, &effective, &symbol, &window
	}
	return row
}

func (a *app) fabricLinks(ctx context.Context, from fabricSource, dir, name string, failed bool) error {
	judge, err := a.linkJudge(ctx, dir, name)
	if err != nil {
		return err
	}
	if from, err = judge.source(from); err != nil {
		return err
	}
	from.modules = true
	read, err := a.readFabric(ctx, from)
	if err != nil {
		return err
	}
	a.sayGaps(read)
	rows, links, off := []linkStatus{}, 0, 0
	names := judge.names(read.Observed)
	for _, l := range read.Links() {
		checks := append(fabric.JudgeLink(l, names), judge.limits.JudgeModules(l, names)...)
		if !judge.wants(checks) {
			continue
		}
		links++
		row := linkStatusOf(l, checks)
		if len(row.Off) > 0 {
			off++
		} else if failed {
			continue
		}
		rows = append(rows, row)
	}
	if a.json {
		err = printJSON(a.stdout, map[string]any{"source": read.from, "complete": read.err == nil,
			"summary": map[string]int{"switches": read.Count(fabric.Switch), "hcas": read.Count(fabric.CA), "links": links, "off": off}, "links": rows})
	} else {
		a.printLinks(rows, links, off, read.from)
	}
	switch {
	case err != nil:
		return err
	case read.err != nil:
		return read.err
	case off > 0:
		return &exit{code: 2}
	}
	return nil
}

func linkStatusOf(l fabric.Link, checks []fabric.LinkCheck) linkStatus {
	port := func(p *fabric.Port, ref fabric.PortRef) linkPort {
		return linkPort{ref, fmt.Sprintf("0x%016x", cmp.Or(p.Node.GUID, p.Node.PortGUID, p.GUID)), moduleRowOf(p)}
	}
	both := func(a, b string) string {
		if a == b || b == "" {
			return a
		}
		if a == "" {
			return b
		}
		return a + " / " + b
	}
	lanes := func(p *fabric.Port) string {
		if p.Width == 0 || p.Speed == "" {
			return ""
		}
		return fmt.Sprintf("%dx%s", p.Width, p.Speed)
	}
	state := func(p *fabric.Port) string {
		if p.Info == nil {
			return ""
		}
		return p.Info.State.String()
	}
	row := linkStatus{A: port(l.A, checks[0].Ports[0]), B: port(l.B, checks[0].Ports[1]), Rate: both(l.A.Rate(), l.B.Rate()), Lanes: both(lanes(l.A), lanes(l.B)),
		State: both(state(l.A), state(l.B)), Off: []fabric.LinkCheck{}}
	for _, c := range checks {
		if c.Off() {
			row.Off = append(row.Off, c)
		}
	}
	return row
}

// degrees is the temperature in a cell.
func (m *moduleRow) degrees() string {
	if m == nil || m.Celsius == nil {
		return "-"
	}
	return strconv.FormatFloat(*m.Celsius, 'f', 0, 64) + " °C"
}

// correction is the FEC of a link, of both ends where they differ.
func (m *moduleRow) correction(other *moduleRow) string {
	var out []string
	for _, r := range []*moduleRow{m, other} {
		if r != nil && r.FEC != "" && !slices.Contains(out, r.FEC) {
			out = append(out, r.FEC)
		}
	}
	return strings.Join(out, " / ")
}

func (a *app) printLinks(rows []linkStatus, links, off int, from string) {
	at := func(p linkPort) string {
		if p.Rack == "" {
			return "-"
		}
		return p.Rack + "/" + dash(unitCell(p.Unit))
	}
	if len(rows) > 0 {
		tw := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
		told := slices.ContainsFunc(rows, func(r linkStatus) bool { return r.A.Module != nil || r.B.Module != nil })
		fmt.Fprintln(tw, "FROM\tAT\tTO\tAT\tRATE\tLANES\tSTATE"+map[bool]string{true: "\tTEMPERATURE\tFEC"}[told]+"\tOFF")
		for _, r := range rows {
			var what []string
			for _, c := range r.Off {
				what = append(what, c.Name+": "+c.Reading+", wanted "+c.Threshold)
			}
			cells := []string{r.A.String(), at(r.A), r.B.String(), at(r.B), dash(r.Rate), dash(r.Lanes), dash(r.State)}
			if told {
				cells = append(cells, r.A.Module.degrees()+" / "+r.B.Module.degrees(), dash(r.A.Module.correction(r.B.Module)))
			}
			fmt.Fprintln(tw, strings.Join(append(cells, dash(strings.Join(what, "; "))), "\t"))
		}
		tw.Flush()
		fmt.Fprintln(a.stdout)
	}
	fmt.Fprintf(a.stdout, "%d %s, %d with something off, from %s\n", links, plural(links, "link", "links"), off, from)
}
