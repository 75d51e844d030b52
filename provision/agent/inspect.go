package agent

import (
	"context"

	"firstlight/provision/agent/api"
)

// Inspect reads what hardware fs has. It reads only; what could not be read
// is in Inspection.Errors under the name of its part.
func Inspect(ctx context.Context, fs FS) api.Inspection {
	found := api.Inspection{Errors: map[string]string{}}
	note := func(part string, err error) {
		if err != nil {
			found.Errors[part] = err.Error()
		}
	}
	found.PCI = fs.pci()
	found.GPUs = gpus(found.PCI)
	found.NICs = fs.nics()
	if fs.Live() {
		note("nics", addFirmware(found.NICs))
	}
	found.BootMode = "bios"
	if fs.exists("sys/firmware/efi") {
		found.BootMode = "uefi"
	}
	found.Kernel = fs.line("proc/sys/kernel/osrelease")
	return found
}
