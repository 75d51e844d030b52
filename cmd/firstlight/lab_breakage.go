package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"firstlight/internal/simrack/fabricsim"
)

// breakage is a way to break a simulated fabric, or to mend it.
type breakage struct {
	name string
	args string
	does string
	take func(l *labFabric, args []string) ([]fabricsim.Fault, error)
}

// breakages are all there are. PORT is one of a switch, by number, or an adapter of
// a node, by its name in the inventory.
func breakages() []breakage {
	return []breakage{
		{"unplug", "DEVICE PORT", "its cable is taken away", atPort(0, func(f *fabricsim.Fault, _ []string) error { f.Kind = fabricsim.Unlink; return nil })},
		{"plug", "DEVICE PORT DEVICE PORT", "a cable joins two ports that have none", betweenPorts(fabricsim.Plug)},
		{"swap", "DEVICE PORT DEVICE PORT", "their cables change places", betweenPorts(fabricsim.Swap)},
		{"move", "DEVICE PORT DEVICE PORT", "the end that is in the first goes into the second, which has none", betweenPorts(fabricsim.Move)},
		{"slow", "DEVICE PORT SPEED", "it runs at no more than that, as HDR", atPort(1, func(f *fabricsim.Fault, args []string) error {
			f.Kind, f.Speed = fabricsim.Slow, args[0]
			return nil
		})},
		{"narrow", "DEVICE PORT LANES", "it runs on no more than so many", atPort(1, func(f *fabricsim.Fault, args []string) (err error) {
			f.Kind = fabricsim.Narrow
			f.Width, err = strconv.Atoi(args[0])
			return err
		})},
		{"count", "DEVICE PORT COUNTER VALUE [PER-SECOND]", "a counter is that, and grows", takeCount},
		{"lose", "DEVICE PORT SHARE", "that share of its packets is lost, 0 to 1", atPort(1, func(f *fabricsim.Fault, args []string) (err error) {
			f.Kind = fabricsim.Lossy
			f.Share, err = strconv.ParseFloat(args[0], 64)
			return err
		})},
		{"heat", "DEVICE PORT CELSIUS", "its module is that warm", atPort(1, func(f *fabricsim.Fault, args []string) (err error) {
			f.Kind = fabricsim.Heat
			f.Value, err = strconv.ParseUint(args[0], 10, 64)
			return err
		})},
		{"ber", "DEVICE PORT RATE", "so many bits are wrong after correction, as 1e-12", atPort(1, func(f *fabricsim.Fault, args []string) (err error) {
			f.Kind = fabricsim.BitErrors
			f.Share, err = strconv.ParseFloat(args[0], 64)
			return err
		})},
		{"pkeys", "DEVICE PORT KEYS", "its P_Key table, as 0x7fff,0x8001", takeKeys},
		{"off", "DEVICE", "a node or switch has no power", atDevice(fabricsim.Dead)},
		{"on", "DEVICE", "it has it again", atDevice(fabricsim.Revive)},
		{"mute", "DEVICE", "its ports are up, and it answers nothing", atDevice(fabricsim.Mute)},
		{"rename", "DEVICE TEXT", "it says that it is that", takeName},
	}
}

