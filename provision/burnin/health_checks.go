package burnin

import (
	"slices"
	"strings"
)

// rule is how a reading is held against a number.
type rule string

// The rules.
const (
	is        rule = "is"        // equal to the number
	atLeast   rule = "at least"  // the number or more
	unchanged rule = "unchanged" // both readings are the same
	noneOf    rule = "none of"   // no bit of the number is set
	known     rule = "known"     // it could be read, and is not empty
)

// lacking says which GPUs are not the worse for having no such thing.
type lacking string

const (
	mayLack    lacking = "any"            // any GPU
	lackNVLink lacking = "without NVLink" // one that is to have no NVLink
)

// limit gives the number of a rule. It is false when nothing is known of it.
type limit func(Class, HealthGPU) (int64, bool)

// HealthCheck is one thing that is checked of each GPU.
type HealthCheck struct {
	Name     string
	Meaning  string // one line for the handbook: what it means when it fails, and what to do
	Reads    Quantity
	Rule     rule
	Unit     string // of the reading: "", mW, ns, bytes …
	Limit    limit  // nil for unchanged and known
	Want     string // the threshold in words; "%s" is where the number goes
	Source   string
	Needs    string // what the driver must have
	Lacking  lacking
	Uniform  bool // and it is the same on all GPUs of the node
	UnderUse bool // an idle GPU may be lower; it says nothing then
}

func number(n int64) limit { return func(Class, HealthGPU) (int64, bool) { return n, true } }

// class gives a number of the class, where it is known.
func class(of func(Class) int64) limit {
	return func(c Class, _ HealthGPU) (int64, bool) { return of(c), of(c) > 0 }
}

// other gives another reading of the same GPU.
func other(q Quantity) limit {
	return func(_ Class, g HealthGPU) (int64, bool) { v := g.first(q); return v.Number, v.read() }
}

// orElse gives a second number where the first is not known.
func orElse(first, second limit) limit {
	return func(c Class, g HealthGPU) (int64, bool) {
		if n, ok := first(c, g); ok {
			return n, true
		}
		return second(c, g)
	}
}

// Bits of nvmlClocksEventReasons that mean a fault, not a full load: hardware
// slowdown, software thermal, hardware thermal, power brake. Several are set at
// once as a rule, and harmless ones (idle, power cap) beside them.
const badReasons int64 = 0x08 | 0x20 | 0x40 | 0x80

// Sources that several checks have.
const (
	memorySource = "NVIDIA GPU Memory Error Management: row remapping, error containment"
	debugSource  = "NVIDIA GPU Debug Guidelines"
	nvmlSource   = "NVML API reference, "
	deploySource = "NVIDIA Data Center GPU Driver: deployment"
	throttleNote = "The clocks were lowered between two readings:"
)

// Wanted is the threshold for the handbook. N is what the class has.
func (k HealthCheck) Wanted() string {
	want := strings.ReplaceAll(k.Want, "%s", "N")
	if k.Limit != nil {
		if n, constant := k.Limit(Class{}, HealthGPU{}); constant {
			want = k.threshold(n, true)
		}
	}
	if k.Uniform && !strings.Contains(want, "same") {
		want += "; the same on all GPUs"
	}
	return want
}

// HealthChecks are the checks of each GPU, in the order in which they are told.
// The ones of the node as a whole are in JudgeHealth.
func HealthChecks() []HealthCheck {
	return slices.Concat(inventoryChecks(), memoryChecks(), linkChecks(), clockChecks(), modeChecks())
}

func inventoryChecks() []HealthCheck {
	const same = "one node's GPUs run one firmware: mixed versions fail in ways that look like bad hardware"
	return []HealthCheck{
		{Name: "gpu.model", Reads: GPUName, Rule: known, Uniform: true, Want: "the same on all GPUs",
			Meaning: "A GPU of another kind is in the node."},
		{Name: "gpu.serial", Reads: GPUSerial, Rule: known, Want: "a serial number", Source: nvmlSource + "nvmlDeviceGetSerial",
			Meaning: "The GPU does not tell who it is: its InfoROM is damaged, or the board was not programmed."},
		{Name: "gpu.uuid", Reads: GPUUUID, Rule: known, Want: "a UUID", Source: nvmlSource + "nvmlDeviceGetUUID",
			Meaning: "Jobs cannot name the GPU."},
		{Name: "gpu.vbios", Reads: GPUVBIOS, Rule: known, Uniform: true, Want: "the same on all GPUs", Source: "firstlight: " + same,
			Meaning: "Flash the VBIOS of the GPU that differs."},
		{Name: "gpu.inforom", Reads: GPUInfoROM, Rule: known, Uniform: true, Want: "the same on all GPUs", Source: "firstlight: " + same,
			Meaning: "The InfoROM image differs, or cannot be read: error counts kept in it may be lost."},
		{Name: "gpu.memory", Reads: GPUMemory, Rule: atLeast, Unit: "bytes", Limit: class(func(c Class) int64 { return c.Memory }), Uniform: true,
			Want: "at least %s", Meaning: "Part of the memory is missing: replace the GPU."},
		{Name: "gpu.bar1", Reads: GPUBAR1, Rule: atLeast, Unit: "bytes", Limit: other(GPUMemory), Want: "at least %s, the GPU's memory",
			Source:  "NVIDIA GPUDirect RDMA documentation: memory is reached by other devices through BAR1",
			Meaning: "Large BARs are off in the firmware's setup: GPUDirect RDMA cannot reach all memory."},
	}
}

