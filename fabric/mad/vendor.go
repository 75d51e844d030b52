package mad

import (
	"encoding/binary"
	"math"
	"strconv"
	"strings"
)

// NVIDIA's own management class, in the first range of classes for vendors (§16.5):
// its data begin behind the common header, with a key. What is known of it is what
// NVIDIA publishes with mstflint: mtcr_ib_ofed.c for the datagrams, and
// tools_layouts/adb/prm/*/ext/register_access_table.adb for the registers, which have
// the names used here. In that table bits count from the lowest of a word.
const ClassVendor Class = 0x0a

// VendorNVIDIA is the NodeInfo.VendorID of what speaks that class.
const VendorNVIDIA = 0x0002c9

// Attributes of that class.
const (
	AttrGeneralInfo    Attribute = 0x0017
	AttrAccessRegister Attribute = 0x0051 // AccessRegisterGMP; the modifier is the register
)

// Register is a register of a device, by its number.
type Register uint32

// Registers of a port.
const (
	RegPortCounters   Register = 0x5008 // PPCNT
	RegPortDiagnostic Register = 0x5031 // PDDR
)

// Pages of the registers of a port.
const (
	PageOperational uint8 = 0    // of PDDR
	PageModule      uint8 = 3    // of PDDR
	GroupPhysical   uint8 = 0x16 // of PPCNT: physical layer statistical counters
)

// The parts of a MAD of that class.
const (
	offVendorData = 32 // behind the header and the vendor's key

	// VendorDataSize is the length of an attribute's data.
	VendorDataSize = Size - offVendorData
	// RegisterSize is how much of a register one datagram has: its first block.
	RegisterSize = VendorDataSize - registerBlock
	// registerBlock is the word before it, with the block's number in its upper half.
	registerBlock = 4
)

// PutVendorGet writes into m the question for an attribute of that class.
func PutVendorGet(m *[Size]byte, tid uint64, attr Attribute) {
	clear(m[:])
	Header{Class: ClassVendor, ClassVersion: 1, Method: MethodGet, TID: tid, Attribute: attr}.append(m[:0])
}

// PutRegisterGet writes into m the question for a page of a register of one port.
func PutRegisterGet(m *[Size]byte, tid uint64, reg Register, port, page uint8) {
	clear(m[:])
	Header{Class: ClassVendor, ClassVersion: 1, Method: MethodGet, TID: tid, Attribute: AttrAccessRegister, Modifier: uint32(reg)}.append(m[:0])
	copy(RegisterData(m), RegisterIndex{Register: reg, Port: port, Page: page}.append(nil))
}

// VendorData is the data of a MAD of that class, unparsed.
func VendorData(m *[Size]byte) []byte { return m[offVendorData:] }

// RegisterData is the register in a MAD of that class, unparsed.
func RegisterData(m *[Size]byte) []byte { return m[offVendorData+registerBlock:] }

// RegisterIndex is the head of a register of a port: whose it is.
type RegisterIndex struct {
	Register Register
	Port     uint8 // word 0, bits 23-16: local_port; as InfiniBand numbers it (pnat, bits 15-14, is 1)
	Page     uint8 // PDDR: word 1, bits 7-0, page_select; PPCNT: word 0, bits 5-0, grp
}

const (
	pnatInfiniBand   = 1 << 6 // in byte 2
	registerHeadSize = 8
)

func (i RegisterIndex) append(b []byte) []byte {
	head := [registerHeadSize]byte{1: i.Port, 2: pnatInfiniBand}
	if i.Register == RegPortCounters {
		head[3] = i.Page & 0x3f
	} else {
		head[7] = i.Page
	}
	return append(b, head[:]...)
}

// ParseRegisterIndex reads the head of a register.
func ParseRegisterIndex(reg Register, b []byte) (RegisterIndex, error) {
	if len(b) < registerHeadSize {
		return RegisterIndex{}, short("register", b, RegisterSize)
	}
	i := RegisterIndex{Register: reg, Port: b[1], Page: b[7]}
	if reg == RegPortCounters {
		i.Page = b[3] & 0x3f
	}
	return i, nil
}

