package mad

import (
	"encoding/binary"
	"strconv"
)

// ClassPortInfo is the attribute of that name (§13.4.8.1) as performance
// management fills it (§16.1.3.1), without the fields of traps.
type ClassPortInfo struct {
	BaseVersion     uint8  // byte 0
	ClassVersion    uint8  // byte 1
	CapabilityMask  uint16 // bytes 2-3
	CapabilityMask2 uint32 // bytes 4-7, bits 31-5
	RespTimeValue   uint8  // byte 7, bits 4-0: an answer takes at most 4.096 µs × 2^value
	RedirectLID     uint16 // bytes 28-29; not zero: ask there
}

// ParseClassPortInfo reads the attribute's data; what follows it is ignored.
func ParseClassPortInfo(b []byte) (ClassPortInfo, error) {
	if len(b) < DataSize {
		return ClassPortInfo{}, short("ClassPortInfo", b, DataSize)
	}
	word := binary.BigEndian.Uint32(b[4:])
	return ClassPortInfo{
		BaseVersion: b[0], ClassVersion: b[1],
		CapabilityMask:  binary.BigEndian.Uint16(b[2:]),
		CapabilityMask2: word >> 5,
		RespTimeValue:   uint8(word & 0x1f),
		RedirectLID:     binary.BigEndian.Uint16(b[28:]),
	}, nil
}

// AppendClassPortInfo writes the attribute's data.
func AppendClassPortInfo(b []byte, c ClassPortInfo) []byte {
	b = append(b, c.BaseVersion, c.ClassVersion)
	b = binary.BigEndian.AppendUint16(b, c.CapabilityMask)
	b = binary.BigEndian.AppendUint32(b, c.CapabilityMask2<<5|uint32(c.RespTimeValue&0x1f))
	b = pad(b, 20)
	b = binary.BigEndian.AppendUint16(b, c.RedirectLID)
	return pad(b, PerfDataSize-30)
}

// HasExtended reports that the node counts in PortCountersExtended
// (CapabilityMask.IsExtendedWidthSupported or …NoIETF, bits 9 and 10).
func (c ClassPortInfo) HasExtended() bool { return c.CapabilityMask&(1<<9|1<<10) != 0 }

// HasXmitWait reports that PortCounters has PortXmitWait (bit 12).
func (c ClassPortInfo) HasXmitWait() bool { return c.CapabilityMask&(1<<12) != 0 }

// HasExtendedErrors reports that PortCountersExtended counts errors as well
// (CapabilityMask2.IsAdditionalPortCountersExtendedSupported, bit 1).
func (c ClassPortInfo) HasExtendedErrors() bool { return c.CapabilityMask2&(1<<1) != 0 }

// PortCounters is the attribute of that name (§16.1.3.5). A counter that has
// reached the most its field holds stays there.
type PortCounters struct {
	Port                         uint8  // byte 1: PortSelect
	CounterSelect                uint16 // bytes 2-3
	SymbolErrorCounter           uint16 // bytes 4-5
	LinkErrorRecoveryCounter     uint8  // byte 6
	LinkDownedCounter            uint8  // byte 7
	PortRcvErrors                uint16 // bytes 8-9
	PortRcvRemotePhysicalErrors  uint16 // bytes 10-11
	PortRcvSwitchRelayErrors     uint16 // bytes 12-13
	PortXmitDiscards             uint16 // bytes 14-15
	PortXmitConstraintErrors     uint8  // byte 16
	PortRcvConstraintErrors      uint8  // byte 17
	CounterSelect2               uint8  // byte 18
	LocalLinkIntegrityErrors     uint8  // byte 19, bits 7-4
	ExcessiveBufferOverrunErrors uint8  // byte 19, bits 3-0
	QP1Dropped                   uint16 // bytes 20-21
	VL15Dropped                  uint16 // bytes 22-23
	PortXmitData                 uint32 // bytes 24-27, in units of 4 bytes
	PortRcvData                  uint32 // bytes 28-31, in units of 4 bytes
	PortXmitPkts                 uint32 // bytes 32-35
	PortRcvPkts                  uint32 // bytes 36-39
	PortXmitWait                 uint32 // bytes 40-43, in ticks of the port
}

