package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"firstlight/fabric"
	"firstlight/fabric/mad"
	"firstlight/inventory"
)

// fabricSource is where a fabric is read from.
type fabricSource struct {
	devices  []string // local ports by name
	ibsim    string   // the simulator's socket name
	nodes    []string // of the simulator, to attach at
	observed string   // a file of ibnetdiscover, "-" being the standard input
	deadline time.Duration
	counters bool // read them too
	pkeys    bool // and the P_Key tables of adapters
	modules  bool // and what modules say of themselves
	quiet    bool // without progress
}

// linkRow is a link of fabric discover -json.
type linkRow struct {
	A    linkEnd `json:"a"`
	B    linkEnd `json:"b"`
	Rate string  `json:"rate"` // "" is not known
}

type linkEnd struct {
	Name string `json:"name"`
	GUID string `json:"guid"`
	Port int    `json:"port"`
	LID  int    `json:"lid"` // 0: none
}

// readFabric is a fabric and how it was read.
type readFabric struct {
	*fabric.Observed
	from       string
	unanswered []fabric.Unanswered
	elapsed    time.Duration // 0: from a file
	err        error         // why it is not whole
}

func (a *app) fabricDiscoverCommand() *cobra.Command {
	var from fabricSource
	var format string
	c := &cobra.Command{
		Use:   "discover [DIR]",
		Short: "Read an InfiniBand fabric, and say what is in it and what is odd",
		Long: `Read the whole fabric by directed route from this machine's InfiniBand ports,
all those with a link unless -device names some: with a port in each rail, the
rails are read side by side. No subnet manager is needed. A dump of
ibnetdiscover, with or without -p, is read in its place with -observed.

Prints how much was found, what did not answer or cannot be so, and what is
unlike the rest: adapters on the leaf of another rail, hosts with fewer adapters
than the others, uplinks that are not spread evenly, links that are slower than
others of their kind, GUIDs and names that are there twice. firstlight fabric
verify holds a fabric against an inventory, and firstlight import writes one.
With DIR, findings name the rack and unit that this inventory declares.

Exits 0 when all is well, 2 with findings, 1 when the fabric could not be read, or
only in part: what was found is printed all the same.`,
		Example: `  firstlight fabric discover
  firstlight fabric discover -device mlx5_0 -device mlx5_1/1 racks/a
  firstlight fabric discover -observed dump.txt
  firstlight fabric discover -observed dump.txt -o html > fabric.html
  firstlight fabric discover -json | jq '.links[] | select(.rate != "NDR")'
  firstlight fabric discover -ibsim sim -ibsim-node 'hnode001 mlx5_0'   # a simulated fabric`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			dir := ""
			if len(args) > 0 {
				dir = args[0]
			}
			if err := a.findingsFormat(c, &format); err != nil {
				return err
			}
			return a.fabricDiscover(c.Context(), from, dir, format)
		},
	}
	a.inventoryFlags(c)
	sourceFlags(c, &from)
	formatFlag(c, &format)
	return c
}

func sourceFlags(c *cobra.Command, from *fabricSource) {
	f := c.Flags()
	f.StringArrayVar(&from.devices, "device", nil, "read through this local `PORT`: mlx5_0, mlx5_0/2 or umad0; may be given again")
	f.StringVar(&from.ibsim, "ibsim", "", "read the fabric that ibsim simulates under this socket `NAME` (its IBSIM_SOCKNAME, sim by default)")
	f.StringArrayVar(&from.nodes, "ibsim-node", nil, "attach to ibsim at the adapter of this `NAME`; may be given again")
	f.StringVar(&from.observed, "observed", "", "read what ibnetdiscover printed from a `FILE`; - is the standard input")
	f.DurationVar(&from.deadline, "deadline", 2*time.Minute, "end after this `TIME` with what was found")
	complete(c, "device", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		devices, _ := mad.FS("/").Devices()
		var names []string
		for _, d := range devices {
			if !d.Ethernet() {
				names = append(names, fmt.Sprintf("%s/%d", d.Adapter, d.Port))
			}
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	})
	for _, flag := range []string{"ibsim", "ibsim-node", "deadline"} {
		complete(c, flag, cobra.NoFileCompletions)
	}
}