// GeneralInfo is the attribute of that name of NVIDIA's class, as far as it is needed
// here.
type GeneralInfo struct {
	DeviceID  uint16 // bytes 2-3
	PSID      string // bytes 48-63: the board's type
	Registers bool   // bytes 128-131, bit 20: it answers AttrAccessRegister
}

// Offsets in GeneralInfo.
const (
	offPSID         = 48
	offCapabilities = 128
	canRegisters    = 1 << 20
	generalInfoSize = 132
)

// ParseGeneralInfo reads the attribute's data; what follows it is ignored.
func ParseGeneralInfo(b []byte) (GeneralInfo, error) {
	if len(b) < generalInfoSize {
		return GeneralInfo{}, short("GeneralInfo", b, VendorDataSize)
	}
	return GeneralInfo{DeviceID: binary.BigEndian.Uint16(b[2:]), PSID: vendorText(b[offPSID:][:16]),
		Registers: binary.BigEndian.Uint32(b[offCapabilities:])&canRegisters != 0}, nil
}

// AppendGeneralInfo writes the attribute's data.
func AppendGeneralInfo(b []byte, g GeneralInfo) []byte {
	data := make([]byte, VendorDataSize)
	binary.BigEndian.PutUint16(data[2:], g.DeviceID)
	copy(data[offPSID:][:16], g.PSID)
	if g.Registers {
		binary.BigEndian.PutUint32(data[offCapabilities:], canRegisters)
	}
	return append(b, data...)
}

// vendorText is text as registers have it: padded with spaces or zeros. What a
// terminal should not be shown is left out.
func vendorText(b []byte) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, string(b)))
}

// BER is a bit error rate: Coefficient × 10^-Magnitude.
type BER struct {
	Coefficient uint8 // 4 bits
	Magnitude   uint8
}

// noErrors is the magnitude of a rate that no error was counted for.
const noErrors = 255

// Value is the rate; 0 where no error was counted.
func (b BER) Value() float64 {
	if b.Magnitude == noErrors {
		return 0
	}
	return float64(b.Coefficient) / math.Pow10(int(b.Magnitude))
}

// PhysicalStats is the group of that name of PPCNT.
type PhysicalStats struct {
	RegisterIndex
	SinceClear   uint64 // bytes 8-15: ms since the counters were cleared
	ReceivedBits uint64 // bytes 16-23
	Raw          BER    // bytes 104-107: bits 3-0 and 15-8; before correction
	Effective    BER    // bytes 108-111: after it
	Symbol       BER    // bytes 112-115: after correction and retransmission
}

// ParsePhysicalStats reads the register.
func ParsePhysicalStats(b []byte) (PhysicalStats, error) {
	if len(b) < 116 {
		return PhysicalStats{}, short("PPCNT", b, RegisterSize)
	}
	index, err := ParseRegisterIndex(RegPortCounters, b)
	ber := func(off int) BER { return BER{b[off+3] & 0x0f, b[off+2]} }
	return PhysicalStats{RegisterIndex: index, SinceClear: binary.BigEndian.Uint64(b[8:]), ReceivedBits: binary.BigEndian.Uint64(b[16:]),
		Raw: ber(104), Effective: ber(108), Symbol: ber(112)}, err
}

// AppendPhysicalStats writes the register.
func AppendPhysicalStats(b []byte, s PhysicalStats) []byte {
	s.Register = RegPortCounters
	out := pad(s.append(nil), RegisterSize-registerHeadSize)
	binary.BigEndian.PutUint64(out[8:], s.SinceClear)
	binary.BigEndian.PutUint64(out[16:], s.ReceivedBits)
	for off, ber := range map[int]BER{104: s.Raw, 108: s.Effective, 112: s.Symbol} {
		out[off+2], out[off+3] = ber.Magnitude, ber.Coefficient&0x0f
	}
	return append(b, out...)
}

