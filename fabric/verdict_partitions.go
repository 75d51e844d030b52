package fabric

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"firstlight/inventory"
)

// partition is a declared one with what it takes to hold an adapter against it.
type partition struct {
	inventory.Partition
	fabric string
	nodes  map[string]bool // nil: every one
	at     string
}

func (p *partition) String() string { return fmt.Sprintf("partition %q (%s)", p.Name, p.Key) }

// declarePartitions takes those of a fabric.
func (d *Declared) declarePartitions(f *inventory.Fabric) {
	for _, p := range f.Partitions {
		own := &partition{Partition: p, fabric: f.Name, at: d.cluster.DeclaredAt(p.Range)}
		if p.Nodes != nil {
			own.nodes = make(map[string]bool, len(p.Nodes))
			for _, n := range p.Nodes {
				own.nodes[n] = true
			}
		}
		d.partitions = append(d.partitions, own)
	}
	if len(f.Partitions) > 0 {
		d.governed[f.Name] = d.cluster.DeclaredAt(f.Range)
		if len(f.Cables) == 0 {
			d.uncabled = f.Name
		}
	}
}

// partitioned is the fabric that an adapter's partitions are declared in; "" where
// none are. One without a cable is on the fabric that declares no cables.
func (d *Declared) partitioned(e *end) string {
	name := d.uncabled
	if e.cable != nil {
		name = e.cable.run.Fabric
	}
	if e.hca == nil || d.governed[name] == "" {
		return ""
	}
	return name
}

// ofEnd are the partitions that an adapter is to be in.
func (d *Declared) ofEnd(e *end) (out []*partition) {
	name := d.partitioned(e)
	for _, p := range d.partitions {
		if p.fabric == name && (p.nodes == nil || p.nodes[e.dev.name]) {
			out = append(out, p)
		}
	}
	return out
}

// defaultPKey is the key of the default partition, which subnet managers put into
// every table, and that they themselves are reached by (IBTA volume 1, 10.9.1.2).
const defaultPKey inventory.PKey = 0x7fff

// lapse is a way in which a table is not as declared.
type lapse struct {
	what lapseKind
	key  inventory.PKey
	part *partition // nil: none of that key is declared
}

type lapseKind string

const (
	absent     lapseKind = "absent"
	tooLimited lapseKind = "too limited"
	tooFull    lapseKind = "too full"
	foreign    lapseKind = "foreign"
)

// harmless reports that no traffic that is planned is kept from flowing.
func (l lapse) harmless() bool { return l.what == tooFull || l.what == foreign }

func (l lapse) String() string {
	at := ""
	if l.part != nil {
		at = declaredAs(l.part.at)
	}
	switch l.what {
	case absent:
		return fmt.Sprintf("not in %s%s", l.part, at)
	case tooLimited:
		return fmt.Sprintf("a limited member of %s, declared full%s", l.part, at)
	case tooFull:
		return fmt.Sprintf("a full member of %s, declared limited%s", l.part, at)
	}
	if l.part == nil {
		return fmt.Sprintf("in partition %s, which is not declared", l.key)
	}
	return fmt.Sprintf("in %s, which is declared without it%s", l.part, at)
}

// member is an adapter whose table is held against declared partitions.
type member struct {
	port *Port
	sure bool // by its GUID or description; else by where it is cabled to
}

// remember notes what adapters are before it is known that whole nodes stand in each
// other's place: a subnet manager knows them by their GUIDs, wherever they are.
func (c *check) remember() {
	for _, a := range c.adapters {
		a.saidHost, a.saidEnd = a.host, a.end
	}
}

// findMembers finds the adapters of declared ends.
func (c *check) findMembers() {
	c.members = map[*end]member{}
	for _, a := range c.adapters {
		e := cmp.Or(a.saidEnd, a.end)
		if e == nil || a.saidEnd == nil && a.saidHost != nil && a.saidHost != e.dev {
			continue
		}
		if _, twice := c.members[e]; !twice {
			c.members[e] = member{a.port, a.saidHost != nil}
		}
	}
}

