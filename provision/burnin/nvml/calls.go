//go:build cgo

package nvml

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"firstlight/provision/burnin"
)

// take keeps a reading of a call.
type take func(burnin.Quantity, burnin.Value)

// entry is one call that is made of each GPU.
type entry struct {
	reads   []burnin.Quantity
	symbols []string // one of them must be there; newest first
	call    func(nvml.Device, take) nvml.Return
}

// integer is any whole number that the library gives.
type integer interface {
	~int | ~int32 | ~uint32 | ~uint64
}

func number[T integer](q burnin.Quantity, symbol string, f func(nvml.Device) (T, nvml.Return)) entry {
	return entry{[]burnin.Quantity{q}, []string{symbol}, func(d nvml.Device, out take) nvml.Return {
		n, ret := f(d)
		out(q, burnin.Value{Number: int64(n)})
		return ret
	}}
}

func text(q burnin.Quantity, symbol string, f func(nvml.Device) (string, nvml.Return)) entry {
	return entry{[]burnin.Quantity{q}, []string{symbol}, func(d nvml.Device, out take) nvml.Return {
		s, ret := f(d)
		out(q, burnin.Value{Text: s})
		return ret
	}}
}

// field is one of nvmlDeviceGetFieldValues.
func field(q burnin.Quantity, id uint32) entry {
	return entry{[]burnin.Quantity{q}, []string{"nvmlDeviceGetFieldValues"}, func(d nvml.Device, out take) nvml.Return {
		n, ret := fieldValue(d, id, 0)
		out(q, burnin.Value{Number: n})
		return ret
	}}
}

// fieldValue reads a field. The call succeeds where a field does not: that one
// has a return code of its own, and no value.
func fieldValue(d nvml.Device, id, scope uint32) (int64, nvml.Return) {
	f := []nvml.FieldValue{{FieldId: id, ScopeId: scope}}
	ret := d.GetFieldValues(f)
	if ret == nvml.SUCCESS {
		ret = nvml.Return(f[0].NvmlReturn)
	}
	return decode(nvml.ValueType(f[0].ValueType), f[0].Value), ret
}

// decode is the number in a field's union.
func decode(kind nvml.ValueType, b [8]byte) int64 {
	switch kind {
	case nvml.VALUE_TYPE_DOUBLE:
		return int64(math.Float64frombits(binary.NativeEndian.Uint64(b[:])))
	case nvml.VALUE_TYPE_UNSIGNED_INT:
		return int64(binary.NativeEndian.Uint32(b[:]))
	case nvml.VALUE_TYPE_SIGNED_INT:
		return int64(int32(binary.NativeEndian.Uint32(b[:])))
	case nvml.VALUE_TYPE_UNSIGNED_SHORT:
		return int64(binary.NativeEndian.Uint16(b[:]))
	}
	return int64(binary.NativeEndian.Uint64(b[:]))
}

// linkFields sums fields over all NVLinks of a GPU.
func linkFields(q burnin.Quantity, ids ...uint32) entry {
	return entry{[]burnin.Quantity{q}, []string{"nvmlDeviceGetFieldValues"}, func(d nvml.Device, out take) nvml.Return {
		links, ret := fieldValue(d, nvml.FI_DEV_NVLINK_LINK_COUNT, 0)
		sum := int64(0)
		for link := range min(links, nvml.NVLINK_MAX_LINKS) {
			for _, id := range ids {
				n, r := fieldValue(d, id, uint32(link))
				if r != nvml.SUCCESS {
					return r
				}
				sum += n
			}
		}
		out(q, burnin.Value{Number: sum})
		return ret
	}}
}

// calls are all calls made of a GPU, in this order.
func calls() []entry {
	return append(identity(), append(state(), running()...)...)
}

