package mad

import (
	"encoding/binary"
)

// PortState is PortInfo.PortState (§14.2.5.6).
type PortState uint8

// The states of a port.
const (
	PortDown   PortState = 1
	PortInit   PortState = 2
	PortArmed  PortState = 3
	PortActive PortState = 4
)

func (s PortState) String() string {
	return name(uint8(s), "state", map[uint8]string{1: "Down", 2: "Init", 3: "Armed", 4: "Active"})
}

// PhysState is PortInfo.PortPhysicalState (§14.2.5.6).
type PhysState uint8

// The physical states of a port.
const (
	PhysSleep      PhysState = 1
	PhysPolling    PhysState = 2 // no light, or nobody answers on it
	PhysDisabled   PhysState = 3
	PhysTraining   PhysState = 4
	PhysLinkUp     PhysState = 5
	PhysRecovery   PhysState = 6 // LinkErrorRecovery
	PhysPhyTesting PhysState = 7
)

func (s PhysState) String() string {
	return name(uint8(s), "physical state", map[uint8]string{1: "Sleep", 2: "Polling", 3: "Disabled", 4: "Training", 5: "LinkUp", 6: "LinkErrorRecovery", 7: "PhyTest"})
}

// PortInfo is the attribute of that name (§14.2.5.6), without the fields of
// virtual lanes that only a subnet manager sets.
type PortInfo struct {
	MKey            uint64    // bytes 0-7
	GIDPrefix       uint64    // bytes 8-15
	LID             uint16    // bytes 16-17; of a switch in port 0
	MasterSMLID     uint16    // bytes 18-19
	CapabilityMask  uint32    // bytes 20-23; of a switch in port 0
	DiagCode        uint16    // bytes 24-25
	LocalPort       uint8     // byte 28: LocalPortNum
	WidthEnabled    uint8     // byte 29: LinkWidthEnabled, a mask
	WidthSupported  uint8     // byte 30: LinkWidthSupported, a mask
	WidthActive     uint8     // byte 31: LinkWidthActive, one bit; Width has the lanes
	SpeedSupported  uint8     // byte 32, bits 7-4: LinkSpeedSupported, a mask
	State           PortState // byte 32, bits 3-0
	PhysState       PhysState // byte 33, bits 7-4
	LMC             uint8     // byte 34, bits 2-0
	SpeedActive     uint8     // byte 35, bits 7-4: LinkSpeedActive
	SpeedEnabled    uint8     // byte 35, bits 3-0: LinkSpeedEnabled, a mask
	NeighborMTU     uint8     // byte 36, bits 7-4: 1 is 256 bytes, 5 is 4096
	MasterSMSL      uint8     // byte 36, bits 3-0
	VLCap           uint8     // byte 37, bits 7-4
	MTUCap          uint8     // byte 41, bits 3-0
	OperationalVLs  uint8     // byte 43, bits 7-4
	MKeyViolations  uint16    // bytes 44-45
	PKeyViolations  uint16    // bytes 46-47
	QKeyViolations  uint16    // bytes 48-49
	LocalPhyErrors  uint8     // byte 53, bits 7-4: threshold of LocalLinkIntegrityErrors
	OverrunErrors   uint8     // byte 53, bits 3-0: threshold of ExcessiveBufferOverrunErrors
	SpeedExt2Active uint8     // byte 56, bits 6-5: LinkSpeedExtActive2, for XDR
	SpeedExt2Cap    uint8     // byte 56, bits 4-3: LinkSpeedExtSupported2
	SpeedExt2On     uint8     // byte 56, bits 2-0: LinkSpeedExtEnabled2
	RoundTrip       uint32    // bytes 57-59: LinkRoundTripLatency, in 4.096 ns; 0xffffff is not known
	CapabilityMask2 uint16    // bytes 60-61
	SpeedExtActive  uint8     // byte 62, bits 7-4: LinkSpeedExtActive, one bit
	SpeedExtCap     uint8     // byte 62, bits 3-0: LinkSpeedExtSupported, a mask
	SpeedExtOn      uint8     // byte 63, bits 4-0: LinkSpeedExtEnabled, a mask
}

// ParsePortInfo reads the attribute's data.
func ParsePortInfo(b []byte) (PortInfo, error) {
	if len(b) != DataSize {
		return PortInfo{}, short("PortInfo", b, DataSize)
	}
	return PortInfo{
		MKey:            binary.BigEndian.Uint64(b),
		GIDPrefix:       binary.BigEndian.Uint64(b[8:]),
		LID:             binary.BigEndian.Uint16(b[16:]),
		MasterSMLID:     binary.BigEndian.Uint16(b[18:]),
		CapabilityMask:  binary.BigEndian.Uint32(b[20:]),
		DiagCode:        binary.BigEndian.Uint16(b[24:]),
		LocalPort:       b[28],
		WidthEnabled:    b[29],
		WidthSupported:  b[30],
		WidthActive:     b[31],
		SpeedSupported:  b[32] >> 4,
		State:           PortState(b[32] & 0x0f),
		PhysState:       PhysState(b[33] >> 4),
		LMC:             b[34] & 0x07,
		SpeedActive:     b[35] >> 4,
		SpeedEnabled:    b[35] & 0x0f,
		NeighborMTU:     b[36] >> 4,
		MasterSMSL:      b[36] & 0x0f,
		VLCap:           b[37] >> 4,
		MTUCap:          b[41] & 0x0f,
		OperationalVLs:  b[43] >> 4,
		MKeyViolations:  binary.BigEndian.Uint16(b[44:]),
		PKeyViolations:  binary.BigEndian.Uint16(b[46:]),
		QKeyViolations:  binary.BigEndian.Uint16(b[48:]),
		LocalPhyErrors:  b[53] >> 4,
		OverrunErrors:   b[53] & 0x0f,
		SpeedExt2Active: b[56] >> 5 & 0x03,
		SpeedExt2Cap:    b[56] >> 3 & 0x03,
		SpeedExt2On:     b[56] & 0x07,
		RoundTrip:       binary.BigEndian.Uint32(b[56:]) & 0xffffff,
		CapabilityMask2: binary.BigEndian.Uint16(b[60:]),
		SpeedExtActive:  b[62] >> 4,
		SpeedExtCap:     b[62] & 0x0f,
		SpeedExtOn:      b[63] & 0x1f,
	}, nil
}