// portCountersSize is as far as the fields of PortCounters go.
const portCountersSize = 44

// ParsePortCounters reads the attribute's data; what follows it is ignored.
func ParsePortCounters(b []byte) (PortCounters, error) {
	if len(b) < portCountersSize {
		return PortCounters{}, short("PortCounters", b, portCountersSize)
	}
	return PortCounters{
		Port:                         b[1],
		CounterSelect:                binary.BigEndian.Uint16(b[2:]),
		SymbolErrorCounter:           binary.BigEndian.Uint16(b[4:]),
		LinkErrorRecoveryCounter:     b[6],
		LinkDownedCounter:            b[7],
		PortRcvErrors:                binary.BigEndian.Uint16(b[8:]),
		PortRcvRemotePhysicalErrors:  binary.BigEndian.Uint16(b[10:]),
		PortRcvSwitchRelayErrors:     binary.BigEndian.Uint16(b[12:]),
		PortXmitDiscards:             binary.BigEndian.Uint16(b[14:]),
		PortXmitConstraintErrors:     b[16],
		PortRcvConstraintErrors:      b[17],
		CounterSelect2:               b[18],
		LocalLinkIntegrityErrors:     b[19] >> 4,
		ExcessiveBufferOverrunErrors: b[19] & 0x0f,
		QP1Dropped:                   binary.BigEndian.Uint16(b[20:]),
		VL15Dropped:                  binary.BigEndian.Uint16(b[22:]),
		PortXmitData:                 binary.BigEndian.Uint32(b[24:]),
		PortRcvData:                  binary.BigEndian.Uint32(b[28:]),
		PortXmitPkts:                 binary.BigEndian.Uint32(b[32:]),
		PortRcvPkts:                  binary.BigEndian.Uint32(b[36:]),
		PortXmitWait:                 binary.BigEndian.Uint32(b[40:]),
	}, nil
}

