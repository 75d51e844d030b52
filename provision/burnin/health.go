package burnin

import (
	"fmt"
	"strings"

	"firstlight/provision/acceptance"
)

// HealthVersion is that of Health. Another is refused.
const HealthVersion = 1

// Health is what the driver's management library (NVML) says of all GPUs of a
// node: raw, without a verdict.
type Health struct {
	Version  int               `json:"version"`
	Engine   acceptance.Engine `json:"engine"`            // node; simulated where no GPU was asked
	Library  string            `json:"library,omitempty"` // why nothing could be asked; "" when it could
	Driver   Value             `json:"driver"`            // version of the driver
	Confined Value             `json:"confidential"`      // confidential computing, 0 off
	Interval float64           `json:"interval_s"`        // between the two readings of what counts, seconds
	GPUs     []HealthGPU       `json:"gpus"`
	Stuck    []Stuck           `json:"stuck,omitempty"` // calls that never came back
}

// HealthGPU is one GPU. Later has what counts, read again at the end.
type HealthGPU struct {
	Index int                `json:"index"`
	PCI   string             `json:"pci"` // 0000:18:00.0
	First map[Quantity]Value `json:"first"`
	Later map[Quantity]Value `json:"later,omitempty"`
}

// Stuck is a call that did not return in time, or that the process died in.
type Stuck struct {
	Call string `json:"call"`           // nvmlDeviceGetTemperature
	PCI  string `json:"pci,omitempty"`  // "" for a call that is of no GPU
	Died bool   `json:"died,omitempty"` // the process did, in this call
	How  string `json:"how"`            // "did not return within 3s", "signal: aborted"
}

// Value is one reading: a number, a text or both, or why there is none.
type Value struct {
	Number int64  `json:"number,omitempty"`
	Text   string `json:"text,omitempty"`
	Err    string `json:"err,omitempty"`    // why it was not read
	Absent bool   `json:"absent,omitempty"` // Err says that this GPU or driver has no such thing
	Lost   bool   `json:"lost,omitempty"`   // Err says that the GPU is gone
}

// read says whether v is a reading.
func (v Value) read() bool { return v.Err == "" }

// Quantity is what is read of a GPU.
type Quantity string

// The quantities, in the units of NVML.
const (
	GPUName    Quantity = "name"
	GPUID      Quantity = "pci_id" // text 10de:2335
	GPUSerial  Quantity = "serial"
	GPUUUID    Quantity = "uuid"
	GPUVBIOS   Quantity = "vbios"
	GPUInfoROM Quantity = "inforom"
	GPUMemory  Quantity = "memory_bytes"
	GPUBAR1    Quantity = "bar1_bytes"

	PCIeGen      Quantity = "pcie_generation"
	PCIeGenMax   Quantity = "pcie_generation_max" // of GPU and slot together
	PCIeWidth    Quantity = "pcie_width"
	PCIeWidthMax Quantity = "pcie_width_max"
	PCIeReplays  Quantity = "pcie_replays" // counts

	ECCMode        Quantity = "ecc_mode"         // 1 on
	ECCPending     Quantity = "ecc_mode_pending" // after the next reset
	ECCUncorrected Quantity = "ecc_uncorrected"  // since the driver was loaded
	ECCCorrected   Quantity = "ecc_corrected"    // likewise; counts
	SRAMOver       Quantity = "sram_threshold"   // 1 exceeded
	SRAMUncorrect  Quantity = "sram_uncorrected" // over the life of the GPU

	RemapUncorrected Quantity = "remapped_uncorrected" // rows
	RemapPending     Quantity = "remap_pending"        // 1 after the next reset
	RemapFailed      Quantity = "remap_failed"         // 1 a row could not be
	RemapBare        Quantity = "remap_banks_spent"    // banks without a spare row
	RecoveryAction   Quantity = "recovery_action"      // NVML field 230, 0 none

	NVLinks        Quantity = "nvlinks_active"    // Text names those that are not
	NVLinkSpeed    Quantity = "nvlink_speed_mbps" // MB/s of one link
	NVLinkErrors   Quantity = "nvlink_errors"     // counts
	NVLinkRecovers Quantity = "nvlink_recoveries" // counts
	FabricState    Quantity = "fabric_state"      // 3 completed; Text names it
	FabricStatus   Quantity = "fabric_status"     // NVML return code, 0 success
	FabricHealth   Quantity = "fabric_health"     // number of degradations; Text names them

	ClockReasons  Quantity = "clock_reasons" // bits of nvmlClocksEventReasons
	SlowHWThermal Quantity = "slowed_hw_thermal_ns"
	SlowSWThermal Quantity = "slowed_sw_thermal_ns"
	SlowBrake     Quantity = "slowed_power_brake_ns"
	SlowPowerCap  Quantity = "slowed_power_cap_ns"
	PState        Quantity = "performance_state" // 0 the fastest
	ClockSM       Quantity = "sm_clock_mhz"

	PowerUsage    Quantity = "power_mw"
	PowerEnforced Quantity = "power_limit_enforced_mw"
	PowerDefault  Quantity = "power_limit_default_mw"
	Temperature   Quantity = "temperature_c"
	TempMemory    Quantity = "temperature_memory_c"
	TempMargin    Quantity = "temperature_margin_c" // to where it slows down

	Persistence Quantity = "persistence" // 1 on
	MIG         Quantity = "mig"         // 1 on
	Processes   Quantity = "processes"   // Text names them
	XidEvents   Quantity = "xid_events"  // during the interval; Text names them
)

// Counting says whether a quantity grows, and is read twice.
func (q Quantity) Counting() bool {
	switch q {
	case PCIeReplays, ECCCorrected, ECCUncorrected, NVLinkErrors, NVLinkRecovers,
		SlowHWThermal, SlowSWThermal, SlowBrake, SlowPowerCap, XidEvents, ClockReasons:
		return true
	}
	return false
}

// part names a GPU for the person who pulls it.
func (g HealthGPU) part() string {
	parts := []string{fmt.Sprintf("GPU %d", g.Index)}
	if g.PCI != "" {
		parts = append(parts, g.PCI)
	}
	if v := g.First[GPUSerial]; v.read() && v.Text != "" {
		parts = append(parts, "serial "+v.Text)
	}
	return strings.Join(parts, " ")
}

// first is a reading, or why there is none.
func (g HealthGPU) first(q Quantity) Value { return valueOf(g.First, q, "not read") }

// later is the second reading.
func (g HealthGPU) later(q Quantity) Value { return valueOf(g.Later, q, "not read a second time") }

func valueOf(from map[Quantity]Value, q Quantity, missing string) Value {
	v, ok := from[q]
	if !ok {
		return Value{Err: missing}
	}
	return v
}

// newest is the second reading where there is one.
func (g HealthGPU) newest(q Quantity) Value {
	if v, ok := g.Later[q]; ok {
		return v
	}
	return g.first(q)
}

// stuckOn says what hangs on a GPU, "" when nothing does.
func (h Health) stuckOn(pci string) string {
	for _, s := range h.Stuck {
		if s.PCI == pci {
			return s.String()
		}
	}
	return ""
}

// String says what happened where: "NVML hangs in nvmlDeviceGetTemperature of
// GPU 0000:18:00.0: did not return within 3s".
func (s Stuck) String() string {
	what, where := "NVML hangs in ", ""
	if s.Died {
		what = "NVML ends the process in "
	}
	if s.PCI != "" {
		where = " of GPU " + s.PCI
	}
	return what + s.Call + where + ": " + s.How
}