// AppendPortInfo writes the attribute's data.
func AppendPortInfo(b []byte, p PortInfo) []byte {
	b = binary.BigEndian.AppendUint64(b, p.MKey)
	b = binary.BigEndian.AppendUint64(b, p.GIDPrefix)
	b = binary.BigEndian.AppendUint16(b, p.LID)
	b = binary.BigEndian.AppendUint16(b, p.MasterSMLID)
	b = binary.BigEndian.AppendUint32(b, p.CapabilityMask)
	b = binary.BigEndian.AppendUint16(b, p.DiagCode)
	b = append(b, 0, 0, p.LocalPort, p.WidthEnabled, p.WidthSupported, p.WidthActive,
		p.SpeedSupported<<4|byte(p.State)&0x0f,
		byte(p.PhysState)<<4,
		p.LMC&0x07,
		p.SpeedActive<<4|p.SpeedEnabled&0x0f,
		p.NeighborMTU<<4|p.MasterSMSL&0x0f,
		p.VLCap<<4, 0, 0, 0,
		p.MTUCap&0x0f, 0,
		p.OperationalVLs<<4)
	b = binary.BigEndian.AppendUint16(b, p.MKeyViolations)
	b = binary.BigEndian.AppendUint16(b, p.PKeyViolations)
	b = binary.BigEndian.AppendUint16(b, p.QKeyViolations)
	b = append(b, 0, 0, 0, p.LocalPhyErrors<<4|p.OverrunErrors&0x0f, 0, 0)
	ext2 := p.SpeedExt2Active&0x03<<5 | p.SpeedExt2Cap&0x03<<3 | p.SpeedExt2On&0x07
	b = binary.BigEndian.AppendUint32(b, uint32(ext2)<<24|p.RoundTrip&0xffffff)
	b = binary.BigEndian.AppendUint16(b, p.CapabilityMask2)
	return append(b, p.SpeedExtActive<<4|p.SpeedExtCap&0x0f, p.SpeedExtOn&0x1f)
}

// Width is the number of lanes in use; 0 is not known.
func (p PortInfo) Width() int { return Lanes(p.WidthActive) }

// Speed is the name of the speed that each lane runs at, as "NDR"; "" is not
// known. The extended fields count where they are set: a switch says only in
// port 0 that it has them (§14.2.5.6, CapabilityMask), and reserved bits are zero.
func (p PortInfo) Speed() string {
	if p.SpeedExt2Active != 0 {
		return SpeedExt2Name(p.SpeedExt2Active)
	}
	if p.SpeedExtActive != 0 {
		return SpeedExtName(p.SpeedExtActive)
	}
	return SpeedName(p.SpeedActive)
}

// Best is the widest width and the name of the fastest speed that the port
// says it can do; zero is not known.
func (p PortInfo) Best() (width int, speed string) {
	for bit := uint8(1); bit != 0 && bit <= p.WidthSupported; bit <<= 1 {
		if p.WidthSupported&bit != 0 {
			width = max(width, Lanes(bit))
		}
	}
	switch {
	case p.SpeedExt2Cap&1 != 0:
		speed = SpeedExt2Name(1)
	case p.SpeedExtCap != 0:
		speed = SpeedExtName(highest(p.SpeedExtCap))
	default:
		speed = SpeedName(highest(p.SpeedSupported))
	}
	return width, speed
}

func highest(mask uint8) uint8 {
	for bit := uint8(0x80); bit != 0; bit >>= 1 {
		if mask&bit != 0 {
			return bit
		}
	}
	return 0
}

// Lanes is the number of lanes of a LinkWidthActive (§14.2.5.6).
func Lanes(width uint8) int {
	switch width {
	case 1:
		return 1
	case 2:
		return 4
	case 4:
		return 8
	case 8:
		return 12
	case 16:
		return 2
	}
	return 0
}

// SpeedName names a LinkSpeedActive.
func SpeedName(speed uint8) string {
	switch speed {
	case 1:
		return "SDR"
	case 2:
		return "DDR"
	case 4:
		return "QDR"
	}
	return ""
}

// SpeedExtName names a LinkSpeedExtActive.
func SpeedExtName(speed uint8) string {
	switch speed {
	case 1:
		return "FDR"
	case 2:
		return "EDR"
	case 4:
		return "HDR"
	case 8:
		return "NDR"
	}
	return ""
}

// SpeedExt2Name names a LinkSpeedExtActive2.
func SpeedExt2Name(speed uint8) string {
	if speed == 1 {
		return "XDR"
	}
	return ""
}
