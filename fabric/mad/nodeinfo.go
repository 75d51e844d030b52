package mad

import (
	"encoding/binary"
	"fmt"
	"strings"
	"unicode"
)

// NodeType is NodeInfo.NodeType (§14.2.5.3).
type NodeType uint8

// The types of node.
const (
	NodeCA     NodeType = 1
	NodeSwitch NodeType = 2
	NodeRouter NodeType = 3
)

// NodeInfo is the attribute of that name (§14.2.5.3).
type NodeInfo struct {
	BaseVersion  uint8    // byte 0
	ClassVersion uint8    // byte 1
	Type         NodeType // byte 2
	NumPorts     uint8    // byte 3; without port 0 of a switch
	SystemGUID   uint64   // bytes 4-11: SystemImageGUID
	NodeGUID     uint64   // bytes 12-19
	PortGUID     uint64   // bytes 20-27: of the port that the question came in by; of a switch, of port 0
	PartitionCap uint16   // bytes 28-29: entries of each port's P_Key table
	DeviceID     uint16   // bytes 30-31
	Revision     uint32   // bytes 32-35
	LocalPort    uint8    // byte 36: LocalPortNum, that the question came in by
	VendorID     uint32   // bytes 37-39
}

// ParseNodeInfo reads the attribute's data.
func ParseNodeInfo(b []byte) (NodeInfo, error) {
	if len(b) != DataSize {
		return NodeInfo{}, short("NodeInfo", b, DataSize)
	}
	word := binary.BigEndian.Uint32(b[36:])
	n := NodeInfo{
		BaseVersion: b[0], ClassVersion: b[1], Type: NodeType(b[2]), NumPorts: b[3],
		SystemGUID:   binary.BigEndian.Uint64(b[4:]),
		NodeGUID:     binary.BigEndian.Uint64(b[12:]),
		PortGUID:     binary.BigEndian.Uint64(b[20:]),
		PartitionCap: binary.BigEndian.Uint16(b[28:]),
		DeviceID:     binary.BigEndian.Uint16(b[30:]),
		Revision:     binary.BigEndian.Uint32(b[32:]),
		LocalPort:    uint8(word >> 24),
		VendorID:     word & 0xffffff,
	}
	if n.Type < NodeCA || n.Type > NodeRouter {
		return NodeInfo{}, fmt.Errorf("NodeInfo of node type %d; there are 1 to 3", b[2])
	}
	return n, nil
}

// AppendNodeInfo writes the attribute's data.
func AppendNodeInfo(b []byte, n NodeInfo) []byte {
	b = append(b, n.BaseVersion, n.ClassVersion, byte(n.Type), n.NumPorts)
	b = binary.BigEndian.AppendUint64(b, n.SystemGUID)
	b = binary.BigEndian.AppendUint64(b, n.NodeGUID)
	b = binary.BigEndian.AppendUint64(b, n.PortGUID)
	b = binary.BigEndian.AppendUint16(b, n.PartitionCap)
	b = binary.BigEndian.AppendUint16(b, n.DeviceID)
	b = binary.BigEndian.AppendUint32(b, n.Revision)
	b = binary.BigEndian.AppendUint32(b, uint32(n.LocalPort)<<24|n.VendorID&0xffffff)
	return pad(b, DataSize-40)
}

// ParseNodeDescription reads the attribute of that name (§14.2.5.2): UTF-8,
// filled up with zeros. What a terminal should not be shown is replaced.
func ParseNodeDescription(b []byte) (string, error) {
	if len(b) != DataSize {
		return "", short("NodeDescription", b, DataSize)
	}
	text, _, _ := strings.Cut(string(b), "\x00")
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, strings.ToValidUTF8(text, string(unicode.ReplacementChar)))
	return strings.TrimSpace(text), nil
}

// AppendNodeDescription writes the attribute's data; what is too long is cut.
func AppendNodeDescription(b []byte, text string) []byte {
	text = text[:min(len(text), DataSize)]
	return pad(append(b, text...), DataSize-len(text))
}

// SwitchInfo is the attribute of that name (§14.2.5.4).
type SwitchInfo struct {
	LinearFDBCap        uint16 // bytes 0-1
	RandomFDBCap        uint16 // bytes 2-3
	MulticastFDBCap     uint16 // bytes 4-5
	LinearFDBTop        uint16 // bytes 6-7: the highest LID that is routed
	DefaultPort         uint8  // byte 8
	LifeTimeValue       uint8  // byte 11, bits 7-3
	PortStateChange     bool   // byte 11, bit 2: a port's state changed since the subnet manager cleared it
	LIDsPerPort         uint16 // bytes 12-13
	PartitionEnforceCap uint16 // bytes 14-15: entries of each external port's P_Key table
	EnforceCaps         uint8  // byte 16, bits 7-4: InboundEnforcementCap, OutboundEnforcementCap, FilterRawInboundCap, FilterRawOutboundCap
	EnhancedPort0       bool   // byte 16, bit 3
	MulticastFDBTop     uint16 // bytes 18-19
}

