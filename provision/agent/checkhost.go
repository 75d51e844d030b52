package agent

import (
	"encoding/binary"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"firstlight/provision/agent/api"
)

// Sources of the checks of a training node's host side.
const (
	governorSource  = "Linux Documentation/admin-guide/pm/cpufreq.rst: other governors lower the clock of a CPU that waits for its GPU"
	iommuSource     = "NVIDIA GPUDirect Storage and RDMA documentation: translated transfers between devices go up to the CPU"
	acsSource       = "PCI Express Base Specification 6.12: redirected transfers between two devices go up to the CPU and back"
	gpuNUMASource   = firstlightOwn + "a process is bound to the socket of its GPU; without a node it cannot be"
	affinitySource  = firstlightOwn + "a GPU without an adapter on its switch sends over the CPU, while its peers do not"
	linkSource      = "PCI Express Base Specification 4.2: a link that trained below what both ends can do has a bad lane"
	dimmSource      = firstlightOwn + "a class has DIMMs of one kind; one that differs slows the whole channel"
	smartSource     = "NVM Express Base Specification, SMART / Health Information (log page 02h)"
	gpudirectSource = "NVIDIA GPUDirect RDMA documentation: adapters reach GPU memory through nvidia_peermem, or dma-buf of the open kernel modules"
)

// checkHost judges the host side of a training node. accelerators are its GPUs:
// of a node that has none, nothing is asked.
func (fs FS) checkHost(accelerators []api.PCIDevice) []api.Check {
	if len(accelerators) == 0 {
		return nil
	}
	devices, adapters := fs.pci(), fs.rdma()
	checks := []api.Check{fs.checkGovernor(), fs.checkIOMMU(accelerators, adapters), fs.checkACS(accelerators, adapters), fs.checkGPUNUMA(accelerators),
		fs.checkAffinity(accelerators, adapters), fs.checkGPUDirect(adapters), fs.checkDIMMs()}
	checks = append(checks, fs.checkLinks(devices)...)
	return append(checks, fs.checkSMART()...)
}

// checkGovernor wants every CPU at full clock.
func (fs FS) checkGovernor() api.Check {
	c := api.Check{Name: "cpu.governor", Verdict: pass, Threshold: "performance on every CPU", Source: governorSource, Part: "CPUs"}
	count := map[string]int{}
	var other []string
	for _, cpu := range fs.names("sys/devices/system/cpu") {
		if !strings.HasPrefix(cpu, "cpu") || strings.Trim(cpu[3:], "0123456789") != "" {
			continue
		}
		g := fs.line("sys/devices/system/cpu/" + cpu + "/cpufreq/scaling_governor")
		if g == "" {
			continue
		}
		if count[g]++; g != "performance" {
			other = append(other, cpu)
		}
	}
	switch {
	case len(count) == 0:
		c.Verdict, c.Reading = notApplicable, "the kernel does not govern the clock: firmware or a hypervisor does"
	case len(other) > 0:
		c.Verdict = fail
		c.Part = "CPUs: cpupower frequency-set -g performance"
		c.Reading = fmt.Sprintf("%s on %s and %d more", fs.line("sys/devices/system/cpu/"+other[0]+"/cpufreq/scaling_governor"), other[0], len(other)-1)
	default:
		c.Reading = fmt.Sprintf("performance on %d", count["performance"])
	}
	return c
}

// checkIOMMU wants transfers of GPUs and adapters untranslated.
func (fs FS) checkIOMMU(accelerators []api.PCIDevice, adapters []api.RDMADevice) api.Check {
	c := api.Check{Name: "pcie.iommu", Verdict: pass, Threshold: "off, or identity (iommu=pt) for GPUs and adapters", Source: iommuSource, Part: "kernel command line"}
	if len(fs.names("sys/kernel/iommu_groups")) == 0 {
		c.Reading = "off"
		return c
	}
	kinds := map[string]int{}
	for _, address := range endpoints(accelerators, adapters) {
		kind := fs.line("sys/bus/pci/devices/" + address + "/iommu_group/type")
		if kinds[kind]++; kind != "" && kind != "identity" && c.Verdict == pass {
			c.Verdict, c.Reading, c.Part = fail, fmt.Sprintf("%s for %s", kind, address), "kernel command line: add iommu=pt"
		}
	}
	switch {
	case c.Verdict == fail:
	case kinds[""] > 0:
		c.Verdict, c.Reading = notRun, fmt.Sprintf("the kernel does not say for %d devices", kinds[""])
	default:
		c.Reading = fmt.Sprintf("identity for %d devices", kinds["identity"])
	}
	return c
}

