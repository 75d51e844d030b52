package vm

import (
	"encoding/binary"
	"fmt"
)

// smbiosDIMM is the n-th of count memory devices that share the machine's
// memory: one SMBIOS structure of type 17 (DSP0134 §7.18), with the length 0x28
// of SMBIOS 2.8. QEMU puts it in the place of those that it would make itself,
// one per 16 GiB. Sizes are whole MiB; the last device has the remainder.
func smbiosDIMM(n, count int, total int64) []byte {
	each := total / int64(count) >> 20
	if n == count-1 {
		each = total>>20 - each*int64(n)
	}
	b := make([]byte, 0x28)
	b[0], b[1] = 17, byte(len(b))
	le := binary.LittleEndian
	le.PutUint16(b[0x02:], 0x1100+uint16(n)) // handle
	le.PutUint16(b[0x04:], 0x1000)           // the array's handle in QEMU's tables
	le.PutUint16(b[0x06:], 0xfffe)           // no error information
	le.PutUint16(b[0x08:], 64)               // total width
	le.PutUint16(b[0x0a:], 64)               // data width
	if each < 0x7fff {
		le.PutUint16(b[0x0c:], uint16(each))
	} else {
		le.PutUint16(b[0x0c:], 0x7fff) // see the extended size
		le.PutUint32(b[0x1c:], uint32(each))
	}
	b[0x0e] = 9                  // form factor: DIMM
	b[0x10] = 1                  // string 1: where it sits
	b[0x12] = 0x07               // type: RAM
	le.PutUint16(b[0x13:], 0x02) // type detail: other
	b[0x17] = 2                  // string 2: manufacturer
	b[0x18] = 3                  // string 3: serial number
	return append(b, fmt.Sprintf("DIMM %d\x00firstlight\x00LAB-%04d\x00\x00", n, n)...)
}