// ParseSwitchInfo reads the attribute's data.
func ParseSwitchInfo(b []byte) (SwitchInfo, error) {
	if len(b) != DataSize {
		return SwitchInfo{}, short("SwitchInfo", b, DataSize)
	}
	return SwitchInfo{
		LinearFDBCap:        binary.BigEndian.Uint16(b),
		RandomFDBCap:        binary.BigEndian.Uint16(b[2:]),
		MulticastFDBCap:     binary.BigEndian.Uint16(b[4:]),
		LinearFDBTop:        binary.BigEndian.Uint16(b[6:]),
		DefaultPort:         b[8],
		LifeTimeValue:       b[11] >> 3,
		PortStateChange:     b[11]&0x04 != 0,
		LIDsPerPort:         binary.BigEndian.Uint16(b[12:]),
		PartitionEnforceCap: binary.BigEndian.Uint16(b[14:]),
		EnforceCaps:         b[16] >> 4,
		EnhancedPort0:       b[16]&0x08 != 0,
		MulticastFDBTop:     binary.BigEndian.Uint16(b[18:]),
	}, nil
}

// AppendSwitchInfo writes the attribute's data.
func AppendSwitchInfo(b []byte, s SwitchInfo) []byte {
	b = binary.BigEndian.AppendUint16(b, s.LinearFDBCap)
	b = binary.BigEndian.AppendUint16(b, s.RandomFDBCap)
	b = binary.BigEndian.AppendUint16(b, s.MulticastFDBCap)
	b = binary.BigEndian.AppendUint16(b, s.LinearFDBTop)
	b = append(b, s.DefaultPort, 0, 0, s.LifeTimeValue<<3|bit(s.PortStateChange, 2))
	b = binary.BigEndian.AppendUint16(b, s.LIDsPerPort)
	b = binary.BigEndian.AppendUint16(b, s.PartitionEnforceCap)
	b = append(b, s.EnforceCaps<<4|bit(s.EnhancedPort0, 3), 0)
	b = binary.BigEndian.AppendUint16(b, s.MulticastFDBTop)
	return pad(b, DataSize-20)
}

// bit is 1<<n where set.
func bit(set bool, n int) byte {
	if set {
		return 1 << n
	}
	return 0
}

// SMState is SMInfo.SMState (§14.2.5.13).
type SMState uint8

// The states of a subnet manager.
const (
	SMNotActive   SMState = 0
	SMDiscovering SMState = 1
	SMStandby     SMState = 2
	SMMaster      SMState = 3
)

// SMInfo is the attribute of that name (§14.2.5.13), of a port where a subnet
// manager runs.
type SMInfo struct {
	GUID     uint64  // bytes 0-7: of the port
	SMKey    uint64  // bytes 8-15
	ActCount uint32  // bytes 16-19: grows while the manager lives
	Priority uint8   // byte 20, bits 7-4
	State    SMState // byte 20, bits 3-0
}

// ParseSMInfo reads the attribute's data.
func ParseSMInfo(b []byte) (SMInfo, error) {
	if len(b) != DataSize {
		return SMInfo{}, short("SMInfo", b, DataSize)
	}
	return SMInfo{
		GUID:     binary.BigEndian.Uint64(b),
		SMKey:    binary.BigEndian.Uint64(b[8:]),
		ActCount: binary.BigEndian.Uint32(b[16:]),
		Priority: b[20] >> 4,
		State:    SMState(b[20] & 0x0f),
	}, nil
}

// AppendSMInfo writes the attribute's data.
func AppendSMInfo(b []byte, s SMInfo) []byte {
	b = binary.BigEndian.AppendUint64(b, s.GUID)
	b = binary.BigEndian.AppendUint64(b, s.SMKey)
	b = binary.BigEndian.AppendUint32(b, s.ActCount)
	b = append(b, s.Priority<<4|byte(s.State)&0x0f)
	return pad(b, DataSize-21)
}

// PKeyTable is a block of the attribute P_KeyTable (§14.2.5.7): 32 partition
// keys. The modifier has the port of a switch in its upper half and the block
// in its lower.
type PKeyTable [32]uint16

// ParsePKeyTable reads the attribute's data.
func ParsePKeyTable(b []byte) (PKeyTable, error) {
	var t PKeyTable
	if len(b) != DataSize {
		return t, short("P_KeyTable", b, DataSize)
	}
	for i := range t {
		t[i] = binary.BigEndian.Uint16(b[2*i:])
	}
	return t, nil
}

// AppendPKeyTable writes the attribute's data.
func AppendPKeyTable(b []byte, t PKeyTable) []byte {
	for _, key := range t {
		b = binary.BigEndian.AppendUint16(b, key)
	}
	return b
}

// LinearForwardingTable is a block of the attribute of that name (§14.2.5.9):
// the port for each of 64 LIDs, 255 being none. The modifier is the block.
type LinearForwardingTable [DataSize]uint8

// ParseLinearForwardingTable reads the attribute's data.
func ParseLinearForwardingTable(b []byte) (LinearForwardingTable, error) {
	if len(b) != DataSize {
		return LinearForwardingTable{}, short("LinearForwardingTable", b, DataSize)
	}
	return LinearForwardingTable(b), nil
}

// AppendLinearForwardingTable writes the attribute's data.
func AppendLinearForwardingTable(b []byte, t LinearForwardingTable) []byte {
	return append(b, t[:]...)
}