// endpoints are the PCI addresses of GPUs and adapters.
func endpoints(accelerators []api.PCIDevice, adapters []api.RDMADevice) []string {
	var out []string
	for _, g := range accelerators {
		out = append(out, g.Address)
	}
	for _, a := range adapters {
		if a.PCI != "" {
			out = append(out, a.PCI)
		}
	}
	return out
}

// above are the bridges over a PCI function, from the root port down.
func (fs FS) above(address string) []string {
	to, err := filepath.EvalSymlinks(fs.Path("sys/bus/pci/devices/" + address))
	if err != nil {
		return nil
	}
	var out []string
	for _, part := range strings.Split(filepath.Dir(to), "/") {
		if pciAddress.MatchString(part) {
			out = append(out, part)
		}
	}
	return out
}

// Access Control Services, an extended capability (PCI Express Base 7.7.11).
const (
	acsCapability = 0x0d
	acsRedirect   = 0x04 | 0x08 | 0x10 // request redirect, completion redirect, upstream forwarding
)

// acs is the control register of a bridge. ok is false when its configuration
// cannot be read as a whole; has, when it has no such capability.
func acs(config []byte) (control uint16, has, ok bool) {
	if len(config) < 4096 {
		return 0, false, false
	}
	// Bounded by what fits, in case the list of capabilities is a loop.
	for at, n := 0x100, 0; at >= 0x100 && at+8 <= len(config) && n < 1024; n++ {
		head := binary.LittleEndian.Uint32(config[at:])
		if head&0xffff == acsCapability {
			return binary.LittleEndian.Uint16(config[at+6:]), true, true
		}
		at = int(head >> 20)
	}
	return 0, false, true
}

// checkACS finds bridges over GPUs and adapters that send transfers between two
// devices up to the CPU.
func (fs FS) checkACS(accelerators []api.PCIDevice, adapters []api.RDMADevice) api.Check {
	c := api.Check{Name: "pcie.acs", Verdict: pass, Threshold: "no redirection in bridges over GPUs and adapters", Source: acsSource, Part: "PCIe bridges"}
	var bridges, redirect, unread []string
	for _, address := range endpoints(accelerators, adapters) {
		bridges = append(bridges, fs.above(address)...)
	}
	slices.Sort(bridges)
	bridges = slices.Compact(bridges)
	for _, b := range bridges {
		config, err := fs.read("sys/bus/pci/devices/" + b + "/config")
		control, has, ok := acs(config)
		switch {
		case err != nil || !ok:
			unread = append(unread, b)
		case has && control&acsRedirect != 0:
			redirect = append(redirect, b)
		}
	}
	switch {
	case len(redirect) > 0:
		c.Verdict, c.Part = fail, "PCIe bridges "+strings.Join(redirect, ", ")+": turn ACS off in the firmware's setup"
		c.Reading = fmt.Sprintf("redirection in %d of %d bridges", len(redirect), len(bridges))
	case len(unread) > 0:
		c.Verdict, c.Reading = notRun, fmt.Sprintf("configuration of %d of %d bridges cannot be read: run as root", len(unread), len(bridges))
	default:
		c.Reading = fmt.Sprintf("off in %d bridges", len(bridges))
	}
	return c
}

// checkGPUNUMA wants each GPU to belong to a socket, where there are several.
func (fs FS) checkGPUNUMA(accelerators []api.PCIDevice) api.Check {
	c := api.Check{Name: "pcie.numa", Verdict: pass, Threshold: "a NUMA node for every GPU", Source: gpuNUMASource, Part: "GPUs"}
	online, err := cpuList(fs.line("sys/devices/system/node/online"))
	if err != nil || len(online) < 2 {
		c.Verdict, c.Reading = notApplicable, "one NUMA node"
		return c
	}
	var list, none []string
	for _, g := range accelerators {
		if list = append(list, strconv.Itoa(g.NUMA)); g.NUMA < 0 {
			none = append(none, g.Address)
		}
	}
	c.Reading = "nodes " + strings.Join(list, " ")
	if len(none) > 0 {
		c.Verdict, c.Part = fail, "GPU "+strings.Join(none, ", ")+": the firmware does not say to which socket it belongs"
	}
	return c
}

// checkAffinity wants an adapter on the PCIe switch of every GPU, where any GPU
// has one.
func (fs FS) checkAffinity(accelerators []api.PCIDevice, adapters []api.RDMADevice) api.Check {
	c := api.Check{Name: "pcie.affinity", Verdict: pass, Threshold: "an adapter on the PCIe switch of every GPU", Source: affinitySource, Part: "GPUs and adapters"}
	roots := map[string][]string{} // root port -> adapters
	for _, a := range adapters {
		if up := fs.above(a.PCI); len(up) > 0 {
			roots[up[0]] = append(roots[up[0]], a.Name)
		}
	}
	var pairs, alone []string
	for i, g := range accelerators {
		up := fs.above(g.Address)
		if len(up) == 0 || roots[up[0]] == nil {
			alone = append(alone, g.Address)
			continue
		}
		pairs = append(pairs, fmt.Sprintf("GPU %d %s", i, strings.Join(roots[up[0]], " ")))
	}
	c.Reading = strings.Join(pairs, ", ")
	switch {
	case len(pairs) == 0:
		c.Verdict, c.Reading = notApplicable, "no GPU has an adapter on its PCIe switch"
	case len(alone) > 0:
		c.Verdict, c.Part = fail, "GPU "+strings.Join(alone, ", ")+": no adapter on its PCIe switch"
	}
	return c
}

