// A stand-in for libnvidia-ml.so.1 with a node of H200 SXM, for tests. What is
// wrong with it stands in FAKE_NVML: words "KEY=VALUE", or "GPU.KEY=VALUE" for
// one GPU alone. It is compiled against NVIDIA's own header, so that layouts
// are theirs.
#define NVML_NO_UNVERSIONED_FUNC_DEFS
#include "nvml.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct nvmlDevice_st {
	int index;
};

static struct nvmlDevice_st gpus[16] = {{0}, {1}, {2}, {3}, {4}, {5}, {6}, {7}, {8}, {9}, {10}, {11}, {12}, {13}, {14}, {15}};

// word finds the value of "KEY=" or "GPU.KEY=" in FAKE_NVML.
static const char *word(int gpu, const char *key)
{
	static _Thread_local char value[128];
	const char *at = getenv("FAKE_NVML");
	char one[96];
	snprintf(one, sizeof one, "%d.%s", gpu, key);
	while (at && *at) {
		size_t len = strcspn(at, " ");
		const char *names[] = {one, key};
		for (int i = gpu < 0; i < 2; i++) {
			size_t n = strlen(names[i]);
			if (len > n && !strncmp(at, names[i], n) && at[n] == '=') {
				snprintf(value, sizeof value, "%.*s", (int)(len - n - 1), at + n + 1);
				return value;
			}
		}
		at += len + (at[len] == ' ');
	}
	return NULL;
}

static long long num(int gpu, const char *key, long long otherwise)
{
	const char *v = word(gpu, key);
	return v ? strtoll(v, NULL, 0) : otherwise;
}

// enter carries out what FAKE_NVML has in store for a call.
static nvmlReturn_t enter(int gpu, const char *call)
{
	const char *v;
	if ((v = word(gpu, "hang")) && !strcmp(v, call))
		for (;;)
			pause();
	if ((v = word(gpu, "crash")) && !strcmp(v, call))
		abort();
	if ((v = word(gpu, "fails")) && !strcmp(v, call))
		return NVML_ERROR_UNKNOWN;
	if ((v = word(gpu, "lacks")) && !strcmp(v, call))
		return NVML_ERROR_NOT_SUPPORTED;
	if (gpu >= 0 && num(gpu, "lost", 0))
		return NVML_ERROR_GPU_IS_LOST;
	return NVML_SUCCESS;
}

#define ENTER(gpu)                                 \
	do {                                           \
		nvmlReturn_t ret = enter((gpu), __func__); \
		if (ret != NVML_SUCCESS)                   \
			return ret;                            \
	} while (0)

// GETNUM defines a call that gives one number.
#define GETNUM(name, type, key, value)          \
	nvmlReturn_t name(nvmlDevice_t d, type *out) \
	{                                           \
		ENTER(d.handle->index);                        \
		*out = (type)num(d.handle->index, key, value); \
		return NVML_SUCCESS;                    \
	}

#define GETTEXT(name, ...)                                       \
	nvmlReturn_t name(nvmlDevice_t d, char *out, unsigned int n) \
	{                                                            \
		ENTER(d.handle->index);                                         \
		snprintf(out, n, __VA_ARGS__);                           \
		return NVML_SUCCESS;                                     \
	}

nvmlReturn_t nvmlInit_v2(void)
{
	ENTER(-1);
	return (nvmlReturn_t)num(-1, "init", 0);
}