func identity() []entry {
	return []entry{
		text(burnin.GPUName, "nvmlDeviceGetName", nvml.Device.GetName),
		text(burnin.GPUSerial, "nvmlDeviceGetSerial", nvml.Device.GetSerial),
		text(burnin.GPUUUID, "nvmlDeviceGetUUID", nvml.Device.GetUUID),
		text(burnin.GPUVBIOS, "nvmlDeviceGetVbiosVersion", nvml.Device.GetVbiosVersion),
		text(burnin.GPUInfoROM, "nvmlDeviceGetInforomImageVersion", nvml.Device.GetInforomImageVersion),
		number(burnin.GPUMemory, "nvmlDeviceGetMemoryInfo", func(d nvml.Device) (uint64, nvml.Return) { m, ret := d.GetMemoryInfo(); return m.Total, ret }),
		number(burnin.GPUBAR1, "nvmlDeviceGetBAR1MemoryInfo", func(d nvml.Device) (uint64, nvml.Return) { m, ret := d.GetBAR1MemoryInfo(); return m.Bar1Total, ret }),
		number(burnin.PState, "nvmlDeviceGetPerformanceState", nvml.Device.GetPerformanceState),
		number(burnin.PCIeGen, "nvmlDeviceGetCurrPcieLinkGeneration", nvml.Device.GetCurrPcieLinkGeneration),
		number(burnin.PCIeGenMax, "nvmlDeviceGetMaxPcieLinkGeneration", nvml.Device.GetMaxPcieLinkGeneration),
		number(burnin.PCIeWidth, "nvmlDeviceGetCurrPcieLinkWidth", nvml.Device.GetCurrPcieLinkWidth),
		number(burnin.PCIeWidthMax, "nvmlDeviceGetMaxPcieLinkWidth", nvml.Device.GetMaxPcieLinkWidth),
		number(burnin.PCIeReplays, "nvmlDeviceGetPcieReplayCounter", nvml.Device.GetPcieReplayCounter),
	}
}

func state() []entry {
	errors := func(q burnin.Quantity, of nvml.MemoryErrorType) entry {
		return number(q, "nvmlDeviceGetTotalEccErrors", func(d nvml.Device) (uint64, nvml.Return) { return d.GetTotalEccErrors(of, nvml.VOLATILE_ECC) })
	}
	return []entry{
		{[]burnin.Quantity{burnin.ECCMode, burnin.ECCPending}, []string{"nvmlDeviceGetEccMode"}, func(d nvml.Device, out take) nvml.Return {
			now, next, ret := d.GetEccMode()
			out(burnin.ECCMode, burnin.Value{Number: int64(now)})
			out(burnin.ECCPending, burnin.Value{Number: int64(next)})
			return ret
		}},
		errors(burnin.ECCUncorrected, nvml.MEMORY_ERROR_TYPE_UNCORRECTED),
		errors(burnin.ECCCorrected, nvml.MEMORY_ERROR_TYPE_CORRECTED),
		{[]burnin.Quantity{burnin.SRAMOver, burnin.SRAMUncorrect}, []string{"nvmlDeviceGetSramEccErrorStatus"}, func(d nvml.Device, out take) nvml.Return {
			s, ret := d.GetSramEccErrorStatus()
			out(burnin.SRAMOver, burnin.Value{Number: int64(s.BThresholdExceeded)})
			out(burnin.SRAMUncorrect, burnin.Value{Number: int64(s.AggregateUncParity + s.AggregateUncSecDed)})
			return ret
		}},
		{[]burnin.Quantity{burnin.RemapUncorrected, burnin.RemapPending, burnin.RemapFailed}, []string{"nvmlDeviceGetRemappedRows"}, func(d nvml.Device, out take) nvml.Return {
			_, rows, pending, failed, ret := d.GetRemappedRows()
			out(burnin.RemapUncorrected, burnin.Value{Number: int64(rows)})
			out(burnin.RemapPending, burnin.Value{Number: bit(pending)})
			out(burnin.RemapFailed, burnin.Value{Number: bit(failed)})
			return ret
		}},
		number(burnin.RemapBare, "nvmlDeviceGetRowRemapperHistogram", func(d nvml.Device) (uint32, nvml.Return) { h, ret := d.GetRowRemapperHistogram(); return h.None, ret }),
		field(burnin.RecoveryAction, nvml.FI_DEV_GET_GPU_RECOVERY_ACTION),
		{[]burnin.Quantity{burnin.NVLinks}, []string{"nvmlDeviceGetNvLinkState"}, activeLinks},
		{[]burnin.Quantity{burnin.NVLinkSpeed}, []string{"nvmlDeviceGetFieldValues"}, slowestLink},
		linkFields(burnin.NVLinkErrors, nvml.FI_DEV_NVLINK_ERROR_DL_REPLAY, nvml.FI_DEV_NVLINK_ERROR_DL_CRC),
		linkFields(burnin.NVLinkRecovers, nvml.FI_DEV_NVLINK_ERROR_DL_RECOVERY),
		{[]burnin.Quantity{burnin.FabricState, burnin.FabricStatus}, []string{"nvmlDeviceGetGpuFabricInfo"}, fabricState},
		{[]burnin.Quantity{burnin.FabricHealth}, []string{"nvmlDeviceGetGpuFabricInfoV"}, fabricHealth},
	}
}

