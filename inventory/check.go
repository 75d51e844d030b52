package inventory

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
)

// claims finds two declarations of one thing that exists once: a MAC address,
// a serial number, a rack unit.
type claims[K comparable] struct {
	ev   *evaluator
	what string // "MAC address"
	by   map[K]claim
}

// claim is who declared a thing: an attribute of a top-level block, or of a
// block nested in it.
type claim struct {
	in, sub *inst // sub is nil for none
	attr    string
}

func (c claim) inst() *inst {
	if c.sub != nil {
		return c.sub
	}
	return c.in
}

// owner names it: `node "b" nic "boot"`.
func (c claim) owner() string {
	switch {
	case c.sub == nil:
		return c.in.label()
	case c.sub.schema.name == "outlet":
		return c.in.label()
	case c.sub.schema.name == "redfish" || c.sub.schema.name == "ipmi":
		return "the BMC of " + c.in.label()
	case c.sub.name == "":
		return "the " + strings.ToUpper(c.sub.schema.name) + " of " + c.in.label()
	}
	return c.in.label() + " " + c.sub.label()
}

func newClaims[K comparable](ev *evaluator, what string) *claims[K] {
	return &claims[K]{ev: ev, what: what, by: map[K]claim{}}
}

// take claims key, shown as text; a second claim is a mistake.
func (c *claims[K]) take(key K, text any, by claim) {
	if old, taken := c.by[key]; taken {
		c.conflict(text, by, old)
		return
	}
	c.by[key] = by
}

func (c *claims[K]) conflict(text any, by, old claim) {
	in := by.inst()
	c.ev.errorAt(in.at(by.attr), in.each, "Duplicate "+c.what, "%s %s of %s is also declared at %s (%s).",
		capital(c.what), fmt.Sprint(text), by.owner(), c.ev.origin(old.inst(), old.attr), old.owner())
}

