package importer

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"firstlight/inventory"
)

// Fabric is a fabric as it was found, in no tool's own terms.
type Fabric struct {
	Name    string // of the file it was read from
	Devices []Device
	Links   []Link
}

// Device is a switch or an adapter. Zero is not known.
type Device struct {
	Switch      bool
	GUID        uint64 // of the node, or of an adapter's port where that is all there is
	PortGUID    uint64 // of an adapter's first port
	SystemGUID  uint64
	Description string
	Ports       int
	DeviceID    uint32
}

// Link joins ports of two devices, by their index. Rate is the name of its
// rate, or "".
type Link struct {
	A, APort int
	B, BPort int
	Rate     string
}

// wiring is what was made of a fabric.
type wiring struct {
	switches []*device
	hosts    []*host
	cables   []*cable
	models   []*model // that are not built in
	rate     string   // of most links
	rails    int
	inner    int // adapters inside switches, which were left out
	odd      []string
	adapters []*adapter
}

// device is a switch.
type device struct {
	Device
	name  string
	named bool
	model string
	guess bool // the model does not stand in its description
	split bool
	role  string // "" is not known
	rail  int
	most  int      // highest port in use
	rates []string // of its links
	hosts int      // links to adapters
	links []*cable
}

// host is what adapters stand in.
type host struct {
	name     string
	named    bool // its adapters say its name
	adapters []*adapter
	node     *node // of the asset list
}

// adapter is an HCA.
type adapter struct {
	Device
	label  string // the RDMA device's name where it is known
	given  bool   // the label is that name
	host   *host
	rail   int
	cables []*cable
}

// end is one end of a cable: at a switch or an adapter.
type end struct {
	sw   *device
	hca  *adapter
	port int
}

type cable struct {
	a, b end
	rate string
}

func (c *cable) other(of end) end {
	if c.a == of {
		return c.b
	}
	return c.a
}

// end is the end at an adapter.
func (c *cable) end(a *adapter) end {
	if c.a.hca == a {
		return c.a
	}
	return c.b
}

// device is what the inventory calls the thing at an end, and port its port.
func (e end) device() string {
	if e.sw != nil {
		return e.sw.name
	}
	return e.hca.host.name
}

func (e end) portName() string {
	if e.sw != nil {
		return strconv.Itoa(e.port)
	}
	if e.port > 1 {
		return fmt.Sprintf("%s_p%d", e.hca.label, e.port)
	}
	return e.hca.label
}

// trace makes hosts, switches and cables of devices and links.
func trace(f *Fabric) *wiring {
	w := &wiring{}
	ends := make([]func(port int) (end, bool), len(f.Devices))
	names := map[string]bool{}
	for i, d := range f.Devices {
		switch {
		case d.Switch:
			sw := &device{Device: d}
			w.switches = append(w.switches, sw)
			ends[i] = func(port int) (end, bool) { return end{sw: sw, port: port}, true }
		case strings.Contains(d.Description, "Aggregation Node"):
			w.inner++ // inside a switch, for reductions in the network: no cable leads to it
			ends[i] = func(int) (end, bool) { return end{}, false }
		default:
			a := &adapter{Device: d}
			w.adapters = append(w.adapters, a)
			ends[i] = func(port int) (end, bool) { return end{hca: a, port: port}, true }
		}
	}
	for _, l := range f.Links {
		a, okA := ends[l.A](l.APort)
		b, okB := ends[l.B](l.BPort)
		if okA && okB {
			w.connect(a, b, l.Rate)
		}
	}
	w.group()
	for _, h := range w.hosts {
		names[h.name] = true
	}
	w.nameSwitches(names)
	w.place()
	w.pickModels()
	w.sort()
	return w
}

