package agent

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"firstlight/provision/agent/api"
	"firstlight/provision/burnin"
)

// Boot is what Check needs to know of the boot that it runs in.
type Boot struct {
	MAC          string         // of the boot NIC
	ClockOffset  *time.Duration // the node's clock less the controller's; nil: not known
	Kind         string         // api.BootBringUp or api.BootImage; "" outside of a boot by firstlight
	RootDeclared string         // digest of the root file system by the manifest, sha256:<hex>
	RootMeasured string         // as measured when it was fetched

	GPUs     burnin.Declared                         // that the node should have, as far as declared
	ReadGPUs func(ctx context.Context) burnin.Health // GPUHealth or in its place; nil leaves GPUs unchecked
}

// Verdicts of api.Check.
const (
	pass          = "pass"
	fail          = "fail"
	notRun        = "not-run"
	notApplicable = "not-applicable"
)

// Thresholds. Each check names where its own comes from.
const (
	maxClockOffset  = 5 * time.Second
	minMemoryShare  = 0.90
	firstlightOwn   = "firstlight: "
	clockSource     = firstlightOwn + "evidence of several nodes is put in order by time; NTP takes care of the rest"
	memorySource    = firstlightOwn + "kernel and firmware keep a few percent; a DIMM that did not train is 3 % of 32 or more"
	carrierSource   = firstlightOwn + "the node was booted over this NIC"
	nicErrorsSource = "IEEE 802.3 clause 4: an undamaged link has no frame errors over a boot"
	onlineSource    = "Linux Documentation/admin-guide/cputopology.rst: present CPUs that are not online are off or broken"
	numaSource      = firstlightOwn + "a socket without memory has lost its DIMMs"
	diskSource      = firstlightOwn + "a disk that cannot be read here cannot be installed to"
	rootSource      = "image manifest, from the controller"
)

// Check judges the health of the machine. It reads only. The order of checks
// is fixed; a check that the machine cannot answer is "not-run" and says why.
func Check(ctx context.Context, fs FS, boot Boot) []api.Check {
	gpuChecks := fs.startGPUs(ctx, boot)
	checks := fs.checkKernelLog()
	checks = append(checks, fs.checkBootNIC(boot.MAC)...)
	checks = append(checks, checkClock(boot.ClockOffset))
	checks = append(checks, fs.checkMemory(), fs.checkCPUs(), fs.checkNUMA())
	checks = append(checks, fs.checkDisks(ctx)...)
	if boot.ReadGPUs != nil {
		checks = append(checks, fs.checkHost(gpus(fs.pci()))...)
	}
	checks = append(checks, gpuChecks()...)
	return append(checks, checkRoot(boot))
}

// CheckReport is what `firstlight-agent check -json` prints.
type CheckReport struct {
	Engine string      `json:"engine"` // always "node": read from the machine itself
	Checks []api.Check `json:"checks"`
}

// NewCheckReport runs Check.
func NewCheckReport(ctx context.Context, fs FS, boot Boot) CheckReport {
	return CheckReport{Engine: "node", Checks: Check(ctx, fs, boot)}
}

// Verdict is the worst of the checks: "fail", else "not-run", else "pass". A
// verdict that is none, and no check at all, count as "not-run".
func (r CheckReport) Verdict() string {
	verdict := pass
	if len(r.Checks) == 0 {
		verdict = notRun
	}
	for _, c := range r.Checks {
		switch c.Verdict {
		case pass, notApplicable:
		case fail:
			return fail
		default:
			verdict = notRun
		}
	}
	return verdict
}

// checkBootNIC judges link and error counters of the boot NIC.
func (fs FS) checkBootNIC(mac string) []api.Check {
	link := api.Check{Name: "nic.boot.carrier", Threshold: "link up", Source: carrierSource, Part: "boot NIC " + mac}
	errs := api.Check{Name: "nic.boot.errors", Threshold: "0 errors", Source: nicErrorsSource, Part: "boot NIC " + mac}
	if mac == "" {
		for _, c := range []*api.Check{&link, &errs} {
			c.Verdict, c.Reading, c.Part = notRun, "this boot was not made by firstlight: the boot NIC is not known", "boot NIC"
		}
		return []api.Check{link, errs}
	}
	nics := fs.nics()
	i := slices.IndexFunc(nics, func(n api.NIC) bool { return n.MAC == strings.ToLower(mac) })
	if i < 0 {
		link.Verdict, link.Reading = fail, "no interface has this address"
		errs.Verdict, errs.Reading = notRun, link.Reading
		return []api.Check{link, errs}
	}
	part := fmt.Sprintf("boot NIC %s %s", nics[i].Name, mac)
	link.Part, errs.Part = part, part
	link.Verdict, link.Reading = pass, "link up"
	if !nics[i].Carrier {
		link.Verdict, link.Reading = fail, "link down"
	}
	dir := "sys/class/net/" + nics[i].Name + "/statistics/"
	var readings []string
	errs.Verdict = pass
	// Drops are left out: a full queue is load, not damage.
	for _, counter := range []string{"rx_errors", "tx_errors", "rx_crc_errors", "tx_carrier_errors"} {
		n, ok := fs.number(dir + counter)
		if !ok && strings.HasSuffix(counter, "x_errors") {
			errs.Verdict, errs.Reading = notRun, "cannot read "+fs.Path(dir+counter)
			return []api.Check{link, errs}
		}
		if ok {
			readings = append(readings, fmt.Sprintf("%s %d", counter, n))
		}
		if n > 0 {
			errs.Verdict = fail
		}
	}
	errs.Reading = strings.Join(readings, ", ")
	return []api.Check{link, errs}
}

