package netboot

import (
	"fmt"
	"path"
	"strings"
)

// tokenArchive returns a cpio archive in "newc" format (Linux
// Documentation/driver-api/early-userspace/buffer-format.rst) that holds one
// file, readable by root only, and the directories above it. The kernel
// unpacks it over the initramfs before it.
func tokenArchive(name, content string) []byte {
	name = strings.TrimPrefix(path.Clean(name), "/")
	var b []byte
	ino := 1
	for i, c := range name {
		if c == '/' {
			b = appendCPIO(b, ino, 0o040755, name[:i], "")
			ino++
		}
	}
	b = appendCPIO(b, ino, 0o100400, name, content)
	b = appendCPIO(b, 0, 0, "TRAILER!!!", "")
	for len(b)%512 != 0 {
		b = append(b, 0)
	}
	return b
}

// appendCPIO appends one entry: 13 fields of 8 hexadecimal digits after the
// magic, the name with its NUL, and the content, each padded to 4 bytes.
func appendCPIO(b []byte, ino, mode int, name, content string) []byte {
	b = fmt.Appendf(b, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
		ino, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name)+1, 0)
	b = append(append(b, name...), 0)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	b = append(b, content...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}