func (w *wiring) connect(a, b end, rate string) {
	c := &cable{a: a, b: b, rate: rate}
	w.cables = append(w.cables, c)
	for _, e := range []end{a, b} {
		if e.hca != nil {
			e.hca.cables = append(e.hca.cables, c)
			continue
		}
		e.sw.most, e.sw.links = max(e.sw.most, e.port), append(e.sw.links, c)
		if rate != "" {
			e.sw.rates = append(e.sw.rates, rate)
		}
		if c.other(e).hca != nil {
			e.sw.hosts++
		}
	}
}

var (
	// described is what mlx and other drivers make of a host: its name and the
	// RDMA device's, or HCA-1.
	described = regexp.MustCompile(`^(\S+)\s+(HCA-[0-9]+|[a-z][a-z0-9_]*[0-9])$`)
	// nobody are first words of descriptions that nothing was set in.
	nobody = regexp.MustCompile(`(?i)^(localhost.*|MT[0-9]{4,}.*|mellanox.*|nvidia|connect-?x.*|infinihost.*|\(none\))$`)
	// managed is a switch with its own operating system: MF0;leaf-01:MQM9700/U1.
	managed = regexp.MustCompile(`^MF0;([^:]*):M?([^/:]*)/\S+$`)
)

// hostOf reads a host's name and its RDMA device's from a description.
func hostOf(description string) (name, device string) {
	text := strings.TrimSpace(description)
	if m := described.FindStringSubmatch(text); m != nil {
		text, device = m[1], m[2]
		if n, ok := strings.CutPrefix(device, "HCA-"); ok {
			device = "hca" + n
		}
	}
	if strings.ContainsAny(text, " \t") || nobody.MatchString(text) || !inventory.IsHostName(text) {
		return "", device
	}
	return text, device
}

// group puts adapters into hosts: by the name in their description, else by
// their system image GUID.
func (w *wiring) group() {
	byName, bySystem := map[string]*host{}, map[uint64]*host{}
	for _, a := range w.adapters {
		name, device := hostOf(a.Description)
		a.label, a.given = device, device != "" && !strings.HasPrefix(device, "hca")
		var h *host
		switch {
		case name != "":
			h = byName[strings.ToLower(name)]
		case a.SystemGUID != 0:
			h = bySystem[a.SystemGUID]
		}
		if h == nil {
			h = &host{name: name, named: name != ""}
			if name == "" {
				h.name = fmt.Sprintf("unnamed-%016x", cmp.Or(a.SystemGUID, a.GUID))
				if a.SystemGUID != 0 {
					bySystem[a.SystemGUID] = h
				}
			} else {
				byName[strings.ToLower(name)] = h
			}
			w.hosts = append(w.hosts, h)
		}
		a.host, h.adapters = h, append(h.adapters, a)
	}
	for _, h := range w.hosts {
		h.label()
	}
}

// label gives every port of a host a name that is its own: the RDMA device's,
// else hca1, hca2, … by GUID.
func (h *host) label() {
	slices.SortStableFunc(h.adapters, func(a, b *adapter) int {
		return cmp.Or(inventory.CompareNames(a.label, b.label), cmp.Compare(a.GUID, b.GUID))
	})
	used := map[string]bool{}
	for _, a := range h.adapters {
		if a.label == "" || used[a.portName()] {
			a.label, a.given = "", false
			continue
		}
		used[a.portName()] = true
	}
	n := 0
	for _, a := range h.adapters {
		for a.label == "" {
			n++
			if l := fmt.Sprintf("hca%d", n); !used[l] {
				a.label, used[l] = l, true
			}
		}
	}
}

// portName is what the first cabled port of an adapter is called. A report of
// ports has the two ports of one adapter as two adapters.
func (a *adapter) portName() string {
	for _, c := range a.cables {
		if e := c.end(a); e.hca == a {
			return e.portName()
		}
	}
	return a.label
}