func (a *app) fabricDiscover(ctx context.Context, from fabricSource, dir, format string) error {
	places := map[string]standing{}
	var learned map[uint64]fabric.Adapter
	if dir != "" {
		s, err := a.loadQuietly(dir)
		if err != nil {
			return err
		}
		places, learned = placesOf(s.Cluster), a.learned(ctx, s)
		if from, err = from.or(s.Cluster); err != nil {
			return err
		}
	}
	read, err := a.readFabric(ctx, from)
	if err != nil {
		return err
	}
	read.Describe(learned)
	v := fabric.Structural(read.Observed)
	v.Findings = append(readFindings(read), v.Findings...)
	stand(v.Findings, places)
	switch format {
	case "json":
		err = printJSON(a.stdout, map[string]any{"source": read.from, "complete": read.err == nil, "elapsed_ms": read.elapsed.Milliseconds(),
			"summary": verdictSummary(v), "findings": v.Findings, "not_read": v.NotRead, "links": linkRows(read.Observed)})
	case "csv":
		err = writeFindings(a.stdout, v.Findings)
	case "html":
		err = fabric.WritePicture(a.stdout, read.picture(v))
	default:
		a.printDiscovered(read, v)
	}
	switch {
	case err != nil:
		return err
	case read.err != nil:
		return read.err
	case len(v.Findings) > 0:
		return &exit{code: 2}
	}
	return nil
}

// readFabric reads a dump or a live fabric. What it returns without an error
// can still be a part.
func (a *app) readFabric(ctx context.Context, from fabricSource) (*readFabric, error) {
	given := 0
	for _, g := range []bool{len(from.devices) > 0, from.ibsim != "" || len(from.nodes) > 0, from.observed != ""} {
		if g {
			given++
		}
	}
	if given > 1 {
		return nil, errors.New("-device, -ibsim and -observed exclude each other: name one source")
	}
	if from.observed != "" {
		return a.readDump(from.observed)
	}
	transports, names, err := openPorts(from)
	defer func() {
		for _, t := range transports {
			if c, ok := t.(io.Closer); ok {
				c.Close()
			}
		}
	}()
	if err != nil {
		return nil, err
	}
	s := fabric.Sweep{Transports: transports, Deadline: from.deadline, Counters: from.counters, PKeys: from.pkeys, Modules: from.modules}
	if drawable(a.stderr) && !a.json && !from.quiet {
		s.Progress = func(p fabric.Progress) {
			fmt.Fprintf(a.stderr, "\r\x1b[K%d switches, %d HCAs, %d links; %d questions open", p.Switches, p.HCAs, p.Links, p.Waiting)
		}
		defer fmt.Fprint(a.stderr, "\r\x1b[K")
	}
	swept, err := s.Run(ctx)
	if swept == nil {
		return nil, fmt.Errorf("%s: %w", strings.Join(names, ", "), err)
	}
	return &readFabric{Observed: swept.Observed, from: strings.Join(names, ", "), unanswered: swept.Unanswered, elapsed: swept.Stats.Elapsed, err: err}, nil
}

func (a *app) readDump(name string) (*readFabric, error) {
	in := a.stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	o, err := fabric.ParseNetDiscover(in)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return &readFabric{Observed: o, from: name}, nil
}

// openPorts opens the local ports to read from; those opened are returned with
// an error, too.
func openPorts(from fabricSource) (transports []fabric.Transport, names []string, err error) {
	if from.ibsim != "" || len(from.nodes) > 0 {
		nodes := from.nodes
		if len(nodes) == 0 {
			nodes = []string{""} // the first of its file
		}
		for _, node := range nodes {
			port, err := mad.DialIBSim(from.ibsim, node)
			if err != nil {
				return transports, nil, err
			}
			transports = append(transports, port)
		}
		return transports, []string{"ibsim " + cmp.Or(from.ibsim, "sim")}, nil
	}
	devices := from.devices
	if len(devices) == 0 {
		if devices, err = linkedPorts(mad.FS("/")); err != nil {
			return nil, nil, err
		}
	}
	for _, name := range devices {
		port, err := mad.FS("/").Open(name)
		if err != nil {
			return transports, nil, err
		}
		transports = append(transports, port)
	}
	return transports, devices, nil
}

// linkedPorts are the InfiniBand ports of this machine that have a link.
func linkedPorts(root mad.FS) ([]string, error) {
	devices, err := root.Devices()
	if err != nil {
		return nil, err
	}
	var linked, others []string
	for _, d := range devices {
		name := fmt.Sprintf("%s/%d", d.Adapter, d.Port)
		if !d.Ethernet() && !strings.HasPrefix(d.State, "1:") {
			linked = append(linked, name)
		} else {
			others = append(others, fmt.Sprintf("%s (%s, %s)", name, cmp.Or(d.LinkLayer, "unknown"), cmp.Or(d.State, "unknown")))
		}
	}
	if len(linked) == 0 {
		return nil, fmt.Errorf("no InfiniBand port of this machine has a link; there are %s: name one with -device", strings.Join(others, ", "))
	}
	return linked, nil
}

