// The portable product in fp8, whose mma.sync came with sm_89 and PTX ISA 8.4.
#include "mma.h"

KERNEL(256) void mma_fp8(Job job) { mma::product<mma::FP8>(job); }
