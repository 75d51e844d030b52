package provision

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"firstlight/inventory"
	"firstlight/provision/acceptance"
	"firstlight/provision/agent/api"
)

// matcher gathers checks of one inspection against one declaration.
type matcher struct {
	node   *inventory.Node
	found  *api.Inspection
	checks []acceptance.Check
}

// Match holds what the agent found against what is declared: one check per
// declared value, and one that the firmware booted by UEFI, as its BMC was told.
// What else is not declared is not checked.
func Match(n *inventory.Node, found *api.Inspection) []acceptance.Check {
	m := &matcher{node: n, found: found}
	m.identity()
	if h := n.Hardware; h != nil {
		m.processors(h)
		m.memory(h)
		m.disks(h)
		m.gpus(h)
		m.hcas(h)
	}
	m.nics()
	return m.checks
}

// add records a comparison; part says what to look at when it fails.
func (m *matcher) add(name, part, found, declared, source string, ok bool) {
	v := acceptance.Pass
	if !ok {
		v = acceptance.Fail
		if found == "" || found == "0" {
			if why := m.found.Errors[strings.SplitN(name, ".", 2)[0]]; why != "" {
				v, found = acceptance.NotRun, "could not be read: "+why
			}
		}
	}
	if found == "" {
		found = "none"
	}
	m.checks = append(m.checks, acceptance.Check{Name: name, Verdict: v, Reading: found, Threshold: declared, Source: source, Part: part})
}

func (m *matcher) text(name, part, found, declared, source string) {
	if declared != "" {
		m.add(name, part, found, declared, source, strings.EqualFold(strings.TrimSpace(found), declared))
	}
}

func (m *matcher) count(name, part string, found, declared int, source string) {
	if declared != 0 {
		m.add(name, part, fmt.Sprint(found), fmt.Sprint(declared), source, found == declared)
	}
}

func (m *matcher) identity() {
	sys, n := m.found.System, m.node
	m.text("system.serial", "chassis", sys.Serial, n.Serial, where(n.Range))
	if h := n.Hardware; h != nil {
		m.text("system.vendor", "chassis", sys.Vendor, h.Vendor, where(h.Range))
		m.text("system.product", "chassis", sys.Product, h.Product, where(h.Range))
	}
	m.text("boot.mode", "firmware setup", m.found.BootMode, "uefi", "the boot override asks for UEFI")
}

func (m *matcher) processors(h *inventory.Hardware) {
	if h.CPU == nil {
		return
	}
	src := where(h.CPU.Range)
	m.count("cpu.sockets", "CPU", m.found.CPU.Sockets, h.CPU.Sockets, src)
	m.count("cpu.cores", "CPU", m.found.CPU.Cores, h.CPU.Cores, src)
}

func (m *matcher) memory(h *inventory.Hardware) {
	if h.Memory == nil {
		return
	}
	src, mem := where(h.Memory.Range), m.found.Memory
	m.count("memory.dimms", m.dimmPart(h.Memory.DIMMs), len(mem.DIMMs), h.Memory.DIMMs, src)
	if h.Memory.Total.Bytes != 0 {
		got := mem.Installed()
		m.add("memory.total", "DIMMs", sizeIn(got, h.Memory.Total), h.Memory.Total.Text, src, got == h.Memory.Total.Bytes)
	}
}

// dimmPart names the slots that answered, so that the missing one is found by
// elimination.
func (m *matcher) dimmPart(want int) string {
	mem := m.found.Memory
	if len(mem.DIMMs) >= want || len(mem.DIMMs) == 0 {
		return "DIMMs"
	}
	var have []string
	for _, d := range mem.DIMMs {
		have = append(have, d.Locator)
	}
	return fmt.Sprintf("DIMM missing or failed; %d of %d slots populated: %s", len(mem.DIMMs), max(mem.Slots, len(mem.DIMMs)), strings.Join(have, ", "))
}

// disks assigns found disks to declared groups by transport and size. A disk
// counts for a group when its size is within 1 % of the declared: vendors
// round.
func (m *matcher) disks(h *inventory.Hardware) {
	used := map[string]bool{}
	for _, g := range h.Disks {
		var names []string
		for _, d := range m.found.Disks {
			if used[d.Name] || len(names) == g.Count && g.Count > 0 {
				continue
			}
			if g.Transport != "" && !strings.EqualFold(d.Transport, g.Transport) || !near(d.Size, g.Size.Bytes, 0.01) {
				continue
			}
			used[d.Name] = true
			names = append(names, d.Name)
		}
		want := strings.TrimSpace(fmt.Sprintf("%d x %s %s", max(g.Count, 1), g.Size, g.Transport))
		found := fmt.Sprintf("%d", len(names))
		if len(names) > 0 {
			found += " (" + strings.Join(names, ", ") + ")"
		}
		part := "disk " + g.Name
		if len(names) < max(g.Count, 1) {
			part += "; the node has " + m.diskList()
		}
		m.add("disks."+g.Name, part, found, want, where(g.Range), len(names) == max(g.Count, 1))
	}
}

func (m *matcher) diskList() string {
	var have []string
	for _, d := range m.found.Disks {
		have = append(have, fmt.Sprintf("%s %s %.4g GB", d.Name, d.Transport, float64(d.Size)/1e9))
	}
	if have == nil {
		return "no disk"
	}
	return strings.Join(have, ", ")
}

