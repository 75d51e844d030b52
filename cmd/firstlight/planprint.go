package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"firstlight/inventory"
	"firstlight/provision"
	"firstlight/provision/bmc/pacing"
)

var planSigns = map[string][2]string{
	provision.ActionBringUp: {"+", "32"},
	provision.ActionChange:  {"~", "33"},
	provision.ActionRemove:  {"-", "31"},
	provision.ActionHeld:    {"!", "35"},
}

// printPlan writes the plan for a person. Nodes whose steps are alike share one
// entry, wherever they stand.
func printPlan(w io.Writer, p provision.Plan, colour bool) {
	if !p.Changes() && p.Summary.Held == 0 {
		fmt.Fprintf(w, "No changes. %d %s ready and rest on what is declared.\n", p.Summary.NoChange, plural(p.Summary.NoChange, "node is", "nodes are"))
		return
	}
	printAlike(w, alike(stepsOf(p.Nodes)), func(g group) {
		s := p.Nodes[g.first]
		sign := planSigns[s.Action]
		what := fmt.Sprintf("%s -> %s", s.From, s.To)
		switch {
		case s.Action == provision.ActionRemove:
			what = "close the record"
		case s.Action == provision.ActionHeld:
			what = "left alone"
		case s.Replace:
			sign[0] = "-/+"
		}
		fmt.Fprintf(w, "%s %s%s: %s\n", paint(colour, sign[1], sign[0]), g.nodes(), g.places(), what)
		for _, r := range g.reasons {
			fmt.Fprintf(w, "    because %s\n", r)
		}
		if s.DurationS > 0 {
			fmt.Fprintf(w, "    costs %s, about %s\n", disruption(s.Disruption, len(g.names)), about(seconds(s.DurationS)))
		}
	})
	fmt.Fprintln(w)
	if len(p.ByRack) > 1 || len(p.ByHardware) > 1 {
		printParts(w, "rack", "racks", p.ByRack)
		printParts(w, "hardware", "hardware", p.ByHardware)
		fmt.Fprintln(w)
	}
	printWaves(w, p.Waves)
	fmt.Fprintln(w, summaryLine(p.Summary))
	if p.Summary.Held > 0 {
		fmt.Fprintf(w, "%d %s for a person.\n", p.Summary.Held, plural(p.Summary.Held, "node waits", "nodes wait"))
	}
}

// summaryLine is the disruption line.
func summaryLine(s provision.Summary) string {
	return fmt.Sprintf("Plan: %d to bring up, %d to change, %d to remove. %d power %s, %d disk %s, about %s.",
		s.BringUp, s.Change, s.Remove, s.PowerCycles, plural(s.PowerCycles, "cycle", "cycles"),
		s.DiskErasures, plural(s.DiskErasures, "erasure", "erasures"), about(seconds(s.DurationS)))
}

// stepsOf are the steps that are printed, as items to be grouped.
func stepsOf(steps []provision.PlanStep) []item {
	var out []item
	for i, s := range steps {
		if s.Action != provision.ActionNone {
			key := fmt.Sprint(s.Action, s.From, s.To, s.Disruption, s.DurationS, s.Replace)
			out = append(out, item{index: i, name: s.Name, rack: s.Rack, key: key, reasons: s.Reasons})
		}
	}
	return out
}

// maxParts bounds the lines of each sum.
const maxParts = 12

// printParts writes what changes per rack or per class; those where it is the
// same share a line.
func printParts(w io.Writer, one, many string, parts []provision.Part) {
	type line struct {
		names []string
		text  string
	}
	var lines []line
	index := map[string]int{}
	for _, p := range parts {
		text := partText(p)
		key := text
		if p.Name == "" {
			key = "" // has no name to fold
		}
		i, ok := index[key]
		if !ok {
			i = len(lines)
			index[key] = i
			lines = append(lines, line{text: text})
		}
		lines[i].names = append(lines[i].names, p.Name)
	}
	for i, l := range lines {
		if i == maxParts-1 && len(lines) > maxParts {
			n := 0
			for _, rest := range lines[i:] {
				n += len(rest.names)
			}
			fmt.Fprintf(w, "%d more %s (-json names them)\n", n, plural(n, one, many))
			return
		}
		switch {
		case l.names[0] == "":
			fmt.Fprintf(w, "no %s: %s\n", one, l.text)
		case len(l.names) == 1:
			fmt.Fprintf(w, "%s %s: %s\n", one, l.names[0], l.text)
		default:
			fmt.Fprintf(w, "%s %s: %s each\n", many, foldWithin(l.names), l.text)
		}
	}
}

// printWaves writes in which order nodes are switched on, and how near that comes
// to the power-on budgets.
func printWaves(w io.Writer, waves []provision.Wave) {
	if len(waves) == 0 {
		return
	}
	fmt.Fprintf(w, "Switched on in %d %s, each once the nodes before it have started:\n", len(waves), plural(len(waves), "wave", "waves"))
	for i, wave := range waves {
		if i == maxParts-1 && len(waves) > maxParts {
			fmt.Fprintf(w, "  %d more waves (-json names them)\n", len(waves)-i)
			break
		}
		fmt.Fprintf(w, "  wave %d: %s, %s%s", i+1, foldWithin(wave.Nodes), kilowatts(wave.Watts), basis(wave))
		if len(wave.Draws) > 0 {
			full := slices.MaxFunc(wave.Draws, func(a, b pacing.Draw) int {
				return cmp.Compare(float64(a.Watts)/float64(a.Budget), float64(b.Watts)/float64(b.Budget))
			})
			what := ""
			if len(wave.Draws) > 1 {
				what = "fullest "
			}
			fmt.Fprintf(w, " (%s%s: %s of %s)", what, full.Circuit, kilowatts(full.Watts), kilowatts(full.Budget))
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintln(w)
}

// basis says by what the draw of a wave is known; "" where all are nameplates
// because nothing else is declared.
func basis(w provision.Wave) string {
	switch {
	case w.Measured == nil:
		return ""
	case *w.Measured == 0:
		return " by nameplate"
	case *w.Measured == len(w.Nodes):
		return " as measured"
	}
	return fmt.Sprintf(" with %d of %d as measured", *w.Measured, len(w.Nodes))
}

func kilowatts(w int64) string { return fmt.Sprintf("%gkW", float64(w)/1000) }

// partText is "8 to bring up, 1 held".
func partText(p provision.Part) string {
	var parts []string
	add := func(n int, what string) {
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, what))
		}
	}
	add(p.BringUp, "to bring up")
	add(p.Change, "to change")
	add(p.Remove, "to remove")
	add(p.Held, "held")
	return strings.Join(parts, ", ")
}

