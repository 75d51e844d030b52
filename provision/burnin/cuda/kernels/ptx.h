// The processor's instructions that C++ has no words for, on the GPU. The
// names of the instructions are those of the PTX ISA, where they are defined.
#pragma once

#define DEVICE __attribute__((device, always_inline)) inline
#define OUTLINE __attribute__((device, noinline)) static
#define KERNEL(threads) extern "C" __attribute__((global, launch_bounds(threads, 1)))
#define UNROLL _Pragma("unroll")

DEVICE u32 threadIndex() { return __nvvm_read_ptx_sreg_tid_x(); }
DEVICE u32 blockIndex() { return __nvvm_read_ptx_sreg_ctaid_x(); }
DEVICE u32 blockSize() { return __nvvm_read_ptx_sreg_ntid_x(); }
DEVICE u32 gridSize() { return __nvvm_read_ptx_sreg_nctaid_x(); }

DEVICE u32 smid() {
  u32 id;
  asm volatile("mov.u32 %0, %%smid;" : "=r"(id));
  return id;
}

DEVICE void barrier() { __syncthreads(); }

// dynamicShared is the address of the block's shared memory in its own space.
extern __attribute__((shared, aligned(1024))) u8 dynamicMemory[];
DEVICE u32 dynamicShared() { return (u32)(u64)(__attribute__((address_space(3))) u8*)dynamicMemory; }

DEVICE void atomicAdd64(u64* at, u64 v) { asm volatile("red.global.add.u64 [%0], %1;" ::"l"(at), "l"(v) : "memory"); }

DEVICE u32 atomicAdd32(u32* at, u32 v) {
  u32 old;
  asm volatile("atom.global.add.u32 %0, [%1], %2;" : "=r"(old) : "l"(at), "r"(v) : "memory");
  return old;
}

DEVICE u32 shuffleXor(u32 v, u32 mask) {
  u32 out;
  asm volatile("shfl.sync.bfly.b32 %0, %1, %2, 31, 0xffffffff;" : "=r"(out) : "r"(v), "r"(mask));
  return out;
}

struct Pair {
  u64 x, y;
};

// Streaming loads and stores of 16 bytes: what is swept over is not read again soon.
DEVICE Pair loadPair(const u64* at) {
  Pair p;
  asm volatile("ld.global.cs.v2.u64 {%0, %1}, [%2];" : "=l"(p.x), "=l"(p.y) : "l"(at) : "memory");
  return p;
}
DEVICE void storePair(u64* at, Pair p) { asm volatile("st.global.cs.v2.u64 [%0], {%1, %2};" ::"l"(at), "l"(p.x), "l"(p.y) : "memory"); }
DEVICE void storeBits(u32* at, u32 x, u32 y) { asm volatile("st.global.cs.v2.u32 [%0], {%1, %2};" ::"l"(at), "r"(x), "r"(y) : "memory"); }

DEVICE u32 bitsOf(float v) { return __builtin_bit_cast(u32, v); }

// Copies from global to shared memory that go on beside the computation.
DEVICE void copyAsync16(u32 shared, const u8* global) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared), "l"(global) : "memory");
}
DEVICE void commitCopies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int most>
DEVICE void waitCopies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(most) : "memory");
}

DEVICE void loadMatrix4(u32 (&r)[4], u32 shared) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared)
               : "memory");
}

DEVICE void mmaBF16(float (&d)[4], const u32 (&a)[4], const u32* b) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
DEVICE void mmaINT8(int (&d)[4], const u32 (&a)[4], const u32* b) {
  asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
DEVICE void mmaFP8(float (&d)[4], const u32 (&a)[4], const u32* b) {
  asm volatile("mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