func memoryChecks() []HealthCheck {
	return []HealthCheck{
		{Name: "gpu.ecc.mode", Reads: ECCMode, Rule: is, Limit: number(1), Want: "on", Source: nvmlSource + "nvmlDeviceGetEccMode",
			Meaning: "Memory errors go unseen: nvidia-smi -e 1, then reset the GPU."},
		{Name: "gpu.ecc.pending", Reads: ECCPending, Rule: is, Limit: number(1), Want: "on", Source: nvmlSource + "nvmlDeviceGetEccMode",
			Meaning: "ECC will be off after the next reset."},
		{Name: "gpu.ecc.uncorrected", Reads: ECCUncorrected, Rule: is, Limit: number(0), Want: "0 since the driver was loaded", Source: memorySource,
			Meaning: "Data were lost in this boot. Reset the GPU, so that the row is remapped, and burn in again; replace it when they come back."},
		{Name: "gpu.sram.threshold", Reads: SRAMOver, Rule: is, Limit: number(0), Want: "not exceeded", Source: memorySource, Needs: "nvmlDeviceGetSramEccErrorStatus",
			Meaning: "Uncorrectable errors in SRAM have passed the vendor's limit: replace the GPU."},
		{Name: "gpu.sram.uncorrected", Reads: SRAMUncorrect, Rule: is, Limit: number(0), Want: "0 over the life of the GPU", Source: memorySource, Needs: "nvmlDeviceGetSramEccErrorStatus",
			Meaning: "SRAM has no spare rows: one such error in a new GPU is a reason to return it."},
		{Name: "gpu.remap.pending", Reads: RemapPending, Rule: is, Limit: number(0), Want: "none pending", Source: memorySource,
			Meaning: "A row waits to be remapped: reset the GPU before work is put on it."},
		{Name: "gpu.remap.failed", Reads: RemapFailed, Rule: is, Limit: number(0), Want: "none failed", Source: memorySource,
			Meaning: "A row could not be remapped: replace the GPU."},
		{Name: "gpu.remap.spares", Reads: RemapBare, Rule: is, Limit: number(0), Want: "every bank has a spare row", Source: memorySource, Needs: "nvmlDeviceGetRowRemapperHistogram",
			Meaning: "A bank of memory has no spare row left: the next bad row cannot be mended."},
		{Name: "gpu.recovery", Reads: RecoveryAction, Rule: is, Limit: number(0), Want: "none", Source: nvmlSource + "field 230", Needs: "field 230",
			Meaning: "The driver itself asks for a reset (1), a reboot (2), a drain (3, 4) or more: do it, then check again."},
	}
}

func linkChecks() []HealthCheck {
	const pci = "PCI Express Base Specification: link training; a link that comes up narrow or slow has a bad lane"
	return []HealthCheck{
		{Name: "gpu.pcie.generation.max", Uniform: true, Reads: PCIeGenMax, Rule: atLeast, Limit: class(func(c Class) int64 { return int64(c.PCIeGen) }), Want: "at least generation %s",
			Meaning: "GPU and slot together cannot do it: a riser, a retimer or a setting of the firmware limits the link."},
		{Name: "gpu.pcie.generation", Reads: PCIeGen, Rule: atLeast, Limit: orElse(class(func(c Class) int64 { return int64(c.PCIeGen) }), other(PCIeGenMax)), Want: "at least generation %s", UnderUse: true,
			Meaning: "The link trained slower than both ends can: reseat the GPU tray; then suspect retimer, riser, GPU."},
		{Name: "gpu.pcie.width", Reads: PCIeWidth, Rule: is, Limit: orElse(class(func(c Class) int64 { return int64(c.PCIeWidth) }), other(PCIeWidthMax)), Want: "%s lanes",
			Meaning: "Lanes are lost: reseat the GPU tray; then suspect retimer, riser, GPU."},
		{Name: "gpu.pcie.replays", Reads: PCIeReplays, Rule: unchanged, Want: "no new replay", Source: pci,
			Meaning: "Packets are sent again: the link has bit errors."},
		{Name: "gpu.nvlink.count", Uniform: true, Reads: NVLinks, Rule: is, Limit: class(func(c Class) int64 { return int64(c.NVLinks) }), Want: "%s active", Lacking: lackNVLink,
			Meaning: "A link is down: restart the node once; when it stays, the GPU or the NVSwitch at its other end is bad."},
		{Name: "gpu.nvlink.speed", Uniform: true, Reads: NVLinkSpeed, Rule: atLeast, Unit: "MB/s", Limit: class(func(c Class) int64 { return c.LinkSpeed }), Want: "at least %s each", Lacking: lackNVLink,
			Meaning: "A link trained slow."},
		{Name: "gpu.nvlink.errors", Reads: NVLinkErrors, Rule: unchanged, Want: "no new error", Source: debugSource, Lacking: lackNVLink,
			Meaning: "A link has errors now."},
		{Name: "gpu.nvlink.recoveries", Reads: NVLinkRecovers, Rule: unchanged, Want: "no new recovery", Source: debugSource, Lacking: lackNVLink,
			Meaning: "A link trains anew while it is used."},
		{Name: "gpu.fabric.state", Reads: FabricState, Rule: is, Limit: number(3), Want: "completed", Source: nvmlSource + "nvmlGpuFabricInfo", Lacking: lackNVLink,
			Meaning: "The GPU is not part of the NVSwitch fabric: is nvidia-fabricmanager running, and of the driver's version?"},
		{Name: "gpu.fabric.status", Reads: FabricStatus, Rule: is, Limit: number(0), Want: "success", Source: nvmlSource + "nvmlGpuFabricInfo", Lacking: lackNVLink,
			Meaning: "Joining the NVSwitch fabric failed."},
		{Name: "gpu.fabric.health", Reads: FabricHealth, Rule: is, Limit: number(0), Want: "no degradation", Source: nvmlSource + "nvmlGpuFabricInfo_v2", Needs: "nvmlDeviceGetGpuFabricInfoV", Lacking: lackNVLink,
			Meaning: "The fabric manager reports degraded bandwidth, a route that is unhealthy, or recovery under way."},
	}
}