nvmlReturn_t nvmlSystemGetDriverVersion(char *out, unsigned int n)
{
	ENTER(-1);
	snprintf(out, n, "570.86.15");
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlSystemGetConfComputeState(nvmlConfComputeSystemState_t *out)
{
	ENTER(-1);
	memset(out, 0, sizeof *out);
	out->ccFeature = (unsigned int)num(-1, "confidential", 0);
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetCount_v2(unsigned int *out)
{
	ENTER(-1);
	*out = (unsigned int)num(-1, "gpus", 8);
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned int i, nvmlDevice_t *out)
{
	ENTER((int)i);
	out->handle = &gpus[i];
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t d, nvmlPciInfo_t *out)
{
	ENTER(-1);
	memset(out, 0, sizeof *out);
	out->bus = 0x18 + 0x10 * (unsigned int)d.handle->index;
	out->pciDeviceId = 0x233510de;
	snprintf(out->busId, sizeof out->busId, "00000000:%02X:00.0", out->bus);
	return NVML_SUCCESS;
}

GETTEXT(nvmlDeviceGetName, "NVIDIA H200")
GETTEXT(nvmlDeviceGetSerial, "165%d", d.handle->index)
GETTEXT(nvmlDeviceGetUUID, "GPU-%08x", d.handle->index)
GETTEXT(nvmlDeviceGetVbiosVersion, "96.00.A5.00.%02lld", num(d.handle->index, "vbios", 1))
GETTEXT(nvmlDeviceGetInforomImageVersion, "G520.0200.00.05")
GETNUM(nvmlDeviceGetPerformanceState, nvmlPstates_t, "pstate", 0)
GETNUM(nvmlDeviceGetCurrPcieLinkGeneration, unsigned int, "pcie_gen", 5)
GETNUM(nvmlDeviceGetMaxPcieLinkGeneration, unsigned int, "pcie_gen_max", 5)
GETNUM(nvmlDeviceGetCurrPcieLinkWidth, unsigned int, "pcie_width", 16)
GETNUM(nvmlDeviceGetMaxPcieLinkWidth, unsigned int, "pcie_width_max", 16)
GETNUM(nvmlDeviceGetPcieReplayCounter, unsigned int, "replays", 0)
GETNUM(nvmlDeviceGetCurrentClocksThrottleReasons, unsigned long long, "reasons", 5)
GETNUM(nvmlDeviceGetPowerUsage, unsigned int, "power", 75000)
GETNUM(nvmlDeviceGetEnforcedPowerLimit, unsigned int, "power_limit", 700000)
GETNUM(nvmlDeviceGetPowerManagementDefaultLimit, unsigned int, "power_default", 700000)
GETNUM(nvmlDeviceGetPersistenceMode, nvmlEnableState_t, "persistence", 1)

nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t d, nvmlMemory_t *out)
{
	ENTER(d.handle->index);
	memset(out, 0, sizeof *out);
	out->total = (unsigned long long)num(d.handle->index, "memory_mib", 143771) << 20;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetBAR1MemoryInfo(nvmlDevice_t d, nvmlBAR1Memory_t *out)
{
	ENTER(d.handle->index);
	memset(out, 0, sizeof *out);
	out->bar1Total = (unsigned long long)num(d.handle->index, "bar1_mib", 262144) << 20;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetEccMode(nvmlDevice_t d, nvmlEnableState_t *now, nvmlEnableState_t *next)
{
	ENTER(d.handle->index);
	*now = (nvmlEnableState_t)num(d.handle->index, "ecc", 1);
	*next = (nvmlEnableState_t)num(d.handle->index, "ecc_pending", 1);
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetTotalEccErrors(nvmlDevice_t d, nvmlMemoryErrorType_t type, nvmlEccCounterType_t counter, unsigned long long *out)
{
	ENTER(d.handle->index);
	*out = (unsigned long long)num(d.handle->index, type == NVML_MEMORY_ERROR_TYPE_UNCORRECTED ? "uncorrected" : "corrected", 0);
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetSramEccErrorStatus(nvmlDevice_t d, nvmlEccSramErrorStatus_t *out)
{
	ENTER(d.handle->index);
	if (out->version != nvmlEccSramErrorStatus_v1)
		return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
	out->aggregateUncSecDed = (unsigned long long)num(d.handle->index, "sram", 0);
	out->bThresholdExceeded = (unsigned int)num(d.handle->index, "sram_over", 0);
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetRemappedRows(nvmlDevice_t d, unsigned int *cor, unsigned int *unc, unsigned int *pending, unsigned int *failed)
{
	ENTER(d.handle->index);
	*cor = 0;
	*unc = (unsigned int)num(d.handle->index, "remapped", 0);
	*pending = (unsigned int)num(d.handle->index, "remap_pending", 0);
	*failed = (unsigned int)num(d.handle->index, "remap_failed", 0);
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetRowRemapperHistogram(nvmlDevice_t d, nvmlRowRemapperHistogramValues_t *out)
{
	ENTER(d.handle->index);
	memset(out, 0, sizeof *out);
	out->max = 2560;
	out->none = (unsigned int)num(d.handle->index, "remap_bare", 0);
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetNvLinkState(nvmlDevice_t d, unsigned int link, nvmlEnableState_t *out)
{
	ENTER(d.handle->index);
	if (link >= 18)
		return NVML_ERROR_INVALID_ARGUMENT;
	*out = num(d.handle->index, "link_down", -1) == (long long)link ? NVML_FEATURE_DISABLED : NVML_FEATURE_ENABLED;
	return NVML_SUCCESS;
}

// grown is a counter that grows with every reading when it is told to.
static unsigned long long grown(int gpu, const char *key)
{
	static unsigned long long readings;
	return 1000 + (num(gpu, key, 0) ? 500 * __atomic_add_fetch(&readings, 1, __ATOMIC_RELAXED) : 0);
}

static nvmlReturn_t one_field(int gpu, nvmlFieldValue_t *f)
{
	char key[32];
	f->valueType = NVML_VALUE_TYPE_UNSIGNED_LONG_LONG;
	snprintf(key, sizeof key, "no_field_%u", f->fieldId);
	if (num(gpu, key, 0))
		return NVML_ERROR_NOT_SUPPORTED;
	switch (f->fieldId) {
	case NVML_FI_DEV_GET_GPU_RECOVERY_ACTION:
		f->valueType = NVML_VALUE_TYPE_UNSIGNED_INT;
		f->value.uiVal = (unsigned int)num(gpu, "recovery", 0);
		return NVML_SUCCESS;
	case NVML_FI_DEV_NVLINK_LINK_COUNT:
		f->valueType = NVML_VALUE_TYPE_UNSIGNED_INT;
		f->value.uiVal = 18;
		return NVML_SUCCESS;
	case NVML_FI_DEV_NVLINK_GET_SPEED:
		f->valueType = NVML_VALUE_TYPE_UNSIGNED_INT;
		f->value.uiVal = f->scopeId == 5 ? (unsigned int)num(gpu, "link_speed", 26562) : 26562;
		return NVML_SUCCESS;
	case NVML_FI_DEV_NVLINK_ERROR_DL_REPLAY:
		f->value.ullVal = f->scopeId == 0 ? grown(gpu, "link_errors") : 0;
		return NVML_SUCCESS;
	case NVML_FI_DEV_NVLINK_ERROR_DL_CRC:
		f->value.ullVal = 0;
		return NVML_SUCCESS;
	case NVML_FI_DEV_NVLINK_ERROR_DL_RECOVERY:
		f->value.ullVal = f->scopeId == 17 ? grown(gpu, "link_recoveries") : 0;
		return NVML_SUCCESS;
	case NVML_FI_DEV_CLOCKS_EVENT_REASON_SW_THERM_SLOWDOWN:
		f->value.ullVal = grown(gpu, "sw_thermal");
		return NVML_SUCCESS;
	case NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN:
		f->value.ullVal = grown(gpu, "hw_thermal");
		return NVML_SUCCESS;
	case NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN:
		f->value.ullVal = grown(gpu, "power_brake");
		return NVML_SUCCESS;
	case NVML_FI_DEV_CLOCKS_EVENT_REASON_SW_POWER_CAP:
		f->value.ullVal = 1000;
		return NVML_SUCCESS;
	case NVML_FI_DEV_MEMORY_TEMP:
		f->valueType = NVML_VALUE_TYPE_UNSIGNED_INT;
		f->value.uiVal = 33;
		return NVML_SUCCESS;
	}
	return NVML_ERROR_INVALID_ARGUMENT;
}

nvmlReturn_t nvmlDeviceGetFieldValues(nvmlDevice_t d, int n, nvmlFieldValue_t *f)
{
	ENTER(d.handle->index);
	for (int i = 0; i < n; i++)
		f[i].nvmlReturn = one_field(d.handle->index, &f[i]);
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetGpuFabricInfo(nvmlDevice_t d, nvmlGpuFabricInfo_t *out)
{
	ENTER(d.handle->index);
	out->state = (nvmlGpuFabricState_t)num(d.handle->index, "fabric", NVML_GPU_FABRIC_STATE_COMPLETED);
	out->status = (nvmlReturn_t)num(d.handle->index, "fabric_status", NVML_SUCCESS);
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetGpuFabricInfoV(nvmlDevice_t d, nvmlGpuFabricInfoV_t *out)
{
	ENTER(d.handle->index);
	nvmlGpuFabricInfo_v2_t *v2 = (nvmlGpuFabricInfo_v2_t *)out;
	if (v2->version != nvmlGpuFabricInfo_v2)
		return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
	v2->state = (nvmlGpuFabricState_t)num(d.handle->index, "fabric", NVML_GPU_FABRIC_STATE_COMPLETED);
	v2->healthMask = (unsigned int)num(d.handle->index, "fabric_health", 0xaa); // 2 in each: false
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetClockInfo(nvmlDevice_t d, nvmlClockType_t type, unsigned int *out)
{
	ENTER(d.handle->index);
	*out = 1980;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t d, nvmlTemperatureSensors_t sensor, unsigned int *out)
{
	ENTER(d.handle->index);
	*out = 30;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMarginTemperature(nvmlDevice_t d, nvmlMarginTemperature_t *out)
{
	ENTER(d.handle->index);
	if (out->version != nvmlMarginTemperature_v1)
		return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
	out->marginTemperature = (int)num(d.handle->index, "margin", 57);
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t d, unsigned int *now, unsigned int *next)
{
	ENTER(d.handle->index);
	*now = *next = (unsigned int)num(d.handle->index, "mig", 0);
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t d, unsigned int *n, nvmlProcessInfo_t *out)
{
	ENTER(d.handle->index);
	unsigned int have = num(d.handle->index, "pid", 0) ? 1 : 0;
	if (*n < have) {
		*n = have;
		return NVML_ERROR_INSUFFICIENT_SIZE;
	}
	*n = have;
	if (have) {
		memset(out, 0, sizeof *out);
		out->pid = (unsigned int)num(d.handle->index, "pid", 0);
	}
	return NVML_SUCCESS;
}

// An event set is of one GPU here.
struct nvmlEventSet_st {
	nvmlDevice_t device;
	int told;
};

nvmlReturn_t nvmlEventSetCreate(nvmlEventSet_t *out)
{
	ENTER(-1);
	out->handle = calloc(1, sizeof *out->handle);
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceRegisterEvents(nvmlDevice_t d, unsigned long long types, nvmlEventSet_t set)
{
	ENTER(d.handle->index);
	set.handle->device = d;
	return types == nvmlEventTypeXidCriticalError ? NVML_SUCCESS : NVML_ERROR_INVALID_ARGUMENT;
}

nvmlReturn_t nvmlEventSetWait_v2(nvmlEventSet_t set, nvmlEventData_t *out, unsigned int timeout)
{
	ENTER(set.handle->device.handle->index);
	long long xid = num(set.handle->device.handle->index, "xid", 0);
	if (!xid || set.handle->told)
		return NVML_ERROR_TIMEOUT;
	set.handle->told = 1;
	memset(out, 0, sizeof *out);
	out->device = set.handle->device;
	out->eventType = nvmlEventTypeXidCriticalError;
	out->eventData = (unsigned long long)xid;
	return NVML_SUCCESS;
}
