package inventory

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"time"

	"github.com/hashicorp/hcl/v2"
)

// build makes the Cluster from the decoded blocks and checks what only shows
// when they are seen together. With errors recorded the result is partial.
func (ev *evaluator) build() *Cluster {
	c := &Cluster{
		Dir: ev.abs, Name: filepath.Base(ev.abs), Settings: ev.settings(),
		Networks: map[string]*Network{}, Images: map[string]*Image{}, Hardware: map[string]*Hardware{},
		Acceptance: map[string]*Acceptance{}, Feeds: map[string]*Feed{}, Racks: map[string]*Rack{}, PDUs: map[string]*PDU{}, Fabrics: map[string]*Fabric{},
		SwitchModels: map[string]*SwitchModel{},
	}
	if in := ev.single("cluster"); in != nil {
		c.Name, c.Domain = in.name, get[string](in, "domain")
	}
	lab := ev.single("lab")
	for _, in := range ev.insts("credential") {
		in.obj = ev.credential(in)
	}
	for _, in := range ev.insts("network") {
		c.Networks[in.name] = ev.network(in, lab != nil)
	}
	for _, in := range ev.insts("image") {
		c.Images[in.name] = ev.image(in)
	}
	for _, in := range ev.insts("hardware") {
		c.Hardware[in.name] = hardware(in)
	}
	for _, in := range ev.insts("acceptance") {
		c.Acceptance[in.name] = acceptance(in)
	}
	for _, in := range ev.insts("feed") {
		f := &Feed{Name: in.name, PowerBudget: get[Power](in, "power_budget"), PowerOnBudget: get[Power](in, "power_on_budget"), Range: in.rng}
		in.obj, c.Feeds[in.name] = f, f
	}
	for _, in := range ev.insts("rack") {
		r := &Rack{Name: in.name, Height: get[int](in, "height"), PowerBudget: get[Power](in, "power_budget"), PowerOnBudget: get[Power](in, "power_on_budget"),
			Row: get[string](in, "row"), Position: get[int](in, "position"), Range: in.rng}
		for _, feed := range get[[]*inst](in, "feeds") {
			if f, ok := feed.obj.(*Feed); ok {
				r.Feeds = append(r.Feeds, f)
			}
		}
		in.obj, c.Racks[in.name] = r, r
	}
	for _, in := range ev.insts("pdu") {
		c.PDUs[in.name] = pdu(in)
	}
	for _, in := range ev.insts("node") {
		c.Nodes = append(c.Nodes, node(in))
	}
	sort.SliceStable(c.Nodes, func(i, j int) bool { return natural(c.Nodes[i].Name, c.Nodes[j].Name) < 0 })
	ev.buildFabrics(c)
	if lab != nil {
		c.Lab = buildLab(lab)
	}
	ev.check(c)
	c.Digest = ev.inputs.digest()
	return c
}

// insts are all instances of a top-level block type, in order of declaration.
func (ev *evaluator) insts(typ string) []*inst {
	var out []*inst
	for _, d := range ev.blocks[typ] {
		out = append(out, d.insts...)
	}
	return out
}

func (ev *evaluator) single(typ string) *inst {
	if all := ev.insts(typ); len(all) > 0 {
		return all[0]
	}
	return nil
}

// object is what was built from the block an attribute refers to, or nil.
func object[T any](in *inst, attr string) *T {
	if ref := get[*inst](in, attr); ref != nil {
		obj, _ := ref.obj.(*T)
		return obj
	}
	return nil
}

// defaultAttempts is how often a transition is tried.
const defaultAttempts = 3

// settings are the controller block's, with the schema's defaults where there is none.
func (ev *evaluator) settings() Settings {
	in := ev.single("controller")
	if in == nil {
		in = &inst{schema: topSchema("controller")}
		ev.decode(in, &hcl.BodyContent{})
	}
	ladder := get[[]string](in, "ladder")
	for i, rung := range ladder {
		if slices.Contains(ladder[:i], rung) {
			ev.errorAt(in.at("ladder"), in.each, "Rung named twice", "The ladder names %q twice: each is taken once.", rung)
			break
		}
	}
	if len(ladder) > 0 && ladder[0] != "once" && ladder[0] != "persistent" {
		ev.errorAt(in.at("ladder"), in.each, "Ladder without a first rung", "The ladder begins with %q: the first thing to try is \"once\" or \"persistent\".", ladder[0])
	}
	return Settings{
		Ladder: slices.Clone(ladder), BMCRestart: get[Duration](in, "bmc_restart").Duration, AttemptsDeclared: in.has("attempts"),
		Concurrency: get[int](in, "concurrency"), BMCConcurrency: get[int](in, "bmc_concurrency"),
		Attempts: cmp.Or(get[int](in, "attempts"), defaultAttempts), Backoff: get[Duration](in, "backoff").Duration,
		Deadlines: get[map[string]time.Duration](in, "deadlines"), PowerOnRate: get[float64](in, "power_on_rate"),
		PowerOnSettle: get[Duration](in, "power_on_settle").Duration, PowerMeasured: get[string](in, "power_basis") == "measured", HTTPPort: get[int](in, "http_port"),
	}
}