// AppendPortCounters writes the attribute's data.
func AppendPortCounters(b []byte, c PortCounters) []byte {
	b = append(b, 0, c.Port)
	b = binary.BigEndian.AppendUint16(b, c.CounterSelect)
	b = binary.BigEndian.AppendUint16(b, c.SymbolErrorCounter)
	b = append(b, c.LinkErrorRecoveryCounter, c.LinkDownedCounter)
	b = binary.BigEndian.AppendUint16(b, c.PortRcvErrors)
	b = binary.BigEndian.AppendUint16(b, c.PortRcvRemotePhysicalErrors)
	b = binary.BigEndian.AppendUint16(b, c.PortRcvSwitchRelayErrors)
	b = binary.BigEndian.AppendUint16(b, c.PortXmitDiscards)
	b = append(b, c.PortXmitConstraintErrors, c.PortRcvConstraintErrors, c.CounterSelect2,
		c.LocalLinkIntegrityErrors<<4|c.ExcessiveBufferOverrunErrors&0x0f)
	b = binary.BigEndian.AppendUint16(b, c.QP1Dropped)
	b = binary.BigEndian.AppendUint16(b, c.VL15Dropped)
	for _, v := range []uint32{c.PortXmitData, c.PortRcvData, c.PortXmitPkts, c.PortRcvPkts, c.PortXmitWait} {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	return pad(b, PerfDataSize-portCountersSize)
}

// PortCountersExtended is the attribute of that name (§16.1.4.11). Those from
// SymbolErrorCounter on count only where ClassPortInfo.HasExtendedErrors.
type PortCountersExtended struct {
	Port                         uint8  // byte 1: PortSelect
	CounterSelect                uint16 // bytes 2-3
	CounterSelect2               uint32 // bytes 4-7
	PortXmitData                 uint64 // bytes 8-15, in units of 4 bytes
	PortRcvData                  uint64 // bytes 16-23, in units of 4 bytes
	PortXmitPkts                 uint64 // bytes 24-31
	PortRcvPkts                  uint64 // bytes 32-39
	PortUnicastXmitPkts          uint64 // bytes 40-47
	PortUnicastRcvPkts           uint64 // bytes 48-55
	PortMulticastXmitPkts        uint64 // bytes 56-63
	PortMulticastRcvPkts         uint64 // bytes 64-71
	SymbolErrorCounter           uint64 // bytes 72-79
	LinkErrorRecoveryCounter     uint64 // bytes 80-87
	LinkDownedCounter            uint64 // bytes 88-95
	PortRcvErrors                uint64 // bytes 96-103
	PortRcvRemotePhysicalErrors  uint64 // bytes 104-111
	PortRcvSwitchRelayErrors     uint64 // bytes 112-119
	PortXmitDiscards             uint64 // bytes 120-127
	PortXmitConstraintErrors     uint64 // bytes 128-135
	PortRcvConstraintErrors      uint64 // bytes 136-143
	LocalLinkIntegrityErrors     uint64 // bytes 144-151
	ExcessiveBufferOverrunErrors uint64 // bytes 152-159
	VL15Dropped                  uint64 // bytes 160-167
	PortXmitWait                 uint64 // bytes 168-175, in ticks of the port
	QP1Dropped                   uint64 // bytes 176-183
}

// portCountersExtendedSize is as far as the fields of PortCountersExtended go.
const portCountersExtendedSize = 184

// counters are the 64-bit fields, in the order of the attribute.
func (c *PortCountersExtended) counters() []*uint64 {
	return []*uint64{&c.PortXmitData, &c.PortRcvData, &c.PortXmitPkts, &c.PortRcvPkts,
		&c.PortUnicastXmitPkts, &c.PortUnicastRcvPkts, &c.PortMulticastXmitPkts, &c.PortMulticastRcvPkts,
		&c.SymbolErrorCounter, &c.LinkErrorRecoveryCounter, &c.LinkDownedCounter, &c.PortRcvErrors,
		&c.PortRcvRemotePhysicalErrors, &c.PortRcvSwitchRelayErrors, &c.PortXmitDiscards,
		&c.PortXmitConstraintErrors, &c.PortRcvConstraintErrors, &c.LocalLinkIntegrityErrors,
		&c.ExcessiveBufferOverrunErrors, &c.VL15Dropped, &c.PortXmitWait, &c.QP1Dropped}
}

// ParsePortCountersExtended reads the attribute's data; what follows it is ignored.
func ParsePortCountersExtended(b []byte) (PortCountersExtended, error) {
	var c PortCountersExtended
	if len(b) < portCountersExtendedSize {
		return c, short("PortCountersExtended", b, portCountersExtendedSize)
	}
	c.Port = b[1]
	c.CounterSelect = binary.BigEndian.Uint16(b[2:])
	c.CounterSelect2 = binary.BigEndian.Uint32(b[4:])
	for i, field := range c.counters() {
		*field = binary.BigEndian.Uint64(b[8+8*i:])
	}
	return c, nil
}

// AppendPortCountersExtended writes the attribute's data.
func AppendPortCountersExtended(b []byte, c PortCountersExtended) []byte {
	b = append(b, 0, c.Port)
	b = binary.BigEndian.AppendUint16(b, c.CounterSelect)
	b = binary.BigEndian.AppendUint32(b, c.CounterSelect2)
	for _, field := range c.counters() {
		b = binary.BigEndian.AppendUint64(b, *field)
	}
	return pad(b, PerfDataSize-portCountersExtendedSize)
}

// name is a number's name, or the number.
func name(n uint8, what string, names map[uint8]string) string {
	if s, ok := names[n]; ok {
		return s
	}
	return what + " " + strconv.Itoa(int(n))
}