// lapses holds a table against the partitions that its port is to be in. A port
// can be full and limited at once: the fuller counts. Of whom nothing but its place
// tells who it is, only what is declared for every node can be said.
func (d *Declared) lapses(e *end, m member) (out []lapse) {
	full := map[inventory.PKey]bool{}
	for _, entry := range m.port.PKeys {
		key := inventory.PKey(entry &^ inventory.FullMember)
		full[key] = full[key] || entry&inventory.FullMember != 0
	}
	for _, p := range d.ofEnd(e) {
		switch isFull, there := full[p.Key]; {
		case p.nodes != nil && !m.sure:
		case !there:
			out = append(out, lapse{absent, p.Key, p})
		case p.Full && !isFull:
			out = append(out, lapse{tooLimited, p.Key, p})
		case !p.Full && isFull:
			out = append(out, lapse{tooFull, p.Key, p})
		}
		delete(full, p.Key)
	}
	delete(full, defaultPKey)
	for _, key := range slices.Sorted(maps.Keys(full)) {
		l := lapse{what: foreign, key: key}
		for _, p := range d.partitions {
			if p.Key == key && p.fabric == d.partitioned(e) {
				l.part = p
				break
			}
		}
		if l.part == nil || m.sure {
			out = append(out, l)
		}
	}
	return out
}

// tableText is a P_Key table as perfquery's siblings print it.
func tableText(table []uint16) string {
	if len(table) == 0 {
		return "an empty P_Key table"
	}
	text := make([]string, len(table))
	for i, entry := range table {
		text[i] = fmt.Sprintf("0x%04x", entry)
	}
	return "P_Key table " + strings.Join(text, ", ")
}

// chooses reports that a fabric has a partition of some nodes only.
func (d *Declared) chooses(fabric string) bool {
	return slices.ContainsFunc(d.partitions, func(p *partition) bool { return p.fabric == fabric && p.nodes != nil })
}

// partitionsOf holds the P_Key tables of the declared adapters against the declared
// partitions. A node is one finding, whatever is wrong with it; what is wrong with
// most of a fabric's nodes is one finding for all of them.
func (c *check) partitionsOf() {
	if len(c.d.governed) == 0 {
		c.verdict.NotRead = append(c.verdict.NotRead, "wrong-partition: no partition is declared")
		return
	}
	c.findMembers()
	found := map[lapse][]*end{}
	read := map[string][]*end{} // by fabric
	unread, unsure := 0, 0
	for _, e := range c.d.ends {
		name := c.d.partitioned(e)
		m, there := c.members[e]
		switch {
		case name == "" || !there:
			continue
		case m.port.PKeys == nil:
			unread++
			continue
		case !m.sure && c.d.chooses(name):
			unsure++
		}
		read[name] = append(read[name], e)
		for _, l := range c.d.lapses(e, m) {
			found[l] = append(found[l], e)
		}
	}
	switch note := func(text string) { c.verdict.NotRead = append(c.verdict.NotRead, "wrong-partition: "+text) }; {
	case len(read) == 0:
		note("what was read has no P_Key tables")
	case unread > 0:
		note(fmt.Sprintf("the P_Key tables of %d adapters were not read", unread))
	case unsure > 0:
		note(fmt.Sprintf("%d adapters do not say whose they are, so that partitions of some nodes only were not judged at them", unsure))
	}
	c.tellLapses(found, read)
}

func (c *check) tellLapses(found map[lapse][]*end, read map[string][]*end) {
	order := slices.SortedFunc(maps.Keys(found), func(a, b lapse) int {
		return cmp.Or(cmp.Compare(a.key, b.key), strings.Compare(string(a.what), string(b.what)), strings.Compare(a.place(), b.place()))
	})
	own := map[*device]map[lapse][]*end{}
	for _, l := range order {
		ends := found[l]
		if could := c.couldLapse(l, ends, read); len(devices(ends)) >= 4 && len(devices(ends))*2 > could {
			c.add(c.wrongFabric(l, ends, could))
			continue
		}
		for _, e := range ends {
			if own[e.dev] == nil {
				own[e.dev] = map[lapse][]*end{}
			}
			own[e.dev][l] = append(own[e.dev][l], e)
		}
	}
	for _, dev := range c.d.devices {
		if own[dev] != nil {
			c.add(c.wrongNode(dev, order, own[dev]))
		}
	}
}

func (l lapse) place() string {
	if l.part == nil {
		return ""
	}
	return l.part.at
}

// couldLapse is how many nodes could have that wrong: those of the partition, or of
// a key that is not theirs all of the fabric.
func (c *check) couldLapse(l lapse, some []*end, read map[string][]*end) int {
	all := read[c.d.partitioned(some[0])]
	if l.what == foreign {
		return len(devices(all))
	}
	return len(devices(slices.DeleteFunc(slices.Clone(all), func(e *end) bool { return l.part.nodes != nil && !l.part.nodes[e.dev.name] })))
}

