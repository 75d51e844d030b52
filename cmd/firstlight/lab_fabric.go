package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"firstlight/internal/simrack/fabricsim"
	"firstlight/inventory"
)

func (a *app) labFabricCommand() *cobra.Command {
	var l labFabric
	c := &cobra.Command{
		Use:   "fabric [DIR]",
		Short: "Simulate the InfiniBand fabric of an inventory, to be read and broken",
		Long: `Simulate the switches, adapters and cables of a declared InfiniBand fabric, on the
sockets of the simulator ibsim: firstlight's fabric verbs read it with -ibsim, and so do
ibnetdiscover, iblinkinfo, perfquery, ibqueryerrors and opensm through libumad2sim.
Nothing of this machine's own fabric is touched, and no rights are needed.

It stays until Ctrl-C, or quit. Meanwhile it reads what to break from its input, a line
each; -break has the same from the beginning. Ports are named as the inventory does:
` + breakageHelp() + `
Sockets are those of the network namespace: an apply that runs in a lab's namespace
reads this fabric when it is started there, with firstlight lab exec.`,
		Example: `  firstlight lab fabric examples/superpod-h200
  firstlight lab fabric -break 'unplug leaf-01 7' -break 'off dgx-009' examples/superpod-h200
  firstlight lab fabric -load 0.3 -break 'count leaf-01 7 SymbolErrorCounter 0 0.5' examples/superpod-h200
  firstlight lab fabric -unmanaged -socket mine examples/superpod-h200   # until opensm has run on it
  firstlight fabric verify -ibsim sim examples/superpod-h200             # in another terminal`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if l.options.Load < 0 || l.options.Load > 1 {
				return fmt.Errorf("-load %v: a share of each link's rate, 0 to 1", l.options.Load)
			}
			l.app, l.dir, l.options.Managed = a, dirArg(args, 0), !l.unmanaged
			return l.run(c.Context())
		},
	}
	a.inventoryFlags(c)
	f := c.Flags()
	f.StringVar(&l.name, "fabric", "", "the fabric of this `NAME`; needed where several are InfiniBand")
	f.StringVar(&l.socket, "socket", "", "answer under this socket `NAME` (clients' IBSIM_SOCKNAME); default: that of the fabric's read_through, or sim")
	f.StringArrayVar(&l.broken, "break", nil, "break this from the beginning: a `COMMAND` as typed; may be given again")
	f.Float64Var(&l.options.Load, "load", 0, "`SHARE` of its rate that every link carries, 0 to 1: counters grow by it")
	f.DurationVar(&l.options.Hop, "hop", 0, "the `TIME` that a packet takes from one device to the next")
	f.BoolVar(&l.unmanaged, "unmanaged", false, "no subnet manager has been there: ports stay in Init until one comes, as opensm")
	complete(c, "fabric", a.completeFabrics)
	for _, flag := range []string{"socket", "break", "load", "hop"} {
		complete(c, flag, cobra.NoFileCompletions)
	}
	return c
}

// labFabric is a fabric that is simulated.
type labFabric struct {
	app       *app
	dir       string
	name      string
	socket    string
	broken    []string
	unmanaged bool
	options   fabricsim.Options

	cluster *inventory.Cluster
	net     *fabricsim.Net
	fabric  *fabricsim.Fabric
	ends    map[string]string // what an adapter is called by the inventory, by its name in the net
}

func (l *labFabric) run(ctx context.Context) error {
	s, err := l.app.loadQuietly(l.dir)
	if err != nil {
		return err
	}
	fabrics, err := infinibandFabrics(s.Cluster, l.name)
	if err != nil {
		return fmt.Errorf("nothing to simulate: %w", err)
	}
	f := fabrics[0]
	switch {
	case len(fabrics) > 1:
		return fmt.Errorf("fabrics %s are InfiniBand: name one with -fabric", fabricNames(fabrics))
	case len(f.Cables) == 0:
		return fmt.Errorf("fabric %q (%s) declares no cables: there is nothing to simulate", f.Name, s.Cluster.DeclaredAt(f.Range))
	}
	l.cluster = s.Cluster
	if err := l.build(f); err != nil {
		return err
	}
	if l.socket == "" {
		l.socket = "sim"
		for _, text := range f.ReadThrough {
			if p := inventory.ParseFabricPort(text); p.Simulated {
				l.socket = p.Socket
			}
		}
	}
	return l.serve(ctx, f)
}

// build makes the fabric, with what is broken from the beginning.
func (l *labFabric) build(f *inventory.Fabric) error {
	var err error
	if l.net, err = fabricsim.FromCluster(l.cluster, f); err != nil {
		return err
	}
	l.ends = map[string]string{}
	for _, n := range l.cluster.Nodes {
		if n.Hardware == nil {
			continue
		}
		for _, h := range n.Hardware.HCAs {
			l.ends[fabricsim.AdapterName(n, h)] = n.Name + " " + h.Name
		}
	}
	for _, text := range l.broken {
		faults, err := l.faults(strings.Fields(text))
		if err != nil {
			return fmt.Errorf("-break %q: %w", text, err)
		}
		l.options.Faults = append(l.options.Faults, faults...)
	}
	l.fabric, err = fabricsim.New(l.net, l.options)
	return err
}

