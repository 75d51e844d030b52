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
	table, err := fs.smbios()
	note("smbios", err)
	found.System = table.System
	found.CPU, err = fs.cpu()
	note("cpu", err)
	found.Memory, err = fs.memory(table)
	note("memory", err)
	found.PCI = fs.pci()
	found.GPUs = gpus(found.PCI)
	found.NICs = fs.nics()
	if fs.Live() {
		note("nics", addFirmware(found.NICs))
		found.BMC, err = bmcInBand(ctx)
		note("bmc", err)
	}
	found.RDMA = fs.rdma()
	found.Disks = fs.disks()
	found.BootMode = "bios"
	if fs.exists("sys/firmware/efi") {
		found.BootMode = "uefi"
	}
	found.Kernel = fs.line("proc/sys/kernel/osrelease")
	return found
}

// smbios reads the table of /sys/firmware/dmi/tables/DMI. A machine without
// SMBIOS (most of arm64's small ones) is an error too: nothing else names the
// machine's serial number.
func (fs FS) smbios() (smbios, error) {
	b, err := fs.read("sys/firmware/dmi/tables/DMI")
	if err != nil {
		return smbios{}, err
	}
	return parseSMBIOS(b)
}
