package fabricsim

import (
	"math"
	"strings"

	"firstlight/fabric/mad"
)

// statusNoRegister is the status of a register that a device does not have.
const statusNoRegister mad.Status = 5 << 2

// What modules say unless a fault says otherwise.
const (
	moduleCelsius = 45
	moduleAlarm   = 80 // °C
	moduleVendor  = "NVIDIA"
	moduleNDR     = "MMA4Z00-NS"
)

// optics is what a port's module measures, where that is not as usual.
type optics struct {
	celsius float64
	ber     mad.BER // after correction
}

// healthy is what a port has that no fault was made at.
var healthy = optics{celsius: moduleCelsius, ber: mad.BER{Coefficient: 15, Magnitude: 255}}

func (p *port) module() *optics {
	if p.optics == nil {
		own := healthy
		p.optics = &own
	}
	return p.optics
}

// berOf is a rate as registers have it.
func berOf(rate float64) mad.BER {
	if rate <= 0 {
		return healthy.ber
	}
	magnitude := int(math.Ceil(-math.Log10(rate)))
	return mad.BER{Coefficient: uint8(math.Round(rate * math.Pow10(magnitude))), Magnitude: uint8(min(max(magnitude, 0), 254))}
}

// vendor carries out one question of NVIDIA's class. It is false where the node
// knows nothing of it.
func (f *Fabric) vendor(fl *flight, p *port, n *node, set bool) (mad.Status, bool) {
	if n.opaque {
		return 0, false
	}
	switch {
	case set:
		return statusBadMethod, true
	case fl.attr() == mad.AttrGeneralInfo:
		copy(mad.VendorData(&fl.mad), mad.AppendGeneralInfo(nil, mad.GeneralInfo{DeviceID: n.DeviceID, PSID: "SIM0000000001", Registers: true}))
		return 0, true
	case fl.attr() != mad.AttrAccessRegister:
		return statusBadAttribute, true
	}
	data := mad.RegisterData(&fl.mad)
	reg := mad.Register(fl.modifier())
	index, err := mad.ParseRegisterIndex(reg, data)
	q := f.portOf(n, int(index.Port))
	if err != nil || q == nil || q.num == 0 || n.sw == nil && q != p {
		return statusBadValue, true
	}
	switch {
	case reg == mad.RegPortDiagnostic && index.Page == mad.PageModule:
		copy(data, mad.AppendModuleInfo(nil, f.moduleInfo(index, q)))
	case reg == mad.RegPortDiagnostic && index.Page == mad.PageOperational:
		copy(data, mad.AppendOperationalInfo(nil, mad.OperationalInfo{RegisterIndex: index, FEC: q.fec()}))
	case reg == mad.RegPortCounters && index.Page == mad.GroupPhysical:
		m := *q.module()
		copy(data, mad.AppendPhysicalStats(nil, mad.PhysicalStats{RegisterIndex: index, SinceClear: uint64(f.opt.Now().Sub(f.began).Milliseconds()),
			Raw: mad.BER{Coefficient: 3, Magnitude: 8}, Effective: m.ber, Symbol: m.ber}))
	default:
		return statusNoRegister, true
	}
	return 0, true
}

func (f *Fabric) moduleInfo(index mad.RegisterIndex, p *port) mad.ModuleInfo {
	m := mad.ModuleInfo{RegisterIndex: index, Type: mad.CableUnplugged}
	if p.peer == none {
		return m
	}
	m.Type, m.Vendor, m.PartNumber, m.AlarmAt, m.Measures = mad.CableOptical, moduleVendor, moduleNDR, moduleAlarm*256, 1
	m.Serial = "SIM" + strings.ReplaceAll(f.nodes[p.node].Name, " ", "")
	m.Temperature = int16(p.module().celsius * 256)
	return m
}

// fec is the mode of correction that links of a speed have.
func (p *port) fec() uint16 {
	switch s := speeds[p.speed]; {
	case p.phys != mad.PhysLinkUp || s.ext == 0 && s.ext2 == 0:
		return 0
	case s.ext == 8 || s.ext2 != 0:
		return 5
	case s.ext == 4:
		return 7
	}
	return 2
}
