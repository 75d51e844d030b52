// A stand-in for NVIDIA's libcuda.so.1, built by the tests. Device memory is the
// host's, and kernels run on the processor of host.h. LIBCUDA_FAULT has calls
// fail: CALL:CODE or CALL:CODE:AFTER, where CODE is a CUresult or "hang" and
// AFTER is how many calls succeed first. LIBCUDA_DEVICES is how many GPUs there
// are, LIBCUDA_CC their compute capability (80, 90), LIBCUDA_FREE the bytes
// that are free.
#include <malloc.h>
#include <unistd.h>

#define FIRSTLIGHT_HOST
#include "../kernels/portable.cu"
#include "../kernels/ada.cu"
#include "../kernels/hopper.cu"

namespace {

typedef int Status;
constexpr Status ok = 0, invalid = 1, outOfMemory = 2, noDevice = 100, notFound = 500;

u64 number(const char* name, u64 otherwise) {
  const char* v = getenv(name);
  return v && *v ? strtoull(v, nullptr, 10) : otherwise;
}

Status fault(const char* call) {
  static char counted[64];
  static u64 calls;
  const char* want = getenv("LIBCUDA_FAULT");
  size_t n = strlen(call);
  if (!want || strncmp(want, call, n) || want[n] != ':') return ok;
  const char* code = want + n + 1;
  const char* after = strchr(code, ':');
  if (strcmp(counted, call)) strncpy(counted, call, sizeof counted - 1), calls = 0;
  if (calls++ < (after ? strtoull(after + 1, nullptr, 10) : 0)) return ok;
  if (!strncmp(code, "hang", 4))
    for (;;) pause();
  return atoi(code);
}

#define CHECKED \
  if (Status s = fault(__func__)) return s

template <class T>
T argument(void** p, int i) {
  return *(T*)p[i];
}

struct Entry {
  const char* name;
  void (*call)(void**);
};

const Entry entries[] = {
    {"mma_bf16", [](void** p) { mma_bf16(argument<Job>(p, 0)); }},
    {"mma_int8", [](void** p) { mma_int8(argument<Job>(p, 0)); }},
    {"mma_fp8", [](void** p) { mma_fp8(argument<Job>(p, 0)); }},
    {"wgmma_bf16", [](void** p) { wgmma_bf16(argument<Job>(p, 0)); }},
    {"wgmma_int8", [](void** p) { wgmma_int8(argument<Job>(p, 0)); }},
    {"wgmma_fp8", [](void** p) { wgmma_fp8(argument<Job>(p, 0)); }},
    {"fill",
     [](void** p) {
       fill(argument<u64>(p, 0), argument<u64>(p, 1), argument<u32>(p, 2), argument<u32>(p, 3), argument<u64>(p, 4), argument<u64>(p, 5),
            argument<u64>(p, 6), argument<u32>(p, 7));
     }},
    {"memory_fill", [](void** p) { memory_fill(argument<u64>(p, 0), argument<u64>(p, 1), argument<u32>(p, 2), argument<u64>(p, 3)); }},
    {"memory_check",
     [](void** p) { memory_check(argument<u64>(p, 0), argument<u64>(p, 1), argument<u32>(p, 2), argument<u64>(p, 3), argument<u64>(p, 4)); }},
    {"memory_copy", [](void** p) { memory_copy(argument<u64>(p, 0), argument<u64>(p, 1), argument<u64>(p, 2)); }},
};

}  // namespace

