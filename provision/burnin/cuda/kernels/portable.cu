// Kernels for every GPU from sm_80 on.
#include "mma.h"

KERNEL(256) void mma_bf16(Job job) { mma::product<mma::BF16>(job); }
KERNEL(256) void mma_int8(Job job) { mma::product<mma::INT8>(job); }

// fill generates a factor: rows of kBytes, the element (row, k) of the index
// row*rowStride + k*kStride.
KERNEL(256) void fill(u64 at, u64 words, u32 format, u32 perRow, u64 rowStride, u64 kStride, u64 seed, u32 span) {
  u32 each = format == formatBF16 ? 2 : 4, bits = 32 / each;
  for (u64 w = (u64)blockIndex() * blockSize() + threadIndex(); w < words; w += (u64)gridSize() * blockSize()) {
    u64 first = w * each, row = first / perRow, k = first % perRow;
    u32 v = 0;
    for (u32 i = 0; i < each; i++) v |= encode(format, element(seed, row * rowStride + (k + i) * kStride, span)) << (i * bits);
    ((u32*)at)[w] = v;
  }
}

// A loop for each pattern: what is asked for each word costs bandwidth.
template <template <u32> class Loop, class... Arguments>
DEVICE void forPattern(u32 pattern, Arguments... arguments) {
  switch (pattern) {
    case 0: return Loop<0>::run(arguments...);
    case 1: return Loop<1>::run(arguments...);
    case 2: return Loop<2>::run(arguments...);
    case 3: return Loop<3>::run(arguments...);
    case 4: return Loop<4>::run(arguments...);
    case 5: return Loop<5>::run(arguments...);
    case 6: return Loop<6>::run(arguments...);
  }
}

template <u32 pattern>
struct Fill {
  DEVICE static void run(u64* at, u64 words, u64 seed) {
    u64 step = (u64)gridSize() * blockSize() * 2;
    for (u64 i = ((u64)blockIndex() * blockSize() + threadIndex()) * 2; i < words; i += step)
      storePair(at + i, Pair{word(pattern, seed, i), word(pattern, seed, i + 1)});
  }
};

// memory_fill writes a pattern over words, an even number of them.
KERNEL(1024) void memory_fill(u64 at, u64 words, u32 pattern, u64 seed) { forPattern<Fill>(pattern, (u64*)at, words, seed); }

// Wrong is what memory_check found: how many words, and the first to be told.
constexpr u32 mostWrong = 63;
struct Wrong {
  u64 words;
  u32 told, unused;
  struct {
    u64 index, got;
  } first[mostWrong];
};

OUTLINE void differs(Wrong* wrong, u64 index, u64 got) {
  atomicAdd64(&wrong->words, 1);
  if (*(volatile u32*)&wrong->told >= mostWrong) return;
  u32 at = atomicAdd32(&wrong->told, 1);
  if (at < mostWrong) wrong->first[at].index = index, wrong->first[at].got = got;
}

// Four loads are under way for each thread: memory as fast as HBM needs that
// many.
template <u32 pattern>
struct Check {
  DEVICE static void run(const u64* at, u64 words, u64 seed, Wrong* wrong) {
    constexpr u32 ahead = 4;
    u64 step = (u64)gridSize() * blockSize() * 2;
    for (u64 i = ((u64)blockIndex() * blockSize() + threadIndex()) * 2; i < words; i += ahead * step) {
      Pair got[ahead];
      UNROLL
      for (u32 j = 0; j < ahead; j++) {
        if (i + j * step < words) got[j] = loadPair(at + i + j * step);
      }
      UNROLL
      for (u32 j = 0; j < ahead; j++) {
        u64 index = i + j * step;
        if (index >= words) break;
        if (got[j].x != word(pattern, seed, index)) differs(wrong, index, got[j].x);
        if (got[j].y != word(pattern, seed, index + 1)) differs(wrong, index + 1, got[j].y);
      }
    }
  }
};

// memory_check reads words and holds them against a pattern.
KERNEL(1024) void memory_check(u64 at, u64 words, u32 pattern, u64 seed, u64 wrong) {
  forPattern<Check>(pattern, (const u64*)at, words, seed, (Wrong*)wrong);
}

// memory_copy copies words, an even number of them.
KERNEL(1024) void memory_copy(u64 to, u64 from, u64 words) {
  u64 step = (u64)gridSize() * blockSize() * 2;
  for (u64 i = ((u64)blockIndex() * blockSize() + threadIndex()) * 2; i < words; i += 2 * step) {
    bool more = i + step < words;
    Pair a = loadPair((u64*)from + i), b = a;
    if (more) b = loadPair((u64*)from + i + step);
    storePair((u64*)to + i, a);
    if (more) storePair((u64*)to + i + step, b);
  }
}