// serve answers until ctx ends or quit is typed, which both are how it ends.
func (l *labFabric) serve(ctx context.Context, f *inventory.Fabric) error {
	ctx, quit := context.WithCancel(ctx)
	defer quit()
	// Started in the background of a terminal it has no input, and is not stopped
	// for asking.
	signal.Ignore(syscall.SIGTTIN)
	defer signal.Reset(syscall.SIGTTIN)
	server := &fabricsim.Server{Fabric: l.fabric, Socket: l.socket, Ready: func() {
		l.welcome(f)
		go l.console(ctx, quit) // ends with its input, or this process
	}}
	err := server.Serve(ctx)
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("another simulator answers under the socket name %q: end it, or take another with -socket", l.socket)
	}
	return err
}

// attachments are adapters to attach at: one for each part of the fabric that no
// cable joins to the others, as rails without spines are.
func (l *labFabric) attachments() []string {
	group := map[string]string{}
	var root func(name string) string
	root = func(name string) string {
		if up, ok := group[name]; ok && up != name {
			group[name] = root(up)
			return group[name]
		}
		return name
	}
	for _, k := range l.net.Links {
		group[root(k.A.Node)] = root(k.B.Node)
	}
	first := map[string]string{}
	for _, n := range l.net.Nodes {
		if r := root(n.Name); !n.Switch && first[r] == "" {
			first[r] = n.Name
		}
	}
	return slices.SortedFunc(maps.Values(first), inventory.CompareNames)
}

// simulated is what is told once clients can connect.
type simulated struct {
	Fabric   string   `json:"fabric"`
	Socket   string   `json:"socket"`
	Switches int      `json:"switches"`
	HCAs     int      `json:"hcas"`
	Links    int      `json:"links"`
	Attach   []string `json:"attach"` // an adapter in each part that no cable joins to the others
}

func (l *labFabric) welcome(f *inventory.Fabric) {
	s := simulated{Fabric: f.Name, Socket: l.socket, Links: len(l.net.Links), Attach: l.attachments()}
	for _, n := range l.net.Nodes {
		if n.Switch {
			s.Switches++
		} else {
			s.HCAs++
		}
	}
	if l.app.json {
		_ = l.app.event("ready", s)
		return
	}
	out := l.app.stdout
	fmt.Fprintf(out, "fabric %s: %d %s, %d %s, %d %s", f.Name, s.Switches, plural(s.Switches, "switch", "switches"),
		s.HCAs, plural(s.HCAs, "adapter", "adapters"), s.Links, plural(s.Links, "cable", "cables"))
	if len(s.Attach) > 1 {
		fmt.Fprintf(out, ", in %d subnets", len(s.Attach))
	}
	fmt.Fprintf(out, "; ibsim's sockets, name %s\n\nIn another terminal:\n", l.socket)
	from := "-ibsim " + l.socket
	if len(s.Attach) > 1 {
		for _, node := range s.Attach {
			from += " -ibsim-node '" + node + "'"
		}
	}
	if source, err := (fabricSource{}).or(l.cluster, f); err == nil && source.ibsim == l.socket {
		from = "" // the inventory says it
	}
	verbs := []string{"verify", "links", "watch"}
	if len(s.Attach) > 1 {
		verbs = verbs[:1] // they take the same, and it is long
	}
	for _, verb := range verbs {
		fmt.Fprintln(out, " ", strings.Join(strings.Fields("firstlight fabric "+verb+" "+from+" "+nearby(l.cluster.Dir)), " "))
	}
	if found, _ := filepath.Glob("/usr/lib/*/umad2sim/libumad2sim.so"); len(found) > 0 && len(s.Attach) > 0 {
		fmt.Fprintf(out, "  LD_PRELOAD=%s IBSIM_SOCKNAME=%s SIM_HOST='%s' iblinkinfo\n", found[0], l.socket, s.Attach[0])
	}
	fmt.Fprintf(out, "\nHere: %s; help has the rest. Ctrl-C ends it.\n", strings.Join(l.suggestions(f), ", "))
}

// suggestions are two things to type that fit this fabric.
func (l *labFabric) suggestions(f *inventory.Fabric) []string {
	var ports []string // of the first switch
	sw := ""
	for _, k := range f.Cables {
		if l.cluster.Node(k.ADevice) == nil || sw != "" && k.BDevice != sw {
			continue
		}
		sw, ports = k.BDevice, append(ports, k.BPort)
	}
	if len(ports) < 3 {
		return []string{"help"}
	}
	return []string{"unplug " + sw + " " + ports[0], "swap " + sw + " " + ports[1] + " " + sw + " " + ports[2]}
}

// console carries out what is typed.
func (l *labFabric) console(ctx context.Context, quit func()) {
	in := bufio.NewScanner(l.app.stdin)
	for in.Scan() {
		words := strings.Fields(in.Text())
		switch {
		case len(words) == 0:
		case words[0] == "quit" || words[0] == "exit":
			quit()
			return
		case words[0] == "help":
			fmt.Fprint(l.app.stdout, breakageHelp())
		default:
			said, err := l.carryOut(words)
			l.answer(strings.Join(words, " "), said, err)
		}
	}
	if err := in.Err(); err != nil && ctx.Err() == nil && !errors.Is(err, syscall.EIO) {
		fmt.Fprintf(l.app.stderr, "firstlight: what is typed cannot be read: %v\n", err)
	}
}

func (l *labFabric) answer(command, said string, err error) {
	switch {
	case l.app.json && err != nil:
		_ = l.app.event("refused", map[string]string{"command": command, "error": err.Error()})
	case l.app.json:
		_ = l.app.event("broken", map[string]string{"command": command, "done": said})
	case err != nil:
		fmt.Fprintf(l.app.stderr, "firstlight: %v\n", err)
	default:
		fmt.Fprintf(l.app.stdout, "%s  %s\n", time.Now().Format(time.TimeOnly), said)
	}
}