extern "C" {

Status cuGetErrorName(Status s, const char** name) {
  switch (s) {
    case invalid: *name = "CUDA_ERROR_INVALID_VALUE"; return ok;
    case outOfMemory: *name = "CUDA_ERROR_OUT_OF_MEMORY"; return ok;
    case noDevice: *name = "CUDA_ERROR_NO_DEVICE"; return ok;
    case notFound: *name = "CUDA_ERROR_NOT_FOUND"; return ok;
    case 700: *name = "CUDA_ERROR_ILLEGAL_ADDRESS"; return ok;
    case 719: *name = "CUDA_ERROR_LAUNCH_FAILED"; return ok;
  }
  return invalid;
}

Status cuInit(u32) {
  CHECKED;
  return number("LIBCUDA_DEVICES", 1) ? ok : noDevice;
}
Status cuDriverGetVersion(int* v) { CHECKED; *v = 12080; return ok; }
Status cuDeviceGetCount(int* n) { CHECKED; *n = (int)number("LIBCUDA_DEVICES", 1); return ok; }
Status cuDeviceGet(int* device, int i) { CHECKED; *device = i; return ok; }
Status cuDeviceGetName(char* name, int size, int) { CHECKED; snprintf(name, (size_t)size, "host processor of the tests"); return ok; }
Status cuDeviceGetUuid_v2(u8* uuid, int device) { CHECKED; memset(uuid, 0x11, 16); uuid[15] = (u8)device; return ok; }
Status cuDeviceGetPCIBusId(char* id, int size, int device) { CHECKED; snprintf(id, (size_t)size, "0000:%02X:00.0", 0x18 + device); return ok; }
Status cuDeviceTotalMem_v2(u64* bytes, int) { CHECKED; *bytes = 1 << 28; return ok; }
Status cuDeviceGetAttribute(int* v, int attribute, int) {
  CHECKED;
  int cc = (int)number("LIBCUDA_CC", 80);
  switch (attribute) {
    case 16: *v = 4; return ok;                       // multiprocessors
    case 75: *v = cc / 10; return ok;                 // compute capability
    case 76: *v = cc % 10; return ok;
    case 97: *v = host::mostShared; return ok;        // shared memory of a block
  }
  return invalid;
}
Status cuDevicePrimaryCtxRetain(u64* context, int device) { CHECKED; *context = (u64)device + 1; return ok; }
Status cuCtxSetCurrent(u64) { CHECKED; return ok; }
Status cuCtxSynchronize() { CHECKED; return ok; }
Status cuModuleLoadDataEx(u64* module, const char* ptx, u32, int*, void**) {
  CHECKED;
  if (!strstr(ptx, ".version")) return invalid;
  *module = (u64)strdup(ptx);  // as the driver, which keeps none of the caller's memory
  return ok;
}
Status cuModuleGetFunction(u64* function, u64 module, const char* name) {
  CHECKED;
  char line[128];
  snprintf(line, sizeof line, ".entry %s(", name);
  if (!strstr((const char*)module, line)) return notFound;
  for (const Entry& e : entries)
    if (!strcmp(e.name, name)) return *function = (u64)&e, ok;
  return notFound;
}
Status cuFuncSetAttribute(u64, int, int) { CHECKED; return ok; }
Status cuLaunchKernel(u64 function, u32 x, u32 y, u32 z, u32 bx, u32 by, u32 bz, u32 shared, u64, void** arguments, void**) {
  CHECKED;
  if (y * z * by * bz != 1) return invalid;
  host::run(x, bx, shared, ((const Entry*)function)->call, arguments);
  return ok;
}
Status cuMemGetInfo_v2(u64* unused, u64* total) { CHECKED; *unused = number("LIBCUDA_FREE", 1 << 20), *total = 1 << 28; return ok; }
Status cuMemAlloc_v2(u64* at, u64 size) {
  CHECKED;
  *at = (u64)memalign(1024, size);
  return *at ? ok : outOfMemory;
}
Status cuMemFree_v2(u64 at) { CHECKED; free((void*)at); return ok; }
Status cuMemAllocHost_v2(u64* at, u64 size) { CHECKED; *at = (u64)memalign(4096, size); return *at ? ok : outOfMemory; }
Status cuMemFreeHost(u64 at) { CHECKED; free((void*)at); return ok; }
Status cuMemcpyHtoD_v2(u64 to, void* from, u64 size) { CHECKED; memcpy((void*)to, from, size); return ok; }
Status cuMemcpyDtoH_v2(void* to, u64 from, u64 size) { CHECKED; memcpy(to, (void*)from, size); return ok; }
Status cuMemcpyHtoDAsync_v2(u64 to, void* from, u64 size, u64) { CHECKED; memcpy((void*)to, from, size); return ok; }
Status cuMemcpyDtoHAsync_v2(void* to, u64 from, u64 size, u64) { CHECKED; memcpy(to, (void*)from, size); return ok; }
struct Copy2D {
  u64 srcX, srcY, srcType;
  u8* srcHost;
  u8* srcDevice;
  u64 srcArray, srcPitch, dstX, dstY, dstType;
  u8* dstHost;
  u8* dstDevice;
  u64 dstArray, dstPitch, width, height;
};
Status cuMemcpy2D_v2(const Copy2D* c) {
  CHECKED;
  if ((u32)c->srcType != 2 || (u32)c->dstType != 1 || c->srcX || c->srcY || c->dstX || c->dstY) return invalid;
  for (u64 i = 0; i < c->height; i++) memcpy(c->dstHost + i * c->dstPitch, c->srcDevice + i * c->srcPitch, c->width);
  return ok;
}
Status cuMemcpyDtoDAsync_v2(u64 to, u64 from, u64 size, u64) { CHECKED; memcpy((void*)to, (void*)from, size); return ok; }
Status cuMemcpyPeerAsync(u64 to, u64, u64 from, u64, u64 size, u64) { CHECKED; memcpy((void*)to, (void*)from, size); return ok; }
Status cuMemsetD8_v2(u64 at, u8 v, u64 size) { CHECKED; memset((void*)at, v, size); return ok; }
Status cuTensorMapEncodeTiled(host::Map* map, int type, u32 rank, u8* at, const u64* size, const u64* pitch, const u32* box, const u32* step, int interleave,
                              int swizzle, int, int) {
  CHECKED;
  // Bytes, two dimensions, the swizzle of 128 bytes: what is not so is not known here.
  if (type != 0 || rank != 2 || interleave || swizzle != 3 || step[0] != 1 || step[1] != 1 || box[0] != 128 || box[1] > 256 || pitch[0] % 16 ||
      (u64)at % 16 || (u64)map % 64)
    return invalid;
  *map = {at, size[0], size[1], pitch[0], box[0], box[1]};
  return ok;
}
Status cuDeviceCanAccessPeer(int* can, int, int) { CHECKED; *can = 1; return ok; }
Status cuCtxEnablePeerAccess(u64, u32) { CHECKED; return ok; }

}  // extern "C"
