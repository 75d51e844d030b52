package mad

import (
	"encoding/binary"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// field writes a field of a register as NVIDIA's table names its place: the word it
// is in, and its lowest bit there.
func field(b []byte, word, bit, size int, value uint32) {
	mask := uint32(1)<<size - 1
	w := binary.BigEndian.Uint32(b[word:])
	binary.BigEndian.PutUint32(b[word:], w&^(mask<<bit)|value&mask<<bit)
}

// TestRegisters reads registers that were laid out by the published table, and has
// written ones be the same.
func TestRegisters(t *testing.T) {
	const page = 8 // page_data and counter_set begin there
	head := func(port uint32) []byte {
		b := make([]byte, RegisterSize)
		field(b, 0, 16, 8, port) // local_port
		field(b, 0, 14, 2, 1)    // pnat
		return b
	}
	module := head(33)
	field(module, 4, 0, 8, 3)          // page_select
	field(module, page+0x04, 28, 4, 2) // cable_type
	field(module, page+0x4c, 16, 16, 71*256+128)
	field(module, page+0x80, 16, 16, 80*256)
	field(module, page+0x9c, 8, 8, 0x1f) // monitor_cap_mask
	copy(module[page+0x14:], "NVIDIA          ")
	copy(module[page+0x24:], "MMA4Z00-NS      ")
	copy(module[page+0x3c:], "MT2345VS01234\x00\x00\x00")
	operational := head(1)
	field(operational, page+0x1c, 16, 16, 5)
	stats := head(2)
	field(stats, 0, 0, 6, 0x16) // grp
	field(stats, page+0x04, 0, 32, 720000)
	field(stats, page+0x0c, 0, 32, 12345)
	field(stats, page+0x60, 0, 4, 3)
	field(stats, page+0x60, 8, 8, 9)
	field(stats, page+0x64, 0, 4, 15)
	field(stats, page+0x64, 8, 8, 255)
	field(stats, page+0x68, 0, 4, 2)
	field(stats, page+0x68, 8, 8, 16)
	m, err := ParseModuleInfo(module)
	want := ModuleInfo{RegisterIndex: RegisterIndex{RegPortDiagnostic, 33, PageModule}, Type: CableOptical, Vendor: "NVIDIA", PartNumber: "MMA4Z00-NS",
		Serial: "MT2345VS01234", Temperature: 71*256 + 128, AlarmAt: 80 * 256, Measures: 0x1f}
	if diff := cmp.Diff(want, m); err != nil || diff != "" || !m.MeasuresTemperature() {
		t.Errorf("module: %v (-want +got):\n%s", err, diff)
	}
	o, err := ParseOperationalInfo(operational)
	if diff := cmp.Diff(OperationalInfo{RegisterIndex{RegPortDiagnostic, 1, PageOperational}, 5}, o); err != nil || diff != "" {
		t.Errorf("operational: %v (-want +got):\n%s", err, diff)
	}
	if diff := cmp.Diff(operational, AppendOperationalInfo(nil, o)); diff != "" {
		t.Errorf("operational, written (-want +got):\n%s", diff)
	}
	s, err := ParsePhysicalStats(stats)
	wantStats := PhysicalStats{RegisterIndex: RegisterIndex{RegPortCounters, 2, GroupPhysical}, SinceClear: 720000, ReceivedBits: 12345,
		Raw: BER{3, 9}, Effective: BER{15, 255}, Symbol: BER{2, 16}}
	if diff := cmp.Diff(wantStats, s); err != nil || diff != "" {
		t.Errorf("statistics: %v (-want +got):\n%s", err, diff)
	}
	if diff := cmp.Diff(stats, AppendPhysicalStats(nil, s)); diff != "" {
		t.Errorf("statistics, written (-want +got):\n%s", diff)
	}
	if s.Raw.Value() != 3e-9 || s.Effective.Value() != 0 || s.Symbol.Value() != 2e-16 {
		t.Errorf("rates %g, %g, %g; want 3e-9, none and 2e-16", s.Raw.Value(), s.Effective.Value(), s.Symbol.Value())
	}
	if FECName(5) != "KP4 RS(546,516) ×4 + PLR" || FECName(99) != "mode 99" {
		t.Error("names of FEC modes")
	}
}

// TestVendorRequests has the questions begin where NVIDIA's tools put them.
func TestVendorRequests(t *testing.T) {
	var m [Size]byte
	PutRegisterGet(&m, 7, RegPortDiagnostic, 33, PageModule)
	h, err := ParseHeader(m[:])
	want := Header{Class: 0x0a, ClassVersion: 1, Method: MethodGet, TID: 7, Attribute: 0x51, Modifier: 0x5031}
	if diff := cmp.Diff(want, h); err != nil || diff != "" {
		t.Errorf("header: %v (-want +got):\n%s", err, diff)
	}
	// 24: the key; 32: the block; 36: the register.
	if m[37] != 33 || m[38] != 0x40 || m[43] != 3 || m[32] != 0 || m[24] != 0 {
		t.Errorf("% x; want port 33 as InfiniBand numbers it, page 3", m[24:48])
	}
	PutRegisterGet(&m, 8, RegPortCounters, 1, GroupPhysical)
	if m[37] != 1 || m[39] != 0x16 || m[43] != 0 {
		t.Errorf("% x; want port 1, group 0x16", m[24:48])
	}
	PutVendorGet(&m, 9, AttrGeneralInfo)
	if h, err := ParseHeader(m[:]); err != nil || h.Attribute != 0x17 || h.Class != ClassVendor || h.Modifier != 0 {
		t.Errorf("GeneralInfo is asked for by %+v, %v", h, err)
	}
	info := make([]byte, VendorDataSize)
	field(info, 0, 0, 16, 0x1021)
	field(info, 0x80, 20, 1, 1)
	copy(info[48:], "MT_0000000838")
	if g, err := ParseGeneralInfo(info); err != nil || g != (GeneralInfo{0x1021, "MT_0000000838", true}) {
		t.Errorf("GeneralInfo = %+v, %v", g, err)
	}
	for name, c := range codecs() {
		if _, err := c.parse(nil); err == nil {
			t.Errorf("%s of no bytes is read", name)
		}
	}
}
