// Products on sm_90a, which no other architecture runs.
#include "wgmma.h"

KERNEL(384) void wgmma_bf16(Job job) { wgmma::product<wgmma::BF16>(job); }
KERNEL(384) void wgmma_int8(Job job) { wgmma::product<wgmma::INT8>(job); }
KERNEL(384) void wgmma_fp8(Job job) { wgmma::product<wgmma::FP8>(job); }
