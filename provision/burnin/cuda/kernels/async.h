// The asynchronous instructions of sm_90a: copies of tiles by their tensor maps
// (TMA), the barriers that count them, and the products of four warps (wgmma).
#pragma once

#include "hardware.h"

#ifdef FIRSTLIGHT_HOST
#include "../testdata/host_async.h"
#else

DEVICE void barrierInit(u32 at, u32 count) { asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(at), "r"(count) : "memory"); }
// barriersReady makes what was initialized known to the copies.
DEVICE void barriersReady() { asm volatile("fence.mbarrier_init.release.cluster;\n\tfence.proxy.async;" ::: "memory"); }
DEVICE void barrierArrive(u32 at) { asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(at) : "memory"); }
DEVICE void barrierExpect(u32 at, u32 bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(at), "r"(bytes) : "memory");
}
DEVICE void barrierWait(u32 at, u32 parity) {
  asm volatile(
      "{\n\t.reg .pred done;\n"
      "again:\n\t"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n\t"
      "@!done bra again;\n\t}" ::"r"(at),
      "r"(parity)
      : "memory");
}

// copyTile begins to copy a box of a tensor map, which begins at x bytes of a
// row and at a row, and counts its bytes at a barrier.
DEVICE void copyTile(u32 to, u64 map, u32 x, u32 row, u32 counted) {
  asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];" ::"r"(to), "l"(map),
               "r"(x), "r"(row), "r"(counted)
               : "memory");
}

template <int registers>
DEVICE void moreRegisters() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(registers));
}
template <int registers>
DEVICE void fewerRegisters() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(registers));
}

DEVICE void productsBegin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
DEVICE void productsCommit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int most>
DEVICE void productsWait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(most) : "memory");
}

#define ALL4(c, d, i) c(d[i]), c(d[i + 1]), c(d[i + 2]), c(d[i + 3])
#define ALL16(c, d, i) ALL4(c, d, i), ALL4(c, d, i + 4), ALL4(c, d, i + 8), ALL4(c, d, i + 12)
#define ALL64(c, d, i) ALL16(c, d, i), ALL16(c, d, i + 16), ALL16(c, d, i + 32), ALL16(c, d, i + 48)
#define ALL128(c, d) ALL64(c, d, 0), ALL64(c, d, 64)
#define NAMES64 \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, " \
  "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define NAMES128 \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, " \
  "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, " \
  "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, " \
  "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, " \
  "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, " \
  "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"

// d = a*b, plus d where more is not 0: 64 rows of a and 256 or 128 of b, 32
// bytes of each, described by a and b.
DEVICE void wgmmaBF16(float (&d)[128], u64 a, u64 b, u32 more) {
  asm volatile("{\n\t.reg .pred more;\n\tsetp.ne.b32 more, %130, 0;\n\t"
               "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 {" NAMES128 "}, %128, %129, more, 1, 1, 0, 0;\n\t}"
               : ALL128("+f", d)
               : "l"(a), "l"(b), "r"(more));
}
DEVICE void wgmmaINT8(int (&d)[128], u64 a, u64 b, u32 more) {
  asm volatile("{\n\t.reg .pred more;\n\tsetp.ne.b32 more, %130, 0;\n\t"
               "wgmma.mma_async.sync.aligned.m64n256k32.s32.s8.s8 {" NAMES128 "}, %128, %129, more;\n\t}"
               : ALL128("+r", d)
               : "l"(a), "l"(b), "r"(more));
}
DEVICE void wgmmaFP8(float (&d)[64], u64 a, u64 b, u32 more) {
  asm volatile("{\n\t.reg .pred more;\n\tsetp.ne.b32 more, %66, 0;\n\t"
               "wgmma.mma_async.sync.aligned.m64n128k32.f32.e4m3.e4m3 {" NAMES64 "}, %64, %65, more, 1, 1;\n\t}"
               : ALL64("+f", d, 0)
               : "l"(a), "l"(b), "r"(more));
}

// settled: no accumulator is read or written across this place.
DEVICE void settled(float (&d)[128]) { asm volatile("" : ALL128("+f", d)::"memory"); }
DEVICE void settled(int (&d)[128]) { asm volatile("" : ALL128("+r", d)::"memory"); }
DEVICE void settled(float (&d)[64]) { asm volatile("" : ALL64("+f", d, 0)::"memory"); }

#endif
