package fabricsim

import (
	"testing"

	"firstlight/fabric/mad"
)

// FuzzFlight: whatever a client sends, the fabric neither panics nor goes on for
// ever, and the packet ends somewhere.
func FuzzFlight(f *testing.F) {
	add := func(m [mad.Size]byte, lid uint16) {
		var b [requestSize]byte
		(&flight{mad: m, dlid: lid}).request(&b)
		f.Add(b[:])
	}
	var m [mad.Size]byte
	for _, attr := range []mad.Attribute{mad.AttrNodeInfo, mad.AttrNodeDescription, mad.AttrSwitchInfo, mad.AttrPortInfo, mad.AttrPKeyTable,
		mad.AttrLinearForwardingTable, mad.AttrSMInfo, attrGUIDInfo, attrSLtoVL, attrVLArbitration, attrMulticast} {
		for _, method := range []mad.Method{mad.MethodGet, mad.MethodSet, mad.MethodGetResp} {
			mad.PutDirectedGet(&m, 1, []byte{1, 9, 2, 1}, 2, attr, 0x10001)
			m[offMethod] = byte(method)
			add(m, mad.PermissiveLID)
		}
	}
	for _, attr := range []mad.Attribute{mad.AttrClassPortInfo, mad.AttrPortCounters, mad.AttrPortCountersExtended} {
		mad.PutPerfGet(&m, 1, attr, 255)
		add(m, 2)
	}
	for _, reg := range []mad.Register{mad.RegPortDiagnostic, mad.RegPortCounters} {
		mad.PutRegisterGet(&m, 1, reg, 1, mad.PageModule)
		add(m, 2)
	}
	mad.PutVendorGet(&m, 1, mad.AttrGeneralInfo)
	add(m, 2)
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) != requestSize {
			return
		}
		fabric := build(t, small(), Options{Managed: true, Faults: []Fault{
			{Kind: Endless, At: End{"leaf-01", 9}}, {Kind: Loop, At: End{"leaf-02", 9}}, {Kind: LiePorts, Node: "leaf-01", Value: 255}}})
		c, _, _ := fabric.attach("hnode001 mlx5_0", 1)
		fl := &flight{}
		fl.take((*[requestSize]byte)(b))
		if fabric.start(fl, c, false); fl.fate == flying {
			t.Error("it is still on its way")
		}
	})
}
