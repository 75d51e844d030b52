// A stand-in for NVIDIA's libnvidia-ml.so.1, built by the tests: one GPU whose
// readings never change. LIBNVML_FAULT=hang has every reading hang.
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define READ(name, type, v)            \
  int name {                           \
    const char* f = getenv("LIBNVML_FAULT"); \
    while (f && !strcmp(f, "hang")) pause(); \
    *out = v;                          \
    return 0;                          \
  }

struct Field {
  unsigned field, scope;
  long long at, latency;
  unsigned kind, status, value;
};

int nvmlInit_v2(void) { return 0; }
int nvmlDeviceGetHandleByPciBusId_v2(const char* pci, void** out) {
  if (strcmp(pci, "0000:18:00.0")) return 6;
  *out = "gpu";
  return 0;
}
int nvmlSystemGetDriverVersion(char* out, unsigned size) {
  strncpy(out, "570.124.06", size);
  return 0;
}
READ(nvmlDeviceGetTemperature(void* d, int kind, unsigned* out), unsigned, kind == 0 ? 61 : 0)
READ(nvmlDeviceGetClockInfo(void* d, int kind, unsigned* out), unsigned, kind == 1 ? 1755 : 0)
READ(nvmlDeviceGetPowerUsage(void* d, unsigned* out), unsigned, 690500)
READ(nvmlDeviceGetCurrentClocksThrottleReasons(void* d, unsigned long long* out), unsigned long long, 4)
int nvmlDeviceGetFieldValues(void* d, int count, struct Field* f) {
  if (count != 1 || f->field != 82) return 2;
  f->status = 0, f->value = 74;
  return 0;
}