func running() []entry {
	return []entry{
		number(burnin.ClockReasons, "nvmlDeviceGetCurrentClocksThrottleReasons", nvml.Device.GetCurrentClocksThrottleReasons),
		field(burnin.SlowSWThermal, nvml.FI_DEV_CLOCKS_EVENT_REASON_SW_THERM_SLOWDOWN),
		field(burnin.SlowHWThermal, nvml.FI_DEV_CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN),
		field(burnin.SlowBrake, nvml.FI_DEV_CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN),
		field(burnin.SlowPowerCap, nvml.FI_DEV_CLOCKS_EVENT_REASON_SW_POWER_CAP),
		number(burnin.ClockSM, "nvmlDeviceGetClockInfo", func(d nvml.Device) (uint32, nvml.Return) { return d.GetClockInfo(nvml.CLOCK_SM) }),
		number(burnin.PowerUsage, "nvmlDeviceGetPowerUsage", nvml.Device.GetPowerUsage),
		number(burnin.PowerEnforced, "nvmlDeviceGetEnforcedPowerLimit", nvml.Device.GetEnforcedPowerLimit),
		number(burnin.PowerDefault, "nvmlDeviceGetPowerManagementDefaultLimit", nvml.Device.GetPowerManagementDefaultLimit),
		number(burnin.Temperature, "nvmlDeviceGetTemperature", func(d nvml.Device) (uint32, nvml.Return) { return d.GetTemperature(nvml.TEMPERATURE_GPU) }),
		field(burnin.TempMemory, nvml.FI_DEV_MEMORY_TEMP),
		number(burnin.TempMargin, "nvmlDeviceGetMarginTemperature", func(d nvml.Device) (int32, nvml.Return) {
			m, ret := d.GetMarginTemperature()
			return m.MarginTemperature, ret
		}),
		number(burnin.Persistence, "nvmlDeviceGetPersistenceMode", nvml.Device.GetPersistenceMode),
		number(burnin.MIG, "nvmlDeviceGetMigMode", func(d nvml.Device) (int, nvml.Return) { now, _, ret := d.GetMigMode(); return now, ret }),
		{[]burnin.Quantity{burnin.Processes}, []string{"nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetComputeRunningProcesses_v2", "nvmlDeviceGetComputeRunningProcesses"}, processes},
	}
}

