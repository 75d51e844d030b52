package simrack

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

// smbiosTable makes a structure table as /sys/firmware/dmi/tables/DMI holds it
// (DMTF DSP0134 3.7, §7): types 0, 1, one 17 for each slot, and the end. A DIMM
// of no size is an empty slot.
func smbiosTable(vendor, product, serial string, dimms []uint64) []byte {
	id := sha256.Sum256([]byte(serial))
	table := structure(0, []byte{0, 1, 0, 0, 0}, "simulated")
	table = append(table, structure(1, append([]byte{1, 2, 0, 3}, id[:16]...), orUnknown(vendor), orUnknown(product), orUnknown(serial))...)
	for i, size := range dimms {
		table = append(table, memoryDevice(fmt.Sprintf("DIMM %d", i+1), size)...)
	}
	return append(table, structure(127, nil)...)
}

func orUnknown(s string) string {
	if s == "" {
		return "Unknown"
	}
	return s
}

// memoryDevice is type 17 of SMBIOS 3.3 and later; a size over 32 GiB goes into
// the extended field.
func memoryDevice(locator string, size uint64) []byte {
	area := make([]byte, 0x5c-4)
	at := func(offset int) []byte { return area[offset-4:] }
	mib := size >> 20
	switch {
	case mib >= 0x7fff:
		binary.LittleEndian.PutUint16(at(0x0c), 0x7fff)
		binary.LittleEndian.PutUint32(at(0x1c), uint32(mib))
	default:
		binary.LittleEndian.PutUint16(at(0x0c), uint16(mib))
	}
	at(0x10)[0], at(0x17)[0], at(0x18)[0] = 1, 2, 3
	binary.LittleEndian.PutUint16(at(0x20), 5600)
	return structure(17, area, locator, "Simulated", "M-"+locator)
}

// structure is header, formatted area and strings (§6.1.3).
func structure(kind byte, area []byte, text ...string) []byte {
	s := append([]byte{kind, byte(4 + len(area)), 0, 0}, area...)
	for _, t := range text {
		s = append(append(s, t...), 0)
	}
	if len(text) == 0 {
		s = append(s, 0)
	}
	return append(s, 0)
}
