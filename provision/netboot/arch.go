package netboot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/insomniacslk/dhcp/iana"
)

// Arch is a firmware architecture that a loader is for.
type Arch string

// The architectures of option 93 that firstlight boots.
const (
	ArchBIOS  Arch = "bios"
	ArchIA32  Arch = "ia32"
	ArchX64   Arch = "x64"
	ArchARM64 Arch = "arm64"
)

// firmware is what a code of option 93 means.
type firmware struct {
	arch Arch
	http bool // UEFI HTTP boot: the boot file is a URL
}

// firmwareOf is the IANA registry "Processor Architecture Types" (RFC 5970
// §3.3) as firmware uses it: 9 was once meant for x64 and some still send it;
// 15 is registered for IA32 over HTTP, but no IA32 server boots over HTTP and
// x64 machines have been seen to send it.
func firmwareOf(code iana.Arch) (firmware, bool) {
	switch code {
	case 0:
		return firmware{arch: ArchBIOS}, true
	case 6:
		return firmware{arch: ArchIA32}, true
	case 7, 9:
		return firmware{arch: ArchX64}, true
	case 11:
		return firmware{arch: ArchARM64}, true
	case 15, 16:
		return firmware{arch: ArchX64, http: true}, true
	case 19:
		return firmware{arch: ArchARM64, http: true}, true
	}
	return firmware{}, false
}

// DefaultLoaders are those of Debian's package ipxe. snponly.efi uses the
// firmware's own driver of the NIC that it was started from, so it needs no
// driver for each NIC and never starts on another port.
func DefaultLoaders() map[Arch]Loader {
	return map[Arch]Loader{
		ArchBIOS: {Name: "undionly.kpxe", Path: "/usr/lib/ipxe/undionly.kpxe"},
		ArchX64:  {Name: "snponly.efi", Path: "/usr/lib/ipxe/snponly.efi"},
	}
}

// readLoaders returns the content of each loader by its name.
func readLoaders(loaders map[Arch]Loader) (map[string][]byte, error) {
	files := make(map[string][]byte, len(loaders))
	var errs []error
	for arch, l := range loaders {
		if l.Name == "" || l.Name != filepath.Base(l.Name) {
			errs = append(errs, fmt.Errorf("boot loader for %s: name %q must be a plain file name", arch, l.Name))
			continue
		}
		data, err := os.ReadFile(l.Path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			errs = append(errs, fmt.Errorf("boot loader for %s: %w: install Debian's package ipxe (apt-get install ipxe)", arch, err))
		case err != nil:
			errs = append(errs, fmt.Errorf("boot loader for %s: %w", arch, err))
		case len(data) == 0:
			errs = append(errs, fmt.Errorf("boot loader for %s: %s is empty: reinstall Debian's package ipxe", arch, l.Path))
		default:
			files[l.Name] = data
		}
	}
	slices.SortFunc(errs, func(a, b error) int {
		if a.Error() < b.Error() {
			return -1
		}
		return 1
	})
	return files, errors.Join(errs...)
}