// devices are those that ends belong to, each once.
func devices(all []*end) (out []*device) {
	seen := map[*device]bool{}
	for _, e := range all {
		if !seen[e.dev] {
			seen[e.dev] = true
			out = append(out, e.dev)
		}
	}
	return out
}

// whereToChange ends what there is to do about a table: nobody moves a cable.
const whereToChange = "in the subnet manager's configuration (opensm: partitions.conf; UFM: its partition), and have it sweep; or correct the declaration"

func (c *check) wrongFabric(l lapse, all []*end, of int) Finding {
	devs := devices(all)
	f := Finding{Class: WrongPartition, Severity: Error, Node: devs[0].name, Ports: refs(all...), Declared: c.d.keysText(all[0]),
		Found: tableText(c.members[all[0]].port.PKeys), DeclaredAt: cmp.Or(l.place(), c.d.governed[c.d.partitioned(all[0])])}
	if l.harmless() {
		f.Severity = Warning
	}
	f.Message = fmt.Sprintf("%d of %d nodes are %s; %s has %s", len(devs), of, l, all[0], f.Found)
	f.Action = "correct the partition " + whereToChange
	return f
}

func (c *check) wrongNode(dev *device, order []lapse, wrong map[lapse][]*end) Finding {
	f := Finding{Class: WrongPartition, Severity: Warning, Node: dev.name}
	var parts []string
	var all []*end
	for _, l := range order {
		ends := wrong[l]
		if ends == nil {
			continue
		}
		if !l.harmless() {
			f.Severity = Error
		}
		f.DeclaredAt = cmp.Or(f.DeclaredAt, l.place())
		var names []string
		for _, e := range ends {
			names = append(names, e.port)
			if !slices.Contains(all, e) {
				all = append(all, e)
			}
		}
		is := "is"
		if len(names) > 1 {
			is = "are"
		}
		parts = append(parts, fmt.Sprintf("%s %s %s", inventory.Fold(names), is, l))
	}
	f.DeclaredAt = cmp.Or(f.DeclaredAt, c.d.governed[c.d.partitioned(all[0])])
	f.Ports, f.Declared, f.Found = refs(all...), c.d.keysText(all[0]), tableText(c.members[all[0]].port.PKeys)
	f.Message = fmt.Sprintf("%s %s; %s has %s", dev.name, strings.Join(parts, "; "), all[0].port, f.Found)
	f.Action = fmt.Sprintf("correct the partitions of %s %s", dev.name, whereToChange)
	return f
}

// keysText is what an adapter's table is declared to have: "0x7fff limited,
// 0x0001 full".
func (d *Declared) keysText(e *end) string {
	var out []string
	for _, p := range d.ofEnd(e) {
		kind := "limited"
		if p.Full {
			kind = "full"
		}
		out = append(out, p.Key.String()+" "+kind)
	}
	if len(out) == 0 {
		return "no partition but the default one"
	}
	return strings.Join(out, ", ")
}

// Membership is what partitions an adapter is to be in, and what its table says.
type Membership struct {
	Declared   string // "0x7fff limited, 0x0001 full"
	DeclaredAt string
	Found      string // "P_Key table 0x7fff, 0x8001"
	Why        string // why it was not judged; "" where it was
	Right      bool   // it is in all those that are declared, as declared or fuller
}

// membership is that of a declared adapter; nil where no partition is declared.
func (c *check) membership(e *end) *Membership {
	name := c.d.partitioned(e)
	if name == "" {
		return nil
	}
	m := &Membership{Declared: c.d.keysText(e), DeclaredAt: c.d.governed[name]}
	if want := c.d.ofEnd(e); len(want) > 0 {
		m.DeclaredAt = want[0].at
	}
	mem, there := c.members[e]
	switch {
	case !there || mem.port.PKeys == nil:
		m.Why = "its P_Key table was not read"
	case !mem.sure && c.d.chooses(name):
		m.Why = "it does not say whose it is, and partitions of some nodes only are declared"
	default:
		m.Found = tableText(mem.port.PKeys)
		m.Right = !slices.ContainsFunc(c.d.lapses(e, mem), func(l lapse) bool { return !l.harmless() })
	}
	return m
}
