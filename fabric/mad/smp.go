package mad

import (
	"encoding/binary"
	"fmt"
)

// DataSize is the length of an attribute's data in a subnet management packet
// (§14.2.1).
const DataSize = 64

// MaxHops is the most hops that a directed route can have: its paths have 64
// entries, and the first is not used (§14.2.1.2).
const MaxHops = 63

// SMP is a subnet management packet, by directed route (§14.2.1.2) or, where
// Class is ClassSubnLID, by LID (§14.2.1.1), which has no path.
type SMP struct {
	Header
	Returning bool   // the D bit: bit 15 of the status field
	HopPtr    uint8  // byte 6
	MKey      uint64 // bytes 24-31
	DrSLID    uint16 // bytes 32-33: where the directed route begins; permissive: at the sender
	DrDLID    uint16 // bytes 34-35: where it leads on by LID; permissive: it does not
	Data      [DataSize]byte
	Path      []byte // the port to leave each node by, the first being the sender's own; its length is the HopCount
	Return    []byte // of the same length, filled on the way
}

// offsets of an SMP's parts.
const (
	offMKey   = 24
	offDrLIDs = 32
	offData   = 64
	offPath   = 128
	offReturn = 192
)

// DirectedGet asks the node at the end of a path for an attribute.
func DirectedGet(tid uint64, path []byte, attr Attribute, modifier uint32) SMP {
	return SMP{
		Header: Header{Class: ClassSubnDirected, ClassVersion: 1, Method: MethodGet, TID: tid, Attribute: attr, Modifier: modifier},
		DrSLID: PermissiveLID, DrDLID: PermissiveLID,
		Path: path,
	}
}

// ParseSMP reads a subnet management packet.
func ParseSMP(b []byte) (SMP, error) {
	h, err := ParseHeader(b)
	if err != nil {
		return SMP{}, err
	}
	s := SMP{Header: h, MKey: binary.BigEndian.Uint64(b[offMKey:])}
	copy(s.Data[:], b[offData:])
	switch h.Class {
	case ClassSubnLID:
		return s, nil
	case ClassSubnDirected:
	default:
		return SMP{}, fmt.Errorf("MAD of class 0x%02x is not of subnet management", uint8(h.Class))
	}
	hops := int(b[7])
	if hops > MaxHops {
		return SMP{}, fmt.Errorf("directed route of %d hops; %d is the most", hops, MaxHops)
	}
	s.Returning = b[4]&(dBit>>8) != 0
	s.HopPtr = b[6]
	s.DrSLID = binary.BigEndian.Uint16(b[offDrLIDs:])
	s.DrDLID = binary.BigEndian.Uint16(b[offDrLIDs+2:])
	if hops > 0 {
		s.Path = append([]byte(nil), b[offPath+1:][:hops]...)
		s.Return = append([]byte(nil), b[offReturn+1:][:hops]...)
	}
	return s, nil
}

// AppendSMP writes it. A path longer than MaxHops is the caller's mistake and is cut.
func AppendSMP(b []byte, s SMP) []byte {
	begin := len(b)
	b = pad(s.Header.append(b), Size-24)
	m := b[begin:]
	binary.BigEndian.PutUint64(m[offMKey:], s.MKey)
	copy(m[offData:], s.Data[:])
	if s.Class != ClassSubnDirected {
		return b
	}
	if s.Returning {
		m[4] |= dBit >> 8
	}
	m[6] = s.HopPtr
	m[7] = byte(min(len(s.Path), MaxHops))
	binary.BigEndian.PutUint16(m[offDrLIDs:], s.DrSLID)
	binary.BigEndian.PutUint16(m[offDrLIDs+2:], s.DrDLID)
	copy(m[offPath+1:offReturn], s.Path)
	copy(m[offReturn+1:], s.Return)
	return b
}

// PutDirectedGet writes DirectedGet into m without an allocation; extra, where
// it is not zero, is one more hop.
func PutDirectedGet(m *[Size]byte, tid uint64, path []byte, extra byte, attr Attribute, modifier uint32) {
	clear(m[:])
	Header{Class: ClassSubnDirected, ClassVersion: 1, Method: MethodGet, TID: tid, Attribute: attr, Modifier: modifier}.append(m[:0])
	n := copy(m[offPath+1:offReturn], path)
	if extra != 0 && n < MaxHops {
		m[offPath+1+n] = extra
		n++
	}
	m[7] = byte(n)
	binary.BigEndian.PutUint16(m[offDrLIDs:], PermissiveLID)
	binary.BigEndian.PutUint16(m[offDrLIDs+2:], PermissiveLID)
}

// PerfDataSize is the length of an attribute's data in a MAD of performance
// management (§16.1.1).
const PerfDataSize = Size - offData

// PutPerfGet writes into m the question for a performance attribute of one
// port (§16.1.1, and PortSelect of §16.1.3.5 and §16.1.4.11).
func PutPerfGet(m *[Size]byte, tid uint64, attr Attribute, port uint8) {
	clear(m[:])
	Header{Class: ClassPerf, ClassVersion: 1, Method: MethodGet, TID: tid, Attribute: attr}.append(m[:0])
	m[offData+1] = port
}

// SubnData is the data of a subnet management packet, unparsed.
func SubnData(m *[Size]byte) []byte { return m[offData:offPath] }

// PerfData is the data of a MAD of performance management, unparsed.
func PerfData(m *[Size]byte) []byte { return m[offData:] }