func bit(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// activeLinks counts the NVLinks that are up, and names those that are not.
func activeLinks(d nvml.Device, out take) nvml.Return {
	n, down := int64(0), []string{}
	for link := range nvml.NVLINK_MAX_LINKS {
		state, ret := d.GetNvLinkState(link)
		switch {
		case ret == nvml.ERROR_INVALID_ARGUMENT, ret == nvml.ERROR_NOT_SUPPORTED && link > 0:
			// The GPU has no more links than these.
			out(burnin.NVLinks, links(n, down))
			return nvml.SUCCESS
		case ret != nvml.SUCCESS:
			return ret
		case state == nvml.FEATURE_ENABLED:
			n++
		default:
			down = append(down, fmt.Sprint(link))
		}
	}
	out(burnin.NVLinks, links(n, down))
	return nvml.SUCCESS
}

func links(n int64, down []string) burnin.Value {
	v := burnin.Value{Number: n}
	if len(down) > 0 {
		v.Text = "link " + strings.Join(down, ", ") + " down"
	}
	return v
}

// slowestLink is the speed of the slowest NVLink that is up.
func slowestLink(d nvml.Device, out take) nvml.Return {
	count, ret := fieldValue(d, nvml.FI_DEV_NVLINK_LINK_COUNT, 0)
	if ret != nvml.SUCCESS {
		return ret
	}
	slowest, at := int64(0), int64(0)
	for link := range min(count, nvml.NVLINK_MAX_LINKS) {
		speed, ret := fieldValue(d, nvml.FI_DEV_NVLINK_GET_SPEED, uint32(link))
		if ret != nvml.SUCCESS {
			return ret
		}
		if speed > 0 && (slowest == 0 || speed < slowest) { // 0: it is down
			slowest, at = speed, link
		}
	}
	v := burnin.Value{Number: slowest}
	if slowest > 0 && at > 0 {
		v.Text = fmt.Sprintf("link %d", at)
	}
	out(burnin.NVLinkSpeed, v)
	return nvml.SUCCESS
}

func fabricState(d nvml.Device, out take) nvml.Return {
	f, ret := d.GetGpuFabricInfo()
	if ret == nvml.SUCCESS && f.State == nvml.GPU_FABRIC_STATE_NOT_SUPPORTED {
		return nvml.ERROR_NOT_SUPPORTED
	}
	names := map[uint8]string{nvml.GPU_FABRIC_STATE_NOT_STARTED: "not started", nvml.GPU_FABRIC_STATE_IN_PROGRESS: "in progress", nvml.GPU_FABRIC_STATE_COMPLETED: "completed"}
	out(burnin.FabricState, burnin.Value{Number: int64(f.State), Text: names[f.State]})
	v := burnin.Value{Number: int64(f.Status)}
	if f.Status != uint32(nvml.SUCCESS) {
		v.Text = describe(nvml.Return(f.Status))
	}
	out(burnin.FabricStatus, v)
	return ret
}

// fabricHealth counts what the fabric manager finds degraded.
func fabricHealth(d nvml.Device, out take) nvml.Return {
	f, ret := d.GetGpuFabricInfoV().V2()
	if ret == nvml.SUCCESS && f.State == nvml.GPU_FABRIC_STATE_NOT_SUPPORTED {
		return nvml.ERROR_NOT_SUPPORTED
	}
	var bad []string
	for _, b := range []struct {
		name         string
		shift, width uint32
	}{
		{"degraded bandwidth", nvml.GPU_FABRIC_HEALTH_MASK_SHIFT_DEGRADED_BW, nvml.GPU_FABRIC_HEALTH_MASK_WIDTH_DEGRADED_BW},
		{"route recovery under way", nvml.GPU_FABRIC_HEALTH_MASK_SHIFT_ROUTE_RECOVERY, nvml.GPU_FABRIC_HEALTH_MASK_WIDTH_ROUTE_RECOVERY},
		{"unhealthy route", nvml.GPU_FABRIC_HEALTH_MASK_SHIFT_ROUTE_UNHEALTHY, nvml.GPU_FABRIC_HEALTH_MASK_WIDTH_ROUTE_UNHEALTHY},
		{"access timeout recovery", nvml.GPU_FABRIC_HEALTH_MASK_SHIFT_ACCESS_TIMEOUT_RECOVERY, nvml.GPU_FABRIC_HEALTH_MASK_WIDTH_ACCESS_TIMEOUT_RECOVERY},
	} {
		if f.HealthMask>>b.shift&b.width == 1 { // 0 not supported, 1 true, 2 false
			bad = append(bad, b.name)
		}
	}
	if c := f.HealthMask >> nvml.GPU_FABRIC_HEALTH_MASK_SHIFT_INCORRECT_CONFIGURATION & nvml.GPU_FABRIC_HEALTH_MASK_WIDTH_INCORRECT_CONFIGURATION; c > nvml.GPU_FABRIC_HEALTH_MASK_INCORRECT_CONFIGURATION_NONE {
		bad = append(bad, fmt.Sprintf("incorrect configuration %d", c))
	}
	out(burnin.FabricHealth, burnin.Value{Number: int64(len(bad)), Text: strings.Join(bad, ", ")})
	return ret
}

func processes(d nvml.Device, out take) nvml.Return {
	list, ret := d.GetComputeRunningProcesses()
	var pids []string
	for _, p := range list {
		pids = append(pids, fmt.Sprintf("pid %d", p.Pid))
	}
	out(burnin.Processes, burnin.Value{Number: int64(len(list)), Text: strings.Join(pids, ", ")})
	return ret
}

// describe is a return code in words. The library's own nvmlErrorString is a
// call like any other.
func describe(ret nvml.Return) string {
	names := map[nvml.Return]string{
		nvml.ERROR_UNINITIALIZED: "not initialized", nvml.ERROR_INVALID_ARGUMENT: "invalid argument", nvml.ERROR_NOT_SUPPORTED: "not supported by this GPU or driver",
		nvml.ERROR_NO_PERMISSION: "no permission: run as root", nvml.ERROR_NOT_FOUND: "not found", nvml.ERROR_DRIVER_NOT_LOADED: "the NVIDIA driver is not loaded",
		nvml.ERROR_TIMEOUT: "timed out", nvml.ERROR_IRQ_ISSUE: "the driver has a problem with the GPU's interrupts", nvml.ERROR_LIBRARY_NOT_FOUND: "library not found",
		nvml.ERROR_FUNCTION_NOT_FOUND: "the driver has no such function", nvml.ERROR_CORRUPTED_INFOROM: "the InfoROM is corrupted", nvml.ERROR_GPU_IS_LOST: "GPU is lost: it has fallen off the bus",
		nvml.ERROR_RESET_REQUIRED: "the GPU needs a reset", nvml.ERROR_OPERATING_SYSTEM: "blocked by the operating system", nvml.ERROR_LIB_RM_VERSION_MISMATCH: "library and kernel module are of different driver versions: reboot",
		nvml.ERROR_IN_USE: "in use", nvml.ERROR_MEMORY: "out of memory", nvml.ERROR_NO_DATA: "no data", nvml.ERROR_INSUFFICIENT_RESOURCES: "insufficient resources", nvml.ERROR_UNKNOWN: "unknown error",
	}
	if s, ok := names[ret]; ok {
		return s
	}
	return fmt.Sprintf("NVML error %d", int32(ret))
}