// hostName is what DNS, DHCP option 12 and a host list can all carry.
var hostName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,61}[A-Za-z0-9])?$`)

// check looks for what only shows across blocks.
func (ev *evaluator) check(c *Cluster) {
	ev.checkNetworks()
	n := &nodeChecks{
		ev: ev, macs: newClaims[[6]byte](ev, "MAC address"), serials: newClaims[string](ev, "serial number"),
		addrs: newClaims[netip.Addr](ev, "address"), bmcs: newClaims[netip.AddrPort](ev, "address"),
		guids: newClaims[GUID](ev, "GUID"), sockets: newClaims[string](ev, "outlet"), networks: ev.sortedNetworks(),
	}
	for _, in := range ev.insts("node") {
		n.node(in)
	}
	for _, in := range ev.insts("node") {
		n.bmc(in)
	}
	for _, in := range ev.insts("pdu") {
		n.pdu(in)
	}
	for _, in := range ev.insts("node") {
		n.outlets(in)
	}
	n.strayBMCs()
	for _, in := range ev.insts("switch") {
		n.deviceSwitch(in)
	}
	for _, in := range ev.insts("hardware") {
		ev.checkHardware(in)
	}
	ev.checkAcceptance(c)
	ev.checkRacks(c)
	ev.checkLab()
	ev.checkCables(c)
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

// nodeChecks holds what nodes and switches claim.
type nodeChecks struct {
	ev       *evaluator
	macs     *claims[[6]byte]
	serials  *claims[string]
	addrs    *claims[netip.Addr]
	bmcs     *claims[netip.AddrPort]
	guids    *claims[GUID]
	sockets  *claims[string] // outlets of PDUs
	networks []*inst
	inside   int     // BMCs with an address in a declared network
	outside  []claim // BMCs that have none
}

func (c *nodeChecks) node(in *inst) {
	if !hostName.MatchString(in.name) {
		c.ev.errorAt(in.at("name"), in.each, "Bad node name", "%q is not a host name: use letters, digits, - and dots, at most 63 characters.", in.name)
	}
	if s := get[string](in, "serial"); s != "" {
		c.serials.take(s, s, claim{in: in, attr: "serial"})
	}
	for _, nic := range in.all("nic") {
		c.nic(in, nic)
	}
	hw := object[Hardware](in, "hardware")
	for _, h := range in.all("hca") {
		if g := get[GUID](h, "guid"); g != 0 {
			c.guids.take(g, g, claim{in, h, "guid"})
		}
		if hw != nil && !slices.ContainsFunc(hw.HCAs, func(d HCA) bool { return d.Name == h.name }) {
			names := hcaNames(hw)
			c.ev.errorAt(h.rng, in.each, "Undeclared adapter", "%s has an hca %q, and its hardware %q declares none of that name: %s%s",
				capital(in.label()), h.name, hw.Name, listed(names), didYouMean(h.name, names))
		}
	}
	c.boot(in)
}

func hcaNames(hw *Hardware) []string {
	names := make([]string, len(hw.HCAs))
	for i, h := range hw.HCAs {
		names[i] = h.Name
	}
	return names
}

// deviceSwitch checks a declared switch.
func (c *nodeChecks) deviceSwitch(in *inst) {
	if !hostName.MatchString(in.name) {
		c.ev.errorAt(in.at("name"), in.each, "Bad switch name", "%q is not a host name: use letters, digits, - and dots, at most 63 characters.", in.name)
	}
	if n := c.ev.named["node"][in.name]; n != nil {
		c.ev.errorAt(in.at("name"), in.each, "Duplicate name", "Switch %q has the name of a node, declared at %s: cables could not tell them apart.", in.name, c.ev.origin(n, "name"))
	}
	if g := get[GUID](in, "guid"); g != 0 {
		c.guids.take(g, g, claim{in: in, attr: "guid"})
	}
}

func (c *nodeChecks) nic(in, nic *inst) {
	by := claim{in, nic, "mac"}
	if mac := get[net.HardwareAddr](nic, "mac"); mac != nil {
		c.macs.take([6]byte(mac), mac, by)
	}
	by.attr = "address"
	addr, network := get[netip.Addr](nic, "address"), object[Network](nic, "network")
	if !addr.IsValid() {
		return
	}
	if network == nil || !network.CIDR.IsValid() {
		c.addrs.take(addr, addr, by)
		return
	}
	where := func() string {
		return fmt.Sprintf("network %q (%s, declared at %s)", network.Name, network.CIDR, c.ev.place(network.Range))
	}
	switch {
	case !hostOf(network.CIDR, addr):
		c.ev.errorAt(nic.at("address"), in.each, "Address outside its network", "Address %s of %s is not a host address of %s.", addr, by.owner(), where())
	case addr == network.Gateway:
		c.ev.errorAt(nic.at("address"), in.each, "Address in use", "Address %s of %s is the gateway of %s.", addr, by.owner(), where())
	case addr == network.Address:
		c.ev.errorAt(nic.at("address"), in.each, "Address in use", "Address %s of %s is the controller's own on %s: set the network's address to another.", addr, by.owner(), where())
	default:
		c.addrs.take(addr, addr, by)
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
	wrong := nic.val("network").there
	switch {
	case network == nil && wrong:
	case network == nil:
		c.ev.add(hcl.DiagWarning, nic.rng, in.each, "Boot NIC without a network", "Without a network firstlight's DHCP does not answer this NIC, so the node cannot network-boot from it.")
	case network.DHCP == "":
		c.ev.add(hcl.DiagWarning, nic.at("network"), in.each, "No DHCP for the boot NIC",
			fmt.Sprintf("Network %q (declared at %s) has no dhcp = \"full\", so firstlight does not answer this NIC and the node cannot network-boot from it.", network.Name, c.ev.place(network.Range)))
	default:
		if v := nic.val("address"); !v.there || v.cty.IsNull() {
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
	if p := get[string](b, "protocol"); p != "" && b.one(p) != nil {
		c.ev.errorAt(b.one(p).rng, in.each, "Protocol declared twice", "The BMC of %s has protocol = %q already: a %s block in it is for a controller that answers another protocol as well.", in.label(), p, p)
		return
	}
	first := netip.AddrPortFrom(get[netip.Addr](b, "address"), uint16(bmcPort(b, get[string](b, "protocol"))))
	if first.IsValid() && !c.bmcAddress(claim{in, b, "address"}, first.Addr()) {
		return
	}
	if first.IsValid() {
		c.bmcs.take(first, first.Addr(), claim{in, b, "address"})
	}
	o := otherBMC(b)
	if o == nil {
		return
	}
	at := netip.AddrPortFrom(bmcAddress(b, o), uint16(bmcPort(o, o.schema.name)))
	by := claim{in, o, "address"}
	if !at.IsValid() || at.Addr() != first.Addr() && !c.bmcAddress(by, at.Addr()) {
		return
	}
	if at != first { // the one is UDP's, the other TCP's
		c.bmcs.take(at, at.Addr(), by)
	}
}

// bmcAddress checks where a BMC is; false: there is a mistake.
func (c *nodeChecks) bmcAddress(by claim, addr netip.Addr) bool {
	if old, taken := c.addrs.by[addr]; taken {
		c.addrs.conflict(addr, by, old)
		return false
	}
	found := false
	for _, n := range c.networks {
		network, _ := n.obj.(*Network)
		if network == nil || !network.CIDR.Contains(addr) {
			continue
		}
		found = true
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
		c.ev.errorAt(by.inst().at("address"), by.in.each, "Address in use", "Address %s of %s is %s network %q (%s, declared at %s).",
			addr, by.owner(), what, network.Name, network.CIDR, c.ev.place(network.Range))
		return false
	}
	if found {
		c.inside++
	} else {
		c.outside = append(c.outside, by)
	}
	return true
}

// strayBMCs warns of the few BMCs that lie in no declared network, where most
// do: a wrong digit in an asset list looks like this.
func (c *nodeChecks) strayBMCs() {
	if c.inside <= len(c.outside) {
		return
	}
	for i, by := range c.outside {
		at := by.inst().at("address")
		if i == maxAlike {
			c.ev.add(hcl.DiagWarning, at, nil, "Address outside the networks", fmt.Sprintf("%d more BMCs are in none of the declared networks.", len(c.outside)-i))
			return
		}
		c.ev.add(hcl.DiagWarning, at, by.in.each, "Address outside the networks",
			fmt.Sprintf("Address %s of %s is in none of the declared networks, which hold the BMCs of %d other nodes.", get[netip.Addr](by.inst(), "address"), by.owner(), c.inside))
	}
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
