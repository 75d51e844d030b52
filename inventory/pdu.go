package inventory

import (
	"net/netip"

	"github.com/hashicorp/hcl/v2"
)

// PDU is a rack PDU whose outlets can be switched.
type PDU struct {
	Name       string
	Address    netip.Addr
	Port       int // TCP
	Credential *Credential
	Rack       *Rack // nil when not declared
	Range      hcl.Range
}

// Outlet is an outlet of a PDU that a node has its power from.
type Outlet struct {
	PDU   *PDU
	ID    string // as the PDU calls it; "2/A12" is outlet A12 of the second of several chained PDUs
	Range hcl.Range
}

// String is as "pdu-a01/12".
func (o Outlet) String() string { return o.PDU.Name + "/" + o.ID }

// pduBlock is a rack PDU.
var pduBlock = &blockSchema{
	name: "pdu", label: "name", forEach: true,
	doc: "A rack PDU whose outlets can be switched over the out-of-band network. Declare it, and the outlets of nodes, to let firstlight cut the power of a node whose BMC nothing else gets to obey.",
	attrs: []attrSchema{
		{name: "name", kind: kindString, doc: "Default: each.key, or the label."},
		{name: "address", kind: kindAddr, required: true, doc: "Address on the out-of-band network."},
		{name: "port", kind: kindInt, def: "443", min: 1, max: 65535, doc: "TCP port."},
		{name: "protocol", kind: kindString, def: "redfish", oneOf: []string{"redfish"}, doc: "Protocol: Redfish's PowerDistribution."},
		{name: "credential", kind: kindRef, ref: "credential", required: true, doc: "Who firstlight logs in as."},
		{name: "rack", kind: kindRef, ref: "rack", doc: "Where it is mounted."},
	},
}

// outletBlock is nested in nodes.
var outletBlock = &blockSchema{
	name: "outlet", doc: "A PDU outlet that it has its power from: one block for each power supply. All of them are switched off, and then on again, as the last rung of the ladder.",
	attrs: []attrSchema{
		{name: "pdu", kind: kindRef, ref: "pdu", required: true, doc: "The PDU."},
		{name: "id", kind: kindString, required: true, doc: "The outlet, as the PDU calls it: \"12\", or \"2/12\" for the second of several chained PDUs."},
	},
}

func pdu(in *inst) *PDU {
	p := &PDU{Name: in.name, Address: get[netip.Addr](in, "address"), Port: get[int](in, "port"),
		Credential: object[Credential](in, "credential"), Rack: object[Rack](in, "rack"), Range: in.rng}
	in.obj = p
	return p
}

func outlets(in *inst) []Outlet {
	var out []Outlet
	for _, b := range in.all("outlet") {
		if p := object[PDU](b, "pdu"); p != nil {
			out = append(out, Outlet{PDU: p, ID: get[string](b, "id"), Range: b.rng})
		}
	}
	return out
}

// pdu checks a PDU's address as those of BMCs are.
func (c *nodeChecks) pdu(in *inst) {
	addr := get[netip.Addr](in, "address")
	if !addr.IsValid() {
		return
	}
	by := claim{in: in, attr: "address"}
	if c.bmcAddress(by, addr) {
		c.bmcs.take(netip.AddrPortFrom(addr, uint16(get[int](in, "port"))), addr, by)
	}
}

// outlets finds an outlet that two nodes have their power from: to switch it
// would hit the other.
func (c *nodeChecks) outlets(in *inst) {
	for _, b := range in.all("outlet") {
		p, id := object[PDU](b, "pdu"), get[string](b, "id")
		if p == nil || id == "" {
			continue
		}
		text := Outlet{PDU: p, ID: id}.String()
		c.sockets.take(text, text, claim{in, b, "id"})
	}
}
