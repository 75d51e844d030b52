// Package mad implements the management datagrams of InfiniBand that a fabric
// is read with: subnet management packets by directed route and by LID, and
// performance management (IBTA volume 1, release 1.7, chapters 13, 14 and 16),
// and two ways to send them: the kernel's umad devices and the simulator ibsim.
//
// The codecs are pure. Parse functions take the bytes of one attribute and
// check their length first; Append functions give what the parse function of
// the same name reads, with reserved bits zero.
package mad

import (
	"encoding/binary"
	"fmt"
)

// Size is the length of every MAD (§13.4.2).
const Size = 256

// Class is the MgmtClass of a MAD (§13.4.4, table 111).
type Class uint8

// The classes in use here.
const (
	ClassSubnLID      Class = 0x01
	ClassSubnDirected Class = 0x81
	ClassPerf         Class = 0x04
)

// Method is the Method of a MAD (§13.4.5, table 113).
type Method uint8

// The methods in use here.
const (
	MethodGet     Method = 0x01
	MethodSet     Method = 0x02
	MethodGetResp Method = 0x81
)

// Attribute is the AttributeID of a MAD: what the class has by that number.
type Attribute uint16

// Attributes of subnet management (§14.2.5, table 130).
const (
	AttrNodeDescription       Attribute = 0x0010
	AttrNodeInfo              Attribute = 0x0011
	AttrSwitchInfo            Attribute = 0x0012
	AttrPortInfo              Attribute = 0x0015
	AttrPKeyTable             Attribute = 0x0016
	AttrLinearForwardingTable Attribute = 0x0019
	AttrSMInfo                Attribute = 0x0020
)

// Attributes of performance management (§16.1.2, table 242).
const (
	AttrClassPortInfo        Attribute = 0x0001 // §13.4.8.1
	AttrPortCounters         Attribute = 0x0012 // §16.1.3.5
	AttrPortCountersExtended Attribute = 0x001d // §16.1.4.11
)

// Queue pairs and the key of the general services (§3.9.2, §10.2.4).
const (
	QPSubnet  uint32 = 0
	QPGeneral uint32 = 1
	QKey      uint32 = 0x80010000
)

// PermissiveLID is the LID of whoever is at the other end of a directed route (§4.1.3).
const PermissiveLID uint16 = 0xffff

// Header is the common header of a MAD (§13.4.3). Of a directed route SMP the
// D bit and the hop fields are in its SMP.
type Header struct {
	Class        Class     // byte 1
	ClassVersion uint8     // byte 2
	Method       Method    // byte 3
	Status       Status    // bytes 4-5
	TID          uint64    // bytes 8-15; the upper half belongs to the transport
	Attribute    Attribute // bytes 16-17
	Modifier     uint32    // bytes 20-23
}

// headerSize is the length of the common header (§13.4.3).
const headerSize = 24

// baseVersion is that of every MAD (§13.4.3).
const baseVersion = 1

// dBit marks a directed route SMP on its way back (§14.2.1.2).
const dBit = 0x8000

// ParseHeader reads the common header.
func ParseHeader(b []byte) (Header, error) {
	if len(b) != Size {
		return Header{}, fmt.Errorf("a MAD has %d bytes, not %d", Size, len(b))
	}
	if b[0] != baseVersion {
		return Header{}, fmt.Errorf("MAD of base version %d; only %d is known", b[0], baseVersion)
	}
	h := Header{
		Class:        Class(b[1]),
		ClassVersion: b[2],
		Method:       Method(b[3]),
		Status:       Status(binary.BigEndian.Uint16(b[4:])),
		TID:          binary.BigEndian.Uint64(b[8:]),
		Attribute:    Attribute(binary.BigEndian.Uint16(b[16:])),
		Modifier:     binary.BigEndian.Uint32(b[20:]),
	}
	if h.Class == ClassSubnDirected {
		h.Status &^= dBit
	}
	return h, nil
}

// append writes the 24 bytes of the header.
func (h Header) append(b []byte) []byte {
	b = append(b, baseVersion, byte(h.Class), h.ClassVersion, byte(h.Method))
	b = binary.BigEndian.AppendUint16(b, uint16(h.Status))
	b = append(b, 0, 0)
	b = binary.BigEndian.AppendUint64(b, h.TID)
	b = binary.BigEndian.AppendUint16(b, uint16(h.Attribute))
	b = append(b, 0, 0)
	return binary.BigEndian.AppendUint32(b, h.Modifier)
}

// Status is the Status of a reply (§13.4.7, table 115); zero is success.
type Status uint16

// The parts of a status.
const (
	StatusBusy     Status = 0x0001
	StatusRedirect Status = 0x0002
	statusInvalid  Status = 0x001c // code for invalid fields, shifted left by 2
)

// Unsupported reports that the other side does not know the class, the method
// or the attribute: asking again gives the same.
func (s Status) Unsupported() bool {
	code := (s & statusInvalid) >> 2
	return code >= 1 && code <= 3
}

func (s Status) String() string {
	switch (s & statusInvalid) >> 2 {
	case 1:
		return "bad version of the class"
	case 2:
		return "method not supported"
	case 3:
		return "method or attribute not supported"
	case 7:
		return "invalid attribute or modifier"
	}
	switch {
	case s&StatusBusy != 0:
		return "busy"
	case s&StatusRedirect != 0:
		return "redirected"
	case s == 0:
		return "success"
	}
	return fmt.Sprintf("status 0x%04x", uint16(s))
}

// short is the error of an attribute that is cut off.
func short(what string, b []byte, want int) error {
	return fmt.Errorf("%s has %d bytes, not %d", what, want, len(b))
}

// pad appends n zero bytes.
func pad(b []byte, n int) []byte {
	return append(b, make([]byte, n)...)
}

// String names an attribute of subnet management.
func (a Attribute) String() string {
	switch a {
	case AttrNodeDescription:
		return "NodeDescription"
	case AttrNodeInfo:
		return "NodeInfo"
	case AttrSwitchInfo:
		return "SwitchInfo"
	case AttrPortInfo:
		return "PortInfo"
	case AttrPKeyTable:
		return "P_KeyTable"
	case AttrLinearForwardingTable:
		return "LinearForwardingTable"
	case AttrSMInfo:
		return "SMInfo"
	}
	return fmt.Sprintf("attribute 0x%04x", uint16(a))
}

// PerfName names an attribute of performance management, whose numbers are
// those of others in subnet management.
func PerfName(a Attribute) string {
	switch a {
	case AttrClassPortInfo:
		return "ClassPortInfo"
	case AttrPortCounters:
		return "PortCounters"
	case AttrPortCountersExtended:
		return "PortCountersExtended"
	}
	return fmt.Sprintf("attribute 0x%04x", uint16(a))
}