// breakageHelp is a line for each of them.
func breakageHelp() string {
	var b strings.Builder
	tw := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, k := range breakages() {
		fmt.Fprintf(tw, "  %s %s\t%s\n", k.name, k.args, k.does)
	}
	fmt.Fprintf(tw, "  help, quit\t\n")
	tw.Flush()
	lines := strings.Split(b.String(), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.Join(lines, "\n")
}

// faults are what a command stands for.
func (l *labFabric) faults(words []string) ([]fabricsim.Fault, error) {
	if len(words) == 0 {
		return nil, fmt.Errorf("say what to break")
	}
	var names []string
	for _, k := range breakages() {
		if k.name == words[0] {
			faults, err := k.take(l, words[1:])
			if err != nil {
				return nil, fmt.Errorf("%s: %w", k.name, err)
			}
			if faults == nil {
				return nil, fmt.Errorf("usage: %s %s", k.name, k.args)
			}
			return faults, nil
		}
		names = append(names, k.name)
	}
	return nil, fmt.Errorf("%q is nothing that can be done to a fabric: there are %s%s", words[0], strings.Join(names, ", "), meant(words[0], names))
}

// meant is the end of a message about a name that is not there.
func meant(given string, names []string) string {
	if near := closest(given, names); near != "" {
		return fmt.Sprintf("; did you mean %q?", near)
	}
	return ""
}

// carryOut breaks what was typed, and says what it was.
func (l *labFabric) carryOut(words []string) (string, error) {
	faults, err := l.faults(words)
	if err != nil {
		return "", err
	}
	said := l.about(words, faults)
	if err := l.fabric.Inject(faults...); err != nil {
		return "", err
	}
	return said, nil
}

// about names the cables that a command takes hold of, as they are before it.
func (l *labFabric) about(words []string, faults []fabricsim.Fault) string {
	said := strings.Join(words, " ")
	var cables []string
	for _, end := range []fabricsim.End{faults[0].At, faults[0].To} {
		if peer, ok := l.fabric.Peer(end); ok {
			cables = append(cables, l.end(end)+" — "+l.end(peer))
		}
	}
	if len(cables) > 0 {
		said += ": " + strings.Join(cables, ", ")
	}
	return said
}

// end is a port as the inventory calls it.
func (l *labFabric) end(e fabricsim.End) string {
	if name := l.ends[e.Node]; name != "" {
		return name
	}
	return e.String()
}

// port finds a port that two words name.
func (l *labFabric) port(device, port string) (fabricsim.End, error) {
	if n := l.cluster.Node(device); n != nil && n.Hardware != nil {
		var names []string
		for _, h := range n.Hardware.HCAs {
			if h.Name == port || h.Device == port {
				if e := (fabricsim.End{Node: fabricsim.AdapterName(n, h), Port: 1}); l.has(e.Node) {
					return e, nil
				}
				return fabricsim.End{}, fmt.Errorf("%s %s has no cable on this fabric", device, port)
			}
			names = append(names, h.Name)
		}
		return fabricsim.End{}, fmt.Errorf("%s has no adapter %q: there are %s", device, port, strings.Join(names, ", "))
	}
	num, err := strconv.Atoi(port)
	if !l.has(device) {
		return fabricsim.End{}, l.noDevice(device)
	}
	if err != nil {
		return fabricsim.End{}, fmt.Errorf("%q is no port of %s: they are numbers", port, device)
	}
	return fabricsim.End{Node: device, Port: num}, nil
}

func (l *labFabric) has(node string) bool {
	return slices.ContainsFunc(l.net.Nodes, func(n fabricsim.Node) bool { return n.Name == node })
}

func (l *labFabric) noDevice(name string) error {
	var names []string
	for _, n := range l.cluster.Nodes {
		names = append(names, n.Name)
	}
	for _, n := range l.net.Nodes {
		if l.ends[n.Name] == "" {
			names = append(names, n.Name)
		}
	}
	return fmt.Errorf("the fabric has no node or switch %q%s", name, meant(name, names))
}

// device are the adapters of a node, or a switch.
func (l *labFabric) device(name string) ([]string, error) {
	if l.has(name) {
		return []string{name}, nil
	}
	var out []string
	if n := l.cluster.Node(name); n != nil && n.Hardware != nil {
		for _, h := range n.Hardware.HCAs {
			if adapter := fabricsim.AdapterName(n, h); l.has(adapter) {
				out = append(out, adapter)
			}
		}
	}
	if out == nil {
		return nil, l.noDevice(name)
	}
	return out, nil
}

// atPort takes a port and so many words more.
func atPort(more int, fill func(f *fabricsim.Fault, args []string) error) func(*labFabric, []string) ([]fabricsim.Fault, error) {
	return func(l *labFabric, args []string) ([]fabricsim.Fault, error) {
		if len(args) != 2+more {
			return nil, nil
		}
		at, err := l.port(args[0], args[1])
		if err != nil {
			return nil, err
		}
		f := fabricsim.Fault{At: at}
		if err := fill(&f, args[2:]); err != nil {
			return nil, err
		}
		return []fabricsim.Fault{f}, nil
	}
}

func betweenPorts(kind fabricsim.Kind) func(*labFabric, []string) ([]fabricsim.Fault, error) {
	return func(l *labFabric, args []string) ([]fabricsim.Fault, error) {
		if len(args) != 4 {
			return nil, nil
		}
		at, err := l.port(args[0], args[1])
		if err != nil {
			return nil, err
		}
		to, err := l.port(args[2], args[3])
		if err != nil {
			return nil, err
		}
		return []fabricsim.Fault{{Kind: kind, At: at, To: to}}, nil
	}
}

func atDevice(kind fabricsim.Kind) func(*labFabric, []string) ([]fabricsim.Fault, error) {
	return func(l *labFabric, args []string) (out []fabricsim.Fault, err error) {
		if len(args) != 1 {
			return nil, nil
		}
		names, err := l.device(args[0])
		for _, name := range names {
			out = append(out, fabricsim.Fault{Kind: kind, Node: name})
		}
		return out, err
	}
}

func takeCount(l *labFabric, args []string) ([]fabricsim.Fault, error) {
	if len(args) == 4 {
		args = append(args, "0")
	}
	return atPort(3, func(f *fabricsim.Fault, args []string) (err error) {
		f.Kind, f.Counter = fabricsim.Count, args[0]
		if names := fabricsim.Counters(); !slices.Contains(names, f.Counter) {
			return fmt.Errorf("there is no counter %q: there are %s%s", f.Counter, strings.Join(names, ", "), meant(f.Counter, names))
		}
		if f.Value, err = strconv.ParseUint(args[1], 10, 64); err != nil {
			return err
		}
		f.PerSecond, err = strconv.ParseFloat(args[2], 64)
		return err
	})(l, args)
}

func takeKeys(l *labFabric, args []string) ([]fabricsim.Fault, error) {
	return atPort(1, func(f *fabricsim.Fault, args []string) error {
		f.Kind = fabricsim.Partition
		for text := range strings.SplitSeq(args[0], ",") {
			key, err := strconv.ParseUint(text, 0, 16)
			if err != nil {
				return fmt.Errorf("%q is no entry of a P_Key table: %w", text, err)
			}
			f.Keys = append(f.Keys, uint16(key))
		}
		return nil
	})(l, args)
}

func takeName(l *labFabric, args []string) (out []fabricsim.Fault, err error) {
	if len(args) < 2 {
		return nil, nil
	}
	names, err := l.device(args[0])
	for _, name := range names {
		out = append(out, fabricsim.Fault{Kind: fabricsim.Describe, Node: name, Text: strings.Join(args[1:], " ")})
	}
	return out, err
}
