// What the kernels need of the processor, so that no toolkit's headers are
// needed: for the GPU as PTX, for tests as functions of the host that do the
// same.
#pragma once

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;

#ifdef FIRSTLIGHT_HOST
#include "../testdata/host.h"
#else
#include "ptx.h"
#endif