// Classes of findings that are about the reading, not about cables.
const (
	unanswered   fabric.Class = "unanswered"
	inconsistent fabric.Class = "inconsistent"
)

// readFindings is what the reading itself found wrong.
func readFindings(read *readFabric) []fabric.Finding {
	findings := []fabric.Finding{}
	for _, u := range read.unanswered {
		f := fabric.Finding{Class: unanswered, Severity: fabric.Warning, Ports: []fabric.PortRef{}, Found: u.String(), Message: u.String()}
		if u.Node != nil {
			f.Node = cmp.Or(u.Node.Description, u.Node.Label())
			if u.Port > 0 {
				f.Ports = append(f.Ports, fabric.PortRef{Name: f.Node, Port: strconv.Itoa(u.Port)})
			}
		}
		findings = append(findings, f)
	}
	for _, i := range read.Inconsistencies {
		findings = append(findings, fabric.Finding{Class: inconsistent, Severity: fabric.Warning, Ports: []fabric.PortRef{}, Found: i.String(), Message: i.String()})
	}
	return findings
}

// standing is where a device stands.
type standing struct {
	rack string
	unit int
}

// placesOf are the declared places by the name that devices are described with.
func placesOf(c *inventory.Cluster) map[string]standing {
	out := map[string]standing{}
	add := func(name string, rack *inventory.Rack, unit int) {
		if rack != nil {
			out[name] = standing{rack.Name, unit}
		}
	}
	for _, n := range c.Nodes {
		add(n.Name, n.Rack, n.Unit)
	}
	for _, s := range c.Switches {
		add(s.Name, s.Rack, s.Unit)
	}
	return out
}

// stand puts the declared places into findings. The first word of a description
// as "hnode001 mlx5_0" is the host.
func stand(findings []fabric.Finding, places map[string]standing) {
	for _, f := range findings {
		for i := range f.Ports {
			host, _, _ := strings.Cut(f.Ports[i].Name, " ")
			if p, ok := places[host]; ok {
				f.Ports[i].Rack, f.Ports[i].Unit = p.rack, p.unit
			}
		}
	}
}

func linkRows(o *fabric.Observed) []linkRow {
	rows := []linkRow{}
	end := func(p *fabric.Port) linkEnd {
		lid := p.LID
		if p.Node.Kind == fabric.Switch {
			lid = p.Node.LID
		}
		guid := cmp.Or(p.Node.GUID, p.Node.PortGUID, p.GUID)
		return linkEnd{Name: p.Node.Description, GUID: fmt.Sprintf("0x%016x", guid), Port: p.Num, LID: lid}
	}
	for _, l := range o.Links() {
		rows = append(rows, linkRow{A: end(l.A), B: end(l.B), Rate: linkRate(l)})
	}
	return rows
}

// linkRate is the rate that either end tells.
func linkRate(l fabric.Link) string { return cmp.Or(l.A.Rate(), l.B.Rate()) }

func (a *app) printDiscovered(read *readFabric, v fabric.Verdict) {
	links := read.Links()
	rates := map[string]int{}
	for _, l := range links {
		rates[cmp.Or(linkRate(l), "of unknown rate")]++
	}
	fmt.Fprintf(a.stdout, "%d %s, %d %s, %d %s", v.Switches, plural(v.Switches, "switch", "switches"), v.HCAs, plural(v.HCAs, "HCA", "HCAs"),
		len(links), plural(len(links), "link", "links"))
	if len(links) > 0 {
		var names []string
		for name := range rates {
			names = append(names, name)
		}
		slices.SortFunc(names, func(x, y string) int { return cmp.Or(cmp.Compare(rates[y], rates[x]), cmp.Compare(x, y)) })
		fmt.Fprintf(a.stdout, " (%s)", countList(rates, names))
	}
	fmt.Fprintf(a.stdout, ", from %s", read.from)
	if read.elapsed > 0 {
		fmt.Fprintf(a.stdout, " in %v", read.elapsed.Round(time.Millisecond))
	}
	fmt.Fprintln(a.stdout)
	a.printFindings(v)
	if len(v.Findings) > 0 {
		fmt.Fprintln(a.stdout, findingCount(v, ""))
	}
}