func (m *matcher) gpus(h *inventory.Hardware) {
	g := h.GPU
	if g == nil {
		return
	}
	id := g.PCIID
	var at []string
	for _, d := range m.found.GPUs {
		if id == "" || strings.EqualFold(d.ID, id) {
			at = append(at, strings.TrimPrefix(d.Address, "0000:"))
		}
	}
	part := "GPU"
	if len(at) > 0 {
		part = "GPUs at " + strings.Join(at, ", ")
	}
	m.add("gpu.count", part, fmt.Sprint(len(at)), strings.TrimSpace(fmt.Sprintf("%d %s", g.Count, id)), where(g.Range), len(at) == g.Count)
}

func (m *matcher) hcas(h *inventory.Hardware) {
	if len(h.HCAs) == 0 {
		return
	}
	devices := map[string]api.RDMADevice{}
	for _, d := range m.found.RDMA {
		devices[d.Name] = d
	}
	guids := map[string]inventory.NodeHCA{}
	for _, g := range m.node.HCAs {
		guids[g.Name] = g
	}
	for _, c := range h.HCAs {
		found, got := "absent", api.RDMADevice{}
		for _, name := range []string{device(c), "mlx5_" + device(c)} {
			if d, ok := devices[name]; ok {
				found, got = name, d
			}
		}
		part := fmt.Sprintf("HCA %s (rail %d)", c.Name, c.Rail)
		m.add("rdma."+c.Name, part, found, device(c), where(c.Range), got.Name != "")
		if got.Name == "" {
			continue
		}
		m.text("rdma."+c.Name+".pci", part, got.PCI, c.PCI, where(c.Range))
		if g, ok := guids[c.Name]; ok {
			found := got.NodeGUID
			if found != "" { // sysfs prints it in groups of four: "a088:c203:00ab:1234"
				found = "0x" + strings.ReplaceAll(found, ":", "")
			}
			m.text("rdma."+c.Name+".guid", part, found, g.GUID.String(), where(g.Range))
		}
	}
}

func (m *matcher) nics() {
	have := map[string]api.NIC{}
	var all []string
	for _, nic := range m.found.NICs {
		have[strings.ToLower(nic.MAC)] = nic
		all = append(all, nic.Name+" "+nic.MAC)
	}
	for _, nic := range m.node.NICs {
		mac := nic.MAC.String()
		got, ok := have[mac]
		reading := got.Name
		if !ok {
			reading = "not among " + strings.Join(all, ", ")
		}
		m.add("nics."+nic.Name, "NIC "+nic.Name+" "+mac, reading, mac, where(nic.Range), ok)
	}
}

func near(got, want uint64, share float64) bool {
	return want == 0 || math.Abs(float64(got)-float64(want)) <= share*float64(want)
}

// sizeIn prints bytes in the unit the declaration uses.
func sizeIn(n uint64, like inventory.Size) string {
	if like.Bytes == 0 {
		return fmt.Sprintf("%d B", n)
	}
	unit := strings.TrimLeft(like.Text, "0123456789. ")
	var value float64
	if _, err := fmt.Sscanf(like.Text, "%g", &value); err != nil || value == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.6g%s", float64(n)/(float64(like.Bytes)/value), unit)
}

// unmeasured are the declared values of GPUs that the node's agent did not
// read, as one of an older version does not: without their reading the node is
// not validated.
func unmeasured(n *inventory.Node, read []api.Check) []acceptance.Check {
	if n.Hardware == nil || n.Hardware.GPU == nil {
		return nil
	}
	has := func(name string) bool {
		return slices.ContainsFunc(read, func(c api.Check) bool { return c.Name == name })
	}
	if has("gpu.driver") {
		return nil // each value that is declared has a check, passed or not
	}
	var out []acceptance.Check
	g := n.Hardware.GPU
	values := map[string]string{"gpu.count": fmt.Sprint(g.Count), "gpu.memory": g.Memory.Text, "gpu.nvlink.count": fmt.Sprint(g.NVLinks)}
	if g.PCIID == "" {
		values["gpu.model"] = g.Model
	}
	for name, declared := range values {
		if declared != "" && declared != "0" {
			out = append(out, acceptance.Check{Name: name, Verdict: acceptance.NotRun, Part: "GPUs",
				Reading: "the agent on the node did not read its GPUs", Threshold: declared, Source: where(g.Range)})
		}
	}
	slices.SortFunc(out, func(a, b acceptance.Check) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// failures names the checks that are not passed, worst first, for a reason.
func failures(checks []acceptance.Check) string {
	var bad []string
	for _, want := range []acceptance.Verdict{acceptance.Fail, acceptance.NotRun} {
		for _, c := range checks {
			if c.Verdict != want {
				continue
			}
			if want == acceptance.NotRun {
				bad = append(bad, fmt.Sprintf("%s not run: %s", c.Name, c.Reading))
				continue
			}
			bad = append(bad, fmt.Sprintf("%s: found %s, declared %s (%s), look at %s", c.Name, c.Reading, c.Threshold, c.Source, c.Part))
		}
	}
	return strings.Join(bad, "; ")
}