func disruption(d provision.Disruption, nodes int) string {
	var parts []string
	add := func(n int, one, many string) {
		if n > 0 {
			each := ""
			if nodes > 1 {
				each = " each"
			}
			parts = append(parts, fmt.Sprintf("%d %s%s", n, plural(n, one, many), each))
		}
	}
	add(d.PowerCycles, "power cycle", "power cycles")
	add(d.Reboots, "reboot", "reboots")
	add(d.DiskErasures, "disk erasure", "disk erasures")
	if d.BurnInS > 0 {
		parts = append(parts, "burn-in "+seconds(d.BurnInS).String())
	}
	if parts == nil {
		return "no disruption"
	}
	return strings.Join(parts, ", ")
}

func plural(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// item is what is said of one node, to be grouped with those alike.
type item struct {
	index      int
	name, rack string
	key        string // nodes of different keys never share an entry
	reasons    []string
}

// group is what is said of nodes that are alike.
type group struct {
	first   int // index of the first item
	names   []string
	racks   []string
	reasons []string
	varies  []bool          // by reason: not the same text for all
	in      map[string]bool // racks
}

// maxLines bounds the entries of a plan or a report, in lines. Where they would
// be more, reasons that differ only in their values (each node's own serial)
// share an entry too.
const maxLines = 60

// lines is what an entry takes: its head, its reasons, its cost.
func (g group) lines() int { return len(g.reasons) + 2 }

func alike(items []item) []group {
	groups := groupBy(items, func(reason string) string { return reason })
	total := 0
	for _, g := range groups {
		total += g.lines()
	}
	if total > maxLines {
		groups = groupBy(items, topic)
	}
	return groups
}

// topic is what a reason is about, without its values: the name of a declared
// value, or what stands before the first colon.
func topic(reason string) string {
	if word, _, _ := strings.Cut(reason, " "); strings.Contains(word, ".") {
		return strings.TrimSuffix(word, ":")
	}
	head, _, _ := strings.Cut(reason, ":")
	return head
}

func groupBy(items []item, of func(reason string) string) []group {
	var groups []group
	index := map[string]int{}
	var key strings.Builder
	for _, it := range items {
		key.Reset()
		key.WriteString(it.key)
		for _, r := range it.reasons {
			key.WriteByte('\n')
			key.WriteString(of(r))
		}
		i, ok := index[key.String()]
		if !ok {
			i = len(groups)
			index[key.String()] = i
			groups = append(groups, group{first: it.index, reasons: slices.Clone(it.reasons), varies: make([]bool, len(it.reasons)), in: map[string]bool{}})
		}
		g := &groups[i]
		for j, r := range it.reasons {
			g.varies[j] = g.varies[j] || r != g.reasons[j]
		}
		g.names = append(g.names, it.name)
		if it.rack != "" && !g.in[it.rack] {
			g.in[it.rack] = true
			g.racks = append(g.racks, it.rack)
		}
	}
	for _, g := range groups {
		for j, r := range g.reasons {
			if g.varies[j] {
				g.reasons[j] = fmt.Sprintf("%s (this of %s; the others alike)", r, g.names[0])
			}
		}
	}
	return groups
}

// printAlike writes entries up to a bound, and how much the rest is.
func printAlike(w io.Writer, groups []group, show func(group)) {
	room := maxLines
	for i, g := range groups {
		room -= g.lines()
		if i > 0 && room < 0 {
			n := 0
			for _, rest := range groups[i:] {
				n += len(rest.names)
			}
			fmt.Fprintf(w, "  %d more %s of %d %s: -target narrows it down, -json has all\n",
				len(groups)-i, plural(len(groups)-i, "entry", "entries"), n, plural(n, "node", "nodes"))
			return
		}
		show(g)
	}
}

func (g group) nodes() string { return foldWithin(g.names) }

// places is " (racks a[001-096])", or nothing where no rack is known.
func (g group) places() string {
	switch len(g.racks) {
	case 0:
		return ""
	case 1:
		return " (rack " + g.racks[0] + ")"
	}
	return " (racks " + foldWithin(g.racks) + ")"
}

// foldLimit is the length of a host list that is still read.
const foldLimit = 200

// foldWithin folds names; a list that stays too long is cut, and counted.
func foldWithin(names []string) string {
	s := inventory.Fold(names)
	if len(s) <= foldLimit {
		return s
	}
	cut := strings.LastIndexByte(s[:foldLimit], ',')
	if cut < 0 {
		return s
	}
	head := s[:cut]
	if strings.Count(head, "[") > strings.Count(head, "]") {
		return fmt.Sprintf("%s,...] (%d in all)", head, len(names))
	}
	return fmt.Sprintf("%s,... (%d in all)", head, len(names))
}