// checkClock judges the offset measured at hello.
func checkClock(offset *time.Duration) api.Check {
	c := api.Check{Name: "clock.offset", Threshold: "at most " + maxClockOffset.String() + " from the controller", Source: clockSource, Part: "real-time clock"}
	if offset == nil {
		c.Verdict, c.Reading = notRun, "no controller to compare with"
		return c
	}
	c.Reading = fmt.Sprintf("%+.3fs", offset.Seconds())
	c.Verdict = pass
	if offset.Abs() > maxClockOffset {
		c.Verdict = fail
	}
	return c
}

// checkMemory holds what the kernel has against what SMBIOS says is fitted.
func (fs FS) checkMemory() api.Check {
	c := api.Check{Name: "memory.total", Threshold: fmt.Sprintf("at least %.0f %% of the installed DIMMs", 100*minMemoryShare), Source: memorySource, Part: "memory"}
	total, err := fs.memTotal()
	if err != nil {
		c.Verdict, c.Reading = notRun, err.Error()
		return c
	}
	table, err := fs.smbios()
	installed := api.Memory{DIMMs: table.DIMMs}.Installed()
	if installed == 0 {
		c.Verdict, c.Reading = notRun, "SMBIOS lists no DIMM with a size"
		if err != nil {
			c.Reading += ": " + err.Error()
		}
		return c
	}
	share := float64(total) / float64(installed)
	c.Reading = fmt.Sprintf("%d MiB of %d MiB in %d DIMMs (%.1f %%)", total>>20, installed>>20, len(table.DIMMs), 100*share)
	c.Verdict = pass
	if share < minMemoryShare {
		c.Verdict = fail
	}
	return c
}

// checkCPUs finds CPUs that are present but not online.
func (fs FS) checkCPUs() api.Check {
	c := api.Check{Name: "cpu.online", Threshold: "every present CPU online", Source: onlineSource, Part: "CPUs"}
	present, err1 := cpuList(fs.line("sys/devices/system/cpu/present"))
	online, err2 := cpuList(fs.line("sys/devices/system/cpu/online"))
	if err1 != nil || err2 != nil || len(present) == 0 || len(online) == 0 {
		c.Verdict, c.Reading = notRun, "cannot read "+fs.Path("sys/devices/system/cpu/{present,online}")
		return c
	}
	var off []string
	for _, n := range present {
		if !slices.Contains(online, n) {
			off = append(off, fmt.Sprint(n))
		}
	}
	c.Verdict, c.Reading = pass, fmt.Sprintf("%d of %d online", len(online), len(present))
	if len(off) > 0 {
		c.Verdict, c.Part = fail, "CPU "+strings.Join(off, ", ")
	}
	return c
}

// checkNUMA finds memory nodes that have CPUs but no memory.
func (fs FS) checkNUMA() api.Check {
	const dir = "sys/devices/system/node/"
	c := api.Check{Name: "numa.memory", Threshold: "memory on every NUMA node that has CPUs", Source: numaSource, Part: "NUMA nodes"}
	if !fs.exists(dir + "online") {
		c.Verdict, c.Reading = notApplicable, "kernel without NUMA"
		return c
	}
	withCPU, err1 := cpuList(fs.line(dir + "has_cpu"))
	withMemory, err2 := cpuList(fs.line(dir + "has_memory"))
	if err1 != nil || err2 != nil || len(withCPU) == 0 {
		c.Verdict, c.Reading = notRun, "cannot read "+fs.Path(dir+"{has_cpu,has_memory}")
		return c
	}
	var bare []string
	for _, n := range withCPU {
		if !slices.Contains(withMemory, n) {
			bare = append(bare, fmt.Sprint(n))
		}
	}
	c.Verdict, c.Reading = pass, fmt.Sprintf("%d of %d have memory", len(withCPU)-len(bare), len(withCPU))
	if len(bare) > 0 {
		c.Verdict, c.Part = fail, "DIMMs of NUMA node "+strings.Join(bare, ", ")
	}
	return c
}

// checkRoot says whether what runs is what the manifest names.
func checkRoot(boot Boot) api.Check {
	c := api.Check{Name: "image.root", Threshold: boot.RootDeclared, Source: rootSource, Part: "root file system"}
	if c.Threshold == "" {
		c.Threshold = "the digest in the image's manifest"
	}
	switch {
	case boot.Kind == "":
		c.Verdict, c.Reading = notRun, "this boot was not made by firstlight"
	case boot.RootDeclared == "":
		c.Verdict, c.Reading = notApplicable, "this boot has no root file system beside its initramfs"
	case boot.RootMeasured == "":
		c.Verdict, c.Reading = notRun, "not measured in this boot"
	case boot.RootMeasured != boot.RootDeclared:
		c.Verdict, c.Reading = fail, boot.RootMeasured
	default:
		c.Verdict, c.Reading = pass, boot.RootMeasured
	}
	return c
}