// checkGPUDirect wants a way from adapters into GPU memory.
func (fs FS) checkGPUDirect(adapters []api.RDMADevice) api.Check {
	c := api.Check{Name: "pcie.gpudirect", Verdict: pass, Threshold: "nvidia_peermem loaded, or open kernel modules with dma-buf", Source: gpudirectSource, Part: "NVIDIA driver"}
	version := fs.line("proc/driver/nvidia/version")
	switch {
	case len(adapters) == 0:
		c.Verdict, c.Reading = notApplicable, "no RDMA adapter"
	case fs.exists("sys/module/nvidia_peermem"):
		c.Reading = "nvidia_peermem is loaded"
	case strings.Contains(version, "Open Kernel Module"):
		c.Reading = "dma-buf, by the open kernel modules"
	case version == "":
		c.Verdict, c.Reading = notRun, "cannot read "+fs.Path("proc/driver/nvidia/version")
	default:
		c.Verdict, c.Reading, c.Part = fail, "neither", "NVIDIA driver: modprobe nvidia_peermem"
	}
	return c
}

// checkDIMMs wants all DIMMs alike.
func (fs FS) checkDIMMs() api.Check {
	c := api.Check{Name: "memory.dimms", Verdict: pass, Threshold: "all of one size and speed", Source: dimmSource, Part: "DIMMs"}
	table, err := fs.smbios()
	if err != nil || len(table.DIMMs) == 0 {
		c.Verdict, c.Reading = notRun, "SMBIOS lists no DIMM"
		return c
	}
	kind := func(d api.DIMM) string { return fmt.Sprintf("%d MiB at %d MT/s", d.Size>>20, d.SpeedMTs) }
	count := map[string]int{}
	usual := ""
	for _, d := range table.DIMMs {
		if count[kind(d)]++; usual == "" || count[kind(d)] > count[usual] {
			usual = kind(d)
		}
	}
	c.Reading = fmt.Sprintf("%d of %s", count[usual], usual)
	for _, d := range table.DIMMs {
		if k := kind(d); k != usual {
			c.Verdict, c.Part = fail, "DIMM "+d.Locator
			c.Reading += ", " + d.Locator + " of " + k
		}
	}
	return c
}

// checkLinks holds the PCIe links of adapters and NVMe disks against what both
// of their ends can do. Those of GPUs are read through NVML.
func (fs FS) checkLinks(devices []api.PCIDevice) []api.Check {
	c := api.Check{Name: "pcie.links", Verdict: pass, Threshold: "full width and speed of every adapter and NVMe disk", Source: linkSource, Part: "PCIe links"}
	n := 0
	var below []api.Check
	for _, d := range devices {
		if !strings.HasPrefix(d.Class, "0207") && !strings.HasPrefix(d.Class, "0108") {
			continue // InfiniBand controllers and NVMe
		}
		dir := "sys/bus/pci/devices/" + d.Address + "/"
		width, ok := fs.number(dir + "max_link_width")
		speed := fs.line(dir + "max_link_speed")
		if !ok || speed == "" || d.Speed == "" || speed == "Unknown" || width == 255 {
			continue // not on a PCIe link, as in a virtual machine
		}
		n++
		if int64(d.Width) < width || slower(d.Speed, speed) {
			bad := c
			bad.Verdict, bad.Part = fail, "PCIe device "+d.Address+" "+d.Driver
			bad.Reading = fmt.Sprintf("%s x%d of %s x%d", d.Speed, d.Width, speed, width)
			below = append(below, bad)
		}
	}
	c.Reading = fmt.Sprintf("full on %d of %d", n-len(below), n)
	if n == 0 {
		c.Verdict, c.Reading = notApplicable, "no adapter or NVMe disk on a PCIe link"
	}
	if len(below) > 0 {
		return below
	}
	return []api.Check{c}
}

// slower compares "32.0 GT/s PCIe" and the like.
func slower(a, b string) bool {
	rate := func(s string) float64 {
		first, _, _ := strings.Cut(s, " ")
		f, _ := strconv.ParseFloat(first, 64)
		return f
	}
	return rate(a) < rate(b)
}
