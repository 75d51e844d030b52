package agent

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"firstlight/provision/agent/api"
)

// SMBIOS structure types (DMTF DSP0134 3.7, §7).
const (
	smbiosBIOS   = 0
	smbiosSystem = 1
	smbiosMemory = 17
	smbiosEnd    = 127
)

// smbios is what ParseSMBIOS makes of the table.
type smbios struct {
	System api.System
	DIMMs  []api.DIMM
	Slots  int
}

// parseSMBIOS reads a structure table as /sys/firmware/dmi/tables/DMI holds
// it: types 0, 1 and 17. A table cut short gives what came before the cut,
// and an error.
func parseSMBIOS(table []byte) (smbios, error) {
	var found smbios
	for len(table) > 0 {
		s, rest, err := nextStructure(table)
		if err != nil {
			return found, err
		}
		switch s.kind {
		case smbiosBIOS:
			found.System.BIOSVersion = s.text(0x05)
		case smbiosSystem:
			found.System.Vendor = s.text(0x04)
			found.System.Product = s.text(0x05)
			found.System.Serial = s.text(0x07)
			found.System.UUID = s.uuid(0x08)
		case smbiosMemory:
			found.Slots++
			if d, ok := s.dimm(); ok {
				found.DIMMs = append(found.DIMMs, d)
			}
		case smbiosEnd:
			return found, nil
		}
		table = rest
	}
	return found, errors.New("SMBIOS table has no end structure (type 127): it may be cut short")
}

// structure is one of the table: formatted area and strings (§6.1.3).
type structure struct {
	kind    byte
	area    []byte // with its 4-byte header, so that offsets are the standard's
	strings []string
}

// nextStructure cuts the first structure off table.
func nextStructure(table []byte) (structure, []byte, error) {
	if len(table) < 4 {
		return structure{}, nil, fmt.Errorf("SMBIOS table ends within a header (%d bytes left)", len(table))
	}
	size := int(table[1])
	if size < 4 || size > len(table) {
		return structure{}, nil, fmt.Errorf("SMBIOS structure of type %d has length %d with %d bytes left", table[0], size, len(table))
	}
	s := structure{kind: table[0], area: table[:size]}
	rest := table[size:]
	// The set of strings ends with an empty one; without strings it is two zeros.
	for {
		end := strings.IndexByte(string(rest), 0)
		if end < 0 {
			return s, nil, fmt.Errorf("SMBIOS structure of type %d: strings do not end", s.kind)
		}
		if end == 0 {
			rest = rest[1:]
			if len(s.strings) == 0 {
				if len(rest) == 0 || rest[0] != 0 {
					return s, nil, fmt.Errorf("SMBIOS structure of type %d: strings do not end", s.kind)
				}
				rest = rest[1:]
			}
			return s, rest, nil
		}
		s.strings = append(s.strings, string(rest[:end]))
		rest = rest[end+1:]
	}
}

// text is the string whose number stands at offset; "" when there is none or
// when the vendor did not fill it in.
func (s structure) text(offset int) string {
	if offset >= len(s.area) {
		return ""
	}
	n := int(s.area[offset])
	if n == 0 || n > len(s.strings) {
		return ""
	}
	t := strings.TrimSpace(strings.ToValidUTF8(s.strings[n-1], "?"))
	switch strings.ToLower(t) {
	case "not specified", "to be filled by o.e.m.", "unknown", "none", "no dimm", "default string":
		return ""
	}
	return t
}

func (s structure) word(offset int) uint16 {
	if offset+2 > len(s.area) {
		return 0
	}
	return binary.LittleEndian.Uint16(s.area[offset:])
}

func (s structure) dword(offset int) uint32 {
	if offset+4 > len(s.area) {
		return 0
	}
	return binary.LittleEndian.Uint32(s.area[offset:])
}

// uuid is §7.2.1: the first three fields are little-endian. All zeros and all
// ones mean that there is none.
func (s structure) uuid(offset int) string {
	if offset+16 > len(s.area) {
		return ""
	}
	b := s.area[offset : offset+16]
	if t := string(b); t == strings.Repeat("\x00", 16) || t == strings.Repeat("\xff", 16) {
		return ""
	}
	return fmt.Sprintf("%08x-%04x-%04x-%x-%x", s.dword(offset), s.word(offset+4), s.word(offset+6), b[8:10], b[10:16])
}

// dimm is §7.18; ok is false for an empty slot.
func (s structure) dimm() (d api.DIMM, ok bool) {
	var size uint64
	switch n := s.word(0x0c); {
	case n == 0: // not installed
		return d, false
	case n == 0xffff: // installed, size unknown: counted, with no size
	case n == 0x7fff: // in the extended size, in MiB; bit 31 is reserved
		size = uint64(s.dword(0x1c)&0x7fffffff) << 20
	case n&0x8000 != 0:
		size = uint64(n&0x7fff) << 10
	default:
		size = uint64(n) << 20
	}
	speed := int(s.word(0x20)) // configured; 0 unknown, 0xffff in the extended field
	extended := 0x58
	if speed == 0 {
		speed, extended = int(s.word(0x15)), 0x54
	}
	if speed == 0xffff {
		speed = int(s.dword(extended) & 0x7fffffff)
	}
	return api.DIMM{
		Locator: s.text(0x10), Manufacturer: s.text(0x17), Serial: s.text(0x18), Part: s.text(0x1a),
		Size: size, SpeedMTs: speed,
	}, true
}