func clockChecks() []HealthCheck {
	const fields = "fields 269 to 271"
	return []HealthCheck{
		{Name: "gpu.slowed.hw-thermal", Reads: SlowHWThermal, Rule: unchanged, Unit: "ns", Want: "no time", Source: nvmlSource + "field 270", Needs: fields,
			Meaning: throttleNote + " by the hardware, for heat. Look at fans, inlet air, heat sink."},
		{Name: "gpu.slowed.sw-thermal", Reads: SlowSWThermal, Rule: unchanged, Unit: "ns", Want: "no time", Source: nvmlSource + "field 269", Needs: fields,
			Meaning: throttleNote + " by the driver, for heat."},
		{Name: "gpu.slowed.power-brake", Reads: SlowBrake, Rule: unchanged, Unit: "ns", Want: "no time", Source: nvmlSource + "field 271", Needs: fields,
			Meaning: throttleNote + " by the power brake. A power supply is out, or the node's budget is exceeded."},
		{Name: "gpu.clocks.reasons", Reads: ClockReasons, Rule: noneOf, Limit: number(badReasons), Want: "no bit of 0x%x: slowed by heat or power brake", Source: nvmlSource + "nvmlClocksEventReasons",
			Meaning: "The clocks are lowered at this moment. Other bits (idle, power cap) may be set beside."},
		{Name: "gpu.power.limit", Reads: PowerEnforced, Rule: is, Unit: "mW", Limit: other(PowerDefault), Want: "%s, the default limit", Source: deploySource,
			Meaning: "Somebody or the BMC has lowered the limit: nvidia-smi -pl, or the node's power policy."},
		{Name: "gpu.power.default", Uniform: true, Reads: PowerDefault, Rule: is, Unit: "mW", Limit: class(func(c Class) int64 { return 1000 * c.Power }), Want: "%s",
			Meaning: "The board is programmed for another power than its class has."},
		{Name: "gpu.temperature.margin", Reads: TempMargin, Rule: atLeast, Unit: "°C", Limit: number(10), Want: "at least %s below where it slows down",
			Source: "firstlight: less is lost to one failed fan or a warm day", Needs: "nvmlDeviceGetMarginTemperature",
			Meaning: "It runs too hot: fans, inlet air, heat sink, thermal paste."},
	}
}

func modeChecks() []HealthCheck {
	return []HealthCheck{
		{Name: "gpu.persistence", Reads: Persistence, Rule: is, Limit: number(1), Want: "on", Source: deploySource,
			Meaning: "The driver unloads with the last job, and forgets counts and settings: start nvidia-persistenced."},
		{Name: "gpu.mig", Reads: MIG, Rule: is, Limit: number(0), Want: "off", Source: "firstlight: a training node has whole GPUs", Lacking: mayLack,
			Meaning: "The GPU is cut into slices: nvidia-smi -mig 0."},
		{Name: "gpu.processes", Reads: Processes, Rule: is, Limit: number(0), Want: "none", Source: "firstlight: nothing may run on a GPU that is judged",
			Meaning: "A process is on the GPU: readings are its, not the check's. End it."},
		{Name: "gpu.xid.events", Reads: XidEvents, Rule: is, Limit: number(0), Want: "no Xid while it was checked", Source: "NVIDIA Xid Errors", Needs: "nvmlEventSetWait",
			Meaning: "The driver reported an error just now; kernel.xid has those since the start."},
	}
}
