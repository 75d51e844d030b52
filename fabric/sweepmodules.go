package fabric

import "firstlight/fabric/mad"

// Optics is what a port says of its module and of the bits that it receives. A nil
// part was not answered.
type Optics struct {
	Module      *mad.ModuleInfo
	Operational *mad.OperationalInfo
	Stats       *mad.PhysicalStats
}

// The questions of the vendor's class, by the block of a request.
const (
	askGeneralInfo uint16 = iota
	askModule
	askOperational
	askStats
)

// strangers is how many devices in a row may not know the vendor's class before none
// is asked any more, unless one of them does: each costs its time-outs.
const strangers = 16

// askModules asks every device of the vendor whether it tells of its modules. What
// does not is no fault, and is not told.
func (e *engine) askModules() {
	for _, n := range e.all {
		p := n.connected()
		if p == nil || n.gone || n.VendorID != mad.VendorNVIDIA || n.lane.root == nil || !n.lane.active() || n.lidOf(p) == 0 {
			continue
		}
		e.ask(n.lane, request{class: mad.ClassVendor, attr: mad.AttrGeneralInfo, node: n, port: uint8(p.Num), lid: n.lidOf(p), block: askGeneralInfo})
	}
}

// putVendor makes the MAD of a question of the vendor's class.
func putVendor(m *[mad.Size]byte, r *request) {
	tid := uint64(r.tid)
	switch r.block {
	case askGeneralInfo:
		mad.PutVendorGet(m, tid, r.attr)
	case askModule:
		mad.PutRegisterGet(m, tid, mad.RegPortDiagnostic, r.port, mad.PageModule)
	case askOperational:
		mad.PutRegisterGet(m, tid, mad.RegPortDiagnostic, r.port, mad.PageOperational)
	case askStats:
		mad.PutRegisterGet(m, tid, mad.RegPortCounters, r.port, mad.GroupPhysical)
	}
}

// vendorAttribute takes an answer of the vendor's class. One that cannot be read, or
// is about another port, counts for nothing.
func (e *engine) vendorAttribute(r *request, m *[mad.Size]byte) {
	e.spoke++
	if r.block == askGeneralInfo {
		if info, err := mad.ParseGeneralInfo(mad.VendorData(m)); err == nil && info.Registers {
			e.askRegisters(r.node)
		}
		return
	}
	p := r.node.port(int(r.port))
	data := mad.RegisterData(m)
	o := p.Optics
	if o == nil {
		o = &Optics{}
	}
	switch r.block {
	case askModule:
		if v, err := mad.ParseModuleInfo(data); err == nil && v.Port == r.port && v.Page == mad.PageModule {
			o.Module, p.Optics = &v, o
		}
	case askOperational:
		if v, err := mad.ParseOperationalInfo(data); err == nil && v.Port == r.port && v.Page == mad.PageOperational {
			o.Operational, p.Optics = &v, o
		}
	case askStats:
		if v, err := mad.ParsePhysicalStats(data); err == nil && v.Port == r.port && v.Page == mad.GroupPhysical {
			o.Stats, p.Optics = &v, o
		}
	}
}

// askRegisters asks for the registers of a node's connected ports.
func (e *engine) askRegisters(n *swept) {
	for _, p := range n.Ports {
		if p.Peer == nil || n.lidOf(p) == 0 {
			continue
		}
		for block := askModule; block <= askStats; block++ {
			e.ask(n.lane, request{class: mad.ClassVendor, attr: mad.AttrAccessRegister, node: n, port: uint8(p.Num), lid: n.lidOf(p), block: block})
		}
	}
}