// ModuleInfo is the module information page of PDDR.
type ModuleInfo struct {
	RegisterIndex
	Type        uint8  // byte 12, bits 7-4: cable_type
	Vendor      string // bytes 28-43
	PartNumber  string // bytes 44-59
	Serial      string // bytes 68-83
	Temperature int16  // bytes 84-85, in 1/256 °C
	AlarmAt     int16  // bytes 136-137: temperature_high_th, in 1/256 °C; 0 is none
	Measures    uint8  // byte 166: monitor_cap_mask; bit 0 is the temperature
}

// Types of cables and modules.
const (
	CableActive    uint8 = 1
	CableOptical   uint8 = 2
	CableCopper    uint8 = 3
	CableUnplugged uint8 = 4
)

// MeasuresTemperature reports that the module has a sensor.
func (m ModuleInfo) MeasuresTemperature() bool { return m.Measures&1 != 0 }

// ParseModuleInfo reads the register.
func ParseModuleInfo(b []byte) (ModuleInfo, error) {
	if len(b) < 168 {
		return ModuleInfo{}, short("PDDR", b, RegisterSize)
	}
	index, err := ParseRegisterIndex(RegPortDiagnostic, b)
	return ModuleInfo{RegisterIndex: index, Type: b[12] >> 4, Vendor: vendorText(b[28:44]), PartNumber: vendorText(b[44:60]), Serial: vendorText(b[68:84]),
		Temperature: int16(binary.BigEndian.Uint16(b[84:])), AlarmAt: int16(binary.BigEndian.Uint16(b[136:])), Measures: b[166]}, err
}

// AppendModuleInfo writes the register.
func AppendModuleInfo(b []byte, m ModuleInfo) []byte {
	m.Register = RegPortDiagnostic
	out := pad(m.append(nil), RegisterSize-registerHeadSize)
	out[12] = m.Type << 4
	copy(out[28:44], m.Vendor)
	copy(out[44:60], m.PartNumber)
	copy(out[68:84], m.Serial)
	binary.BigEndian.PutUint16(out[84:], uint16(m.Temperature))
	binary.BigEndian.PutUint16(out[136:], uint16(m.AlarmAt))
	out[166] = m.Measures
	return append(b, out...)
}

// OperationalInfo is the operational information page of PDDR.
type OperationalInfo struct {
	RegisterIndex
	FEC uint16 // bytes 36-37: fec_mode_active
}

// ParseOperationalInfo reads the register.
func ParseOperationalInfo(b []byte) (OperationalInfo, error) {
	if len(b) < 40 {
		return OperationalInfo{}, short("PDDR", b, RegisterSize)
	}
	index, err := ParseRegisterIndex(RegPortDiagnostic, b)
	return OperationalInfo{RegisterIndex: index, FEC: binary.BigEndian.Uint16(b[36:])}, err
}

// AppendOperationalInfo writes the register.
func AppendOperationalInfo(b []byte, o OperationalInfo) []byte {
	o.Register = RegPortDiagnostic
	out := pad(o.append(nil), RegisterSize-registerHeadSize)
	binary.BigEndian.PutUint16(out[36:], o.FEC)
	return append(b, out...)
}

// fecNames are the modes of fec_mode_active that ports of InfiniBand use.
var fecNames = map[uint16]string{0: "none", 1: "Firecode", 2: "RS(528,514)", 3: "LL RS(271,257)", 4: "KP4 RS(544,514) ×4", 5: "KP4 RS(546,516) ×4 + PLR",
	6: "RS(544,514) interleaved", 7: "RS(544,514)", 8: "KP4 RS(546,516) ×8 + PLR", 11: "RS(544,514) interleaved + PLR", 12: "RS(544,514) + PLR", 13: "LL RS(271,257) + PLR",
	16: "RS(288,258) ×2 + PLR", 17: "RS(288,258) ×4 + PLR", 18: "RS(288,258) ×8 + PLR"}

// FECName names a mode of forward error correction.
func FECName(mode uint16) string {
	if name, ok := fecNames[mode]; ok {
		return name
	}
	return "mode " + strconv.Itoa(int(mode))
}
