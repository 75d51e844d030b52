package inventory

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"

	"github.com/hashicorp/hcl/v2"
)

// claims finds two declarations of one thing that exists once: a MAC address,
// a serial number, a rack unit.
type claims struct {
	ev   *evaluator
	what string // "MAC address"
	by   map[string]claim
}

type claim struct {
	owner string // `node "b"`
	at    string // "assets.csv:18", "nodes.hcl:12"
}

func (ev *evaluator) claims(what string) *claims {
	return &claims{ev: ev, what: what, by: map[string]claim{}}
}

// take claims key, shown as text, for an owner; a second claim is a mistake.
func (c *claims) take(key, text, owner string, in *inst, attr string) {
	place := c.ev.origin(in, attr)
	if old, taken := c.by[key]; taken {
		c.ev.errorAt(in.at(attr), in.each, "Duplicate "+c.what, "%s %s of %s is also declared at %s (%s).", capital(c.what), text, owner, old.at, old.owner)
		return
	}
	c.by[key] = claim{owner: owner, at: place}
}

// hostName is what DNS, DHCP option 12 and a host list can all carry.
var hostName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,61}[A-Za-z0-9])?$`)

// check looks for what only shows across blocks.
func (ev *evaluator) check() {
	ev.checkNetworks()
	c := &nodeChecks{
		ev: ev, macs: ev.claims("MAC address"), serials: ev.claims("serial number"), addrs: ev.claims("address"),
		bmcs: ev.claims("BMC address"), units: ev.claims("rack unit"), networks: ev.sortedNetworks(),
	}
	for _, in := range ev.insts("node") {
		c.node(in)
	}
	for _, in := range ev.insts("node") {
		c.bmc(in)
	}
	ev.checkLab()
	ev.checkCables()
}

// sortedNetworks are the networks that parsed, by address.
func (ev *evaluator) sortedNetworks() []*inst {
	var nets []*inst
	for _, in := range ev.insts("network") {
		if in.has("cidr") && in.obj != nil {
			nets = append(nets, in)
		}
	}
	slices.SortStableFunc(nets, func(a, b *inst) int {
		p, q := get[netip.Prefix](a, "cidr"), get[netip.Prefix](b, "cidr")
		return cmp.Or(p.Addr().Compare(q.Addr()), cmp.Compare(p.Bits(), q.Bits()))
	})
	return nets
}

// checkNetworks warns of networks that share addresses: nothing could be
// routed between them.
func (ev *evaluator) checkNetworks() {
	var last *inst // the network that reaches furthest so far
	for _, in := range ev.sortedNetworks() {
		p := get[netip.Prefix](in, "cidr")
		if last == nil || !get[netip.Prefix](last, "cidr").Overlaps(p) {
			last = in
			continue
		}
		ev.add(hcl.DiagWarning, in.at("cidr"), in.each, "Networks overlap", fmt.Sprintf("%s (%s) overlaps %s (%s), declared at %s.",
			in.label(), p, last.label(), get[netip.Prefix](last, "cidr"), ev.place(last.at("cidr"))))
	}
}

// nodeChecks holds what nodes claim.
type nodeChecks struct {
	ev                                *evaluator
	macs, serials, addrs, bmcs, units *claims
	networks                          []*inst
}

func (c *nodeChecks) node(in *inst) {
	if !hostName.MatchString(in.name) {
		c.ev.errorAt(in.at("name"), in.each, "Bad node name", "%q is not a host name: use letters, digits, - and dots, at most 63 characters.", in.name)
	}
	if s := get[string](in, "serial"); s != "" {
		c.serials.take(s, s, in.label(), in, "serial")
	}
	c.place(in)
	for _, nic := range in.all("nic") {
		c.nic(in, nic)
	}
	c.boot(in)
}

// place checks where the node stands.
func (c *nodeChecks) place(in *inst) {
	rack, unit := object[Rack](in, "rack"), get[int](in, "unit")
	if rack == nil || unit == 0 {
		return
	}
	if rack.Height > 0 && unit > rack.Height {
		c.ev.errorAt(in.at("unit"), in.each, "Unit outside the rack", "Unit %d of %s is above the top of rack %q, which has %d units.", unit, in.label(), rack.Name, rack.Height)
		return
	}
	c.units.take(fmt.Sprintf("%s/%d", rack.Name, unit), fmt.Sprintf("%d in rack %q", unit, rack.Name), in.label(), in, "unit")
}

func (c *nodeChecks) nic(in, nic *inst) {
	owner := fmt.Sprintf("%s nic %q", in.label(), nic.name)
	if mac := get[net.HardwareAddr](nic, "mac"); mac != nil {
		c.macs.take(mac.String(), mac.String(), owner, nic, "mac")
	}
	addr, network := get[netip.Addr](nic, "address"), object[Network](nic, "network")
	if !addr.IsValid() {
		return
	}
	if network == nil || !network.CIDR.IsValid() {
		c.addrs.take(addr.String(), addr.String(), owner, nic, "address")
		return
	}
	where := fmt.Sprintf("network %q (%s, declared at %s)", network.Name, network.CIDR, c.ev.place(network.Range))
	switch {
	case !hostOf(network.CIDR, addr):
		c.ev.errorAt(nic.at("address"), in.each, "Address outside its network", "Address %s of %s is not a host address of %s.", addr, owner, where)
	case addr == network.Gateway:
		c.ev.errorAt(nic.at("address"), in.each, "Address in use", "Address %s of %s is the gateway of %s.", addr, owner, where)
	case addr == network.Address:
		c.ev.errorAt(nic.at("address"), in.each, "Address in use", "Address %s of %s is the controller's own on %s: set the network's address to another.", addr, owner, where)
	default:
		c.addrs.take(addr.String(), addr.String(), owner, nic, "address")
	}
}

// boot checks that the boot NIC can be answered.
func (c *nodeChecks) boot(in *inst) {
	nics := in.all("nic")
	if len(nics) == 0 {
		return
	}
	nic := nics[0]
	for _, n := range nics {
		if n.name == "boot" {
			nic = n
		}
	}
	network := object[Network](nic, "network")
	_, wrong := nic.vals["network"]
	switch {
	case network == nil && wrong:
	case network == nil:
		c.ev.add(hcl.DiagWarning, nic.rng, in.each, "Boot NIC without a network", "Without a network firstlight's DHCP does not answer this NIC, so the node cannot network-boot from it.")
	case network.DHCP == "":
		c.ev.add(hcl.DiagWarning, nic.at("network"), in.each, "No DHCP for the boot NIC",
			fmt.Sprintf("Network %q (declared at %s) has no dhcp = \"full\", so firstlight does not answer this NIC and the node cannot network-boot from it.", network.Name, c.ev.place(network.Range)))
	default:
		if v, there := nic.vals["address"]; !there || v.cty.IsNull() {
			c.ev.errorAt(nic.rng, in.each, "Boot NIC without an address", "firstlight's DHCP on network %q answers by reservation: give the boot NIC an address.", network.Name)
		}
	}
}

// bmc checks BMC addresses against one another and against all others.
func (c *nodeChecks) bmc(in *inst) {
	b := in.one("bmc")
	if b == nil {
		return
	}
	addr := get[netip.Addr](b, "address")
	if !addr.IsValid() {
		return
	}
	owner := "the BMC of " + in.label()
	if old, taken := c.addrs.by[addr.String()]; taken {
		c.ev.errorAt(b.at("address"), in.each, "Duplicate address", "Address %s of %s is also declared at %s (%s).", addr, owner, old.at, old.owner)
		return
	}
	for _, n := range c.networks {
		network, _ := n.obj.(*Network)
		if network == nil || !network.CIDR.Contains(addr) {
			continue
		}
		where := fmt.Sprintf("network %q (%s, declared at %s)", network.Name, network.CIDR, c.ev.place(network.Range))
		what := ""
		switch {
		case !hostOf(network.CIDR, addr):
			what = "not a host address of"
		case addr == network.Gateway:
			what = "the gateway of"
		case addr == network.Address:
			what = "the controller's own on"
		default:
			continue
		}
		c.ev.errorAt(b.at("address"), in.each, "Address in use", "Address %s of %s is %s %s.", addr, owner, what, where)
		return
	}
	c.bmcs.take(netip.AddrPortFrom(addr, uint16(bmcPort(b))).String(), addr.String(), in.label(), b, "address")
}

func (ev *evaluator) checkLab() {
	lab := ev.single("lab")
	if lab == nil {
		return
	}
	for _, m := range lab.all("machine") {
		if ev.named["node"][m.name] == nil {
			names := keys(ev.named["node"])
			ev.errorAt(m.rng, nil, "Unknown node", "The lab's machine %q is no declared node%s", m.name, didYouMean(m.name, names))
		}
	}
}

// strayPort is a port name in the cables that the hardware does not declare.
type strayPort struct {
	first Cable
	hw    *Hardware
	port  string
	nodes []string
}

// checkCables finds ports cabled twice and ports that declared nodes do not have.
func (ev *evaluator) checkCables() {
	for _, in := range ev.insts("fabric") {
		ports := map[[2]string]Cable{}
		var strays []*strayPort
		for _, c := range get[[]Cable](in, "cables") {
			ends := [2][2]string{{c.ADevice, c.APort}, {c.BDevice, c.BPort}}
			if ends[0] == ends[1] {
				ev.errorAt(c.Range, in.each, "Bad cable", "Both ends of this cable are %s port %s.", c.ADevice, c.APort)
				continue
			}
			for _, end := range ends {
				if old, taken := ports[end]; taken {
					ev.errorAt(c.Range, in.each, "Port cabled twice", "%s port %s is also declared at %s.", end[0], end[1], ev.place(old.Range))
					continue
				}
				ports[end] = c
				strays = ev.checkPort(strays, c, end)
			}
		}
		for _, s := range strays {
			names := make([]string, len(s.hw.HCAs))
			for i, h := range s.hw.HCAs {
				names[i] = h.Name
			}
			ev.add(hcl.DiagWarning, s.first.Range, in.each, "Undeclared port", fmt.Sprintf("%s of %s has a cable, but hardware %q declares no hca of that name: %s%s",
				s.port, Fold(s.nodes), s.hw.Name, listed(names), didYouMean(s.port, names)))
		}
	}
}

// checkPort notes the end of a cable at a declared node whose hardware has
// HCAs, but not this one. What is not declared is not checked, so it is no error.
func (ev *evaluator) checkPort(strays []*strayPort, c Cable, end [2]string) []*strayPort {
	n := ev.named["node"][end[0]]
	if n == nil {
		return strays
	}
	hw := object[Hardware](n, "hardware")
	if hw == nil || len(hw.HCAs) == 0 || slices.ContainsFunc(hw.HCAs, func(h HCA) bool { return h.Name == end[1] }) {
		return strays
	}
	for _, s := range strays {
		if s.hw == hw && s.port == end[1] {
			s.nodes = append(s.nodes, end[0])
			return strays
		}
	}
	if len(strays) >= 100 {
		return strays // a name of its own for every port: enough has been said
	}
	return append(strays, &strayPort{first: c, hw: hw, port: end[1], nodes: []string{end[0]}})
}