func (ev *evaluator) network(in *inst, lab bool) *Network {
	n := &Network{
		Name: in.name, CIDR: get[netip.Prefix](in, "cidr"), Gateway: get[netip.Addr](in, "gateway"),
		DHCP: get[string](in, "dhcp"), Interface: get[string](in, "interface"), Address: get[netip.Addr](in, "address"), Range: in.rng,
	}
	in.obj = n
	if d := n.DHCP; d != "" && d != "full" {
		ev.errorAt(in.at("dhcp"), in.each, "DHCP mode not available",
			"dhcp = %q is not available in this version, which serves \"full\" DHCP only. Leave dhcp out where another server answers.", d)
	}
	if !n.CIDR.IsValid() {
		return n
	}
	for _, attr := range []string{"gateway", "address"} {
		if a := get[netip.Addr](in, attr); a.IsValid() && !hostOf(n.CIDR, a) {
			ev.errorAt(in.at(attr), in.each, "Address outside its network", "%s %s is not a host address of network %q, which is %s.", attr, a, in.name, n.CIDR)
		}
	}
	if !n.Address.IsValid() && (n.Interface != "" || n.DHCP != "") {
		n.Address = n.CIDR.Addr().Next()
		if lab && n.Gateway.IsValid() {
			n.Address = n.Gateway
		} else if n.Address == n.Gateway {
			n.Address = n.Address.Next()
		}
	}
	return n
}

// hostOf reports whether a is in p and is neither its first nor its last address.
func hostOf(p netip.Prefix, a netip.Addr) bool {
	return p.Contains(a) && a != p.Masked().Addr() && p.Contains(a.Next())
}

var digestRE = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

func (ev *evaluator) image(in *inst) *Image {
	i := &Image{Name: in.name, Source: get[string](in, "source"), Method: get[string](in, "method"), Digest: get[string](in, "digest"), Range: in.rng, DigestRange: in.at("digest")}
	in.obj = i
	if i.Method == "disk" {
		ev.errorAt(in.at("method"), in.each, "Image method not available", "Disk installation is not available in this version: use method = \"netboot\".")
	}
	if i.Digest != "" && !digestRE.MatchString(i.Digest) {
		ev.errorAt(in.at("digest"), in.each, "Bad digest", "digest: %q is not a digest: write \"sha256:\" and 64 hexadecimal digits in lower case.", i.Digest)
	}
	if i.Source != "" {
		if _, err := os.Stat(i.Source); err != nil {
			ev.errorAt(in.at("source"), in.each, "No such image", "The source of image %q does not exist: %s.", in.name, i.Source)
		}
	}
	return i
}

func hardware(in *inst) *Hardware {
	h := &Hardware{Name: in.name, Vendor: get[string](in, "vendor"), Product: get[string](in, "product"),
		Units: get[int](in, "units"), Power: get[Power](in, "power"), Range: in.rng}
	in.obj = h
	if b := in.one("cpu"); b != nil {
		h.CPU = &CPU{Sockets: get[int](b, "sockets"), Cores: get[int](b, "cores"), Range: b.rng}
	}
	if b := in.one("memory"); b != nil {
		h.Memory = &Memory{Total: get[Size](b, "total"), DIMMs: get[int](b, "dimms"), Range: b.rng}
	}
	if b := in.one("gpu"); b != nil {
		h.GPU = &GPU{Model: get[string](b, "model"), PCIID: get[string](b, "pci_id"), Count: get[int](b, "count"),
			Memory: get[Size](b, "memory"), NVLinks: get[int](b, "nvlinks"), Range: b.rng}
	}
	for _, b := range in.all("hca") {
		h.HCAs = append(h.HCAs, HCA{Name: b.name, Rail: get[int](b, "rail"), Rate: get[LinkRate](b, "rate"), NearGPU: get[int](b, "near_gpu"),
			Device: cmp.Or(get[string](b, "device"), b.name), PCI: get[string](b, "pci"), Range: b.rng})
	}
	for _, b := range in.all("disk") {
		h.Disks = append(h.Disks, Disk{Name: b.name, Count: get[int](b, "count"), Size: get[Size](b, "size"), Transport: get[string](b, "transport"), Range: b.rng})
	}
	return h
}