// regroup moves adapters whose GUID the asset list has to the host of that node,
// and with them those that say that name themselves.
func (w *wiring) regroup(byGUID map[inventory.GUID]*node) {
	ofNode, byName := map[*node]*host{}, map[string]*host{}
	var keep []*host
	for _, h := range w.hosts {
		rest := h.adapters[:0:0]
		for _, a := range h.adapters {
			n := cmp.Or(byGUID[inventory.GUID(a.GUID)], byGUID[inventory.GUID(a.PortGUID)])
			if n == nil {
				rest = append(rest, a)
				continue
			}
			to := ofNode[n]
			if to == nil {
				to = &host{name: n.Hostname, named: true, node: n}
				ofNode[n], byName[shortName(n.Hostname)] = to, to
				keep = append(keep, to)
			}
			for _, label := range sortedKeys(n.GUIDs) {
				if g := uint64(n.GUIDs[label]); (g == a.GUID || g == a.PortGUID) && a.label != label {
					a.label, a.given = label, false
				}
			}
			a.host, to.adapters = to, append(to.adapters, a)
		}
		h.adapters = rest
	}
	for _, h := range w.hosts {
		to := byName[shortName(h.name)]
		switch {
		case len(h.adapters) == 0:
		case h.named && to != nil: // the list has only some of its GUIDs
			for _, a := range h.adapters {
				a.host, to.adapters = to, append(to.adapters, a)
			}
		default:
			keep = append(keep, h)
		}
	}
	w.hosts = keep
	for _, h := range ofNode {
		h.label()
	}
	w.sort()
}

// shortName is a host's name without its domain, in lower case.
func shortName(name string) string {
	short, _, _ := strings.Cut(strings.ToLower(name), ".")
	return short
}

// nameSwitches gives switches names that nothing else has.
func (w *wiring) nameSwitches(taken map[string]bool) {
	count := map[string]int{}
	for _, s := range w.switches {
		text := strings.TrimSpace(s.Description)
		if m := managed.FindStringSubmatch(text); m != nil {
			s.name = m[1]
		} else if !strings.ContainsAny(text, " \t") && inventory.IsHostName(text) {
			s.name = text
		}
		if nobody.MatchString(s.name) || !inventory.IsHostName(s.name) {
			s.name = ""
		}
		count[s.name]++
	}
	for _, s := range w.switches {
		if s.named = s.name != "" && count[s.name] == 1 && !taken[s.name]; !s.named {
			s.name = fmt.Sprintf("unnamed-switch-%016x", s.GUID)
		}
	}
}

// sort orders everything by name, and turns cables so that a is the lower end.
func (w *wiring) sort() {
	slices.SortStableFunc(w.switches, func(a, b *device) int {
		return cmp.Or(cmp.Compare(tier(a), tier(b)), inventory.CompareNames(a.name, b.name))
	})
	slices.SortStableFunc(w.hosts, func(a, b *host) int { return inventory.CompareNames(a.name, b.name) })
	low := func(e end) int {
		if e.hca != nil {
			return 0
		}
		return tier(e.sw)
	}
	byEnd := func(a, b end) int {
		return cmp.Or(cmp.Compare(low(a), low(b)), inventory.CompareNames(a.device(), b.device()),
			inventory.CompareNames(a.portName(), b.portName()))
	}
	for _, c := range w.cables {
		if byEnd(c.b, c.a) < 0 {
			c.a, c.b = c.b, c.a
		}
	}
	slices.SortStableFunc(w.cables, func(a, b *cable) int { return cmp.Or(byEnd(a.a, b.a), byEnd(a.b, b.b)) })
}

// tier is how far a switch is from the hosts; unknown ones come last.
func tier(s *device) int {
	if i := slices.Index(roles, s.role); i >= 0 {
		return i + 1
	}
	return len(roles) + 1
}

// check wants something to be there.
func (w *wiring) check() error {
	if len(w.switches)+len(w.hosts) == 0 {
		return fmt.Errorf("there is no switch and no host in the fabric")
	}
	return nil
}