func acceptance(in *inst) *Acceptance {
	a := &Acceptance{Name: in.name, Range: in.rng}
	in.obj = a
	if b := in.one("node"); b != nil {
		a.Node = &NodeStage{GEMM: get[Duration](b, "gemm"), HBMSweep: get[bool](b, "hbm_sweep")}
	}
	if b := in.one("rack"); b != nil {
		a.Rack = &RackStage{Soak: get[Duration](b, "soak")}
	}
	if b := in.one("fabric"); b != nil {
		a.Fabric = &FabricStage{Pairwise: get[bool](b, "pairwise"), MinBandwidth: get[Bandwidth](b, "min_bandwidth"), Window: get[Duration](b, "window")}
	}
	return a
}

func node(in *inst) *Node {
	n := &Node{
		Name: in.name, Rack: object[Rack](in, "rack"), Unit: get[int](in, "unit"), Serial: get[string](in, "serial"),
		Hardware: object[Hardware](in, "hardware"), Image: object[Image](in, "image"), Acceptance: object[Acceptance](in, "acceptance"), Range: in.rng,
	}
	if b := in.one("bmc"); b != nil {
		n.BMC = &BMC{Address: get[netip.Addr](b, "address"), Port: bmcPort(b, get[string](b, "protocol")), Protocol: get[string](b, "protocol"),
			Credential: object[Credential](b, "credential"), Range: b.rng}
		if o := otherBMC(b); o != nil {
			n.BMC.Other = &BMC{Address: bmcAddress(b, o), Port: bmcPort(o, o.schema.name), Protocol: o.schema.name,
				Credential: cmp.Or(object[Credential](o, "credential"), n.BMC.Credential), Range: o.rng}
		}
	}
	for _, b := range in.all("nic") {
		n.NICs = append(n.NICs, NIC{Name: b.name, MAC: get[net.HardwareAddr](b, "mac"), Network: object[Network](b, "network"),
			Address: get[netip.Addr](b, "address"), Range: b.rng})
	}
	for _, b := range in.all("hca") {
		n.HCAs = append(n.HCAs, NodeHCA{Name: b.name, GUID: get[GUID](b, "guid"), Range: b.rng})
	}
	n.Outlets = outlets(in)
	return n
}

// otherBMC is the block that declares a BMC by the other protocol, or nil.
func otherBMC(b *inst) *inst {
	if get[string](b, "protocol") == "redfish" {
		return b.one("ipmi")
	}
	return b.one("redfish")
}

// bmcAddress is where a BMC answers by its other protocol.
func bmcAddress(b, other *inst) netip.Addr {
	if a := get[netip.Addr](other, "address"); a.IsValid() {
		return a
	}
	return get[netip.Addr](b, "address")
}

// bmcPort is the declared port, or the protocol's own.
func bmcPort(b *inst, protocol string) int {
	if p := get[int](b, "port"); p != 0 {
		return p
	}
	return BMCPort(protocol)
}

func buildLab(in *inst) *Lab {
	l := &Lab{Name: in.name, CPUs: get[int](in, "cpus"), Memory: get[Size](in, "memory"), Machines: map[string]*Machine{}, Range: in.rng}
	for _, b := range in.all("machine") {
		m := &Machine{Node: b.name, Serial: get[string](b, "serial"), MAC: get[net.HardwareAddr](b, "mac"), Memory: get[Size](b, "memory"),
			BMCPassword: Secret(get[string](b, "bmc_password")), Faults: slices.Clone(get[[]string](b, "faults")), GPUFault: get[string](b, "gpu_fault"), Range: b.rng}
		if b.has("disks") {
			disks := get[int](b, "disks")
			m.Disks = &disks
		}
		l.Machines[b.name] = m
	}
	return l
}

// label is how messages name a block: node "hnode001".
func (in *inst) label() string { return fmt.Sprintf("%s %q", in.schema.name, in.name) }
