// The portable product, for every GPU from sm_80 on: mma.sync, fed by
// asynchronous copies through a ring of stages in shared memory.
//
// A block of 8 warps computes tiles of 128 x 128; a warp 64 x 32 of it. A and
// the transpose of B lie row by row, K bytes in a row. A stage is 128 bytes of
// K: 128 rows of each factor, whose eight chunks of 16 bytes are permuted by
// the row, so that no two rows of a fragment share a bank.
#pragma once

#include "product.h"

namespace mma {

constexpr u32 tile = 128, threads = 256, stages = 3;
constexpr u32 stepBytes = 128, half = tile * stepBytes, stage = 2 * half;

struct BF16 {
  typedef float Acc;
  static constexpr bool emptied = false;
  DEVICE static void mma(Acc (&d)[4], const u32 (&a)[4], const u32* b) { mmaBF16(d, a, b); }
};
struct INT8 {
  typedef int Acc;
  static constexpr bool emptied = false;
  DEVICE static void mma(Acc (&d)[4], const u32 (&a)[4], const u32* b) { mmaINT8(d, a, b); }
};
// FP8 is accumulated with fewer bits than fp32 has: it is emptied every stage,
// which is 128 of K.
struct FP8 {
  typedef float Acc;
  static constexpr bool emptied = true;
  DEVICE static void mma(Acc (&d)[4], const u32 (&a)[4], const u32* b) { mmaFP8(d, a, b); }
};

DEVICE u32 place(u32 row, u32 chunk) { return row * stepBytes + ((chunk ^ (row & 7)) << 4); }

// load begins the copies of one stage.
DEVICE void load(const Job& job, u32 shared, u32 row, u32 column, u32 step) {
  UNROLL
  for (u32 i = 0; i < half / 16 / threads; i++) {
    u32 c = threadIndex() + i * threads, r = c / 8, chunk = c % 8;
    u64 at = (u64)step * stepBytes + chunk * 16;
    copyAsync16(shared + place(r, chunk), (const u8*)job.a + (u64)(row + r) * job.kBytes + at);
    copyAsync16(shared + half + place(r, chunk), (const u8*)job.b + (u64)(column + r) * job.kBytes + at);
  }
}

// compute multiplies one stage.
template <class F>
DEVICE void compute(u32 shared, typename F::Acc (&acc)[4][4][4]) {
  u32 lane = threadIndex() % 32, warp = threadIndex() / 32;
  u32 rowA = warp / 4 * 64 + lane % 16, chunkA = lane / 16;
  u32 rowB = warp % 4 * 32 + lane % 8 + lane / 16 * 8, chunkB = lane / 8 % 2;
  UNROLL
  for (u32 k = 0; k < stepBytes / 32; k++) {
    u32 a[4][4], b[2][4];
    UNROLL
    for (u32 i = 0; i < 4; i++) loadMatrix4(a[i], shared + place(rowA + i * 16, 2 * k + chunkA));
    UNROLL
    for (u32 j = 0; j < 2; j++) loadMatrix4(b[j], shared + half + place(rowB + j * 16, 2 * k + chunkB));
    UNROLL
    for (u32 i = 0; i < 4; i++) {
      UNROLL
      for (u32 j = 0; j < 4; j++) F::mma(acc[i][j], a[i], &b[j / 2][j % 2 * 2]);
    }
  }
}

// keep stores a thread's part of a tile and returns its part of the hash.
template <class F, Mode mode>
DEVICE u64 keep(const Job& job, u32 row, u32 column, typename F::Acc (&acc)[4][4][4], const Spoil& spoil) {
  u32 lane = threadIndex() % 32, warp = threadIndex() / 32;
  row += warp / 4 * 64 + lane / 4;
  column += warp % 4 * 32 + lane % 4 * 2;
  u64 hash = 0;
  UNROLL
  for (u32 i = 0; i < 8; i++) {
    u64 at = (u64)(row + i * 8) * job.n + column;
    UNROLL
    for (u32 j = 0; j < 4; j++) {
      u32 x = exact(acc[i / 2][j][i % 2 * 2]), y = exact(acc[i / 2][j][i % 2 * 2 + 1]);
      if (mode == spoiled) {
        x = spoil(at + j * 8, x);
        y = spoil(at + j * 8 + 1, y);
      }
      storeBits((u32*)job.c + at + j * 8, x, y);
      if (mode != bare) hash += term(at + j * 8, x) + term(at + j * 8 + 1, y);
    }
  }
  return hash;
}

template <class F>
DEVICE void zero(typename F::Acc (&acc)[4][4][4]) {
  UNROLL
  for (u32 i = 0; i < 64; i++) acc[i / 16][i / 4 % 4][i % 4] = 0;
}

// sum computes a tile.
template <class F>
DEVICE void sum(const Job& job, u32 shared, u32 row, u32 column, typename F::Acc (&acc)[4][4][4]) {
  u32 steps = job.kBytes / stepBytes;
  zero<F>(acc);
  barrier();  // the stages of the tile before are free
  UNROLL
  for (u32 s = 0; s < stages - 1; s++) {
    if (s < steps) load(job, shared + s * stage, row, column, s);
    commitCopies();
  }
  for (u32 s = 0; s < steps; s++) {
    waitCopies<stages - 2>();
    barrier();  // stage s is there for all, and s-1 is used up
    u32 next = s + stages - 1;
    if (next < steps) load(job, shared + next % stages * stage, row, column, next);
    commitCopies();
    if (!F::emptied) {
      compute<F>(shared + s % stages * stage, acc);
      continue;
    }
    typename F::Acc part[4][4][4];
    zero<F>(part);
    compute<F>(shared + s % stages * stage, part);
    UNROLL
    for (u32 i = 0; i < 64; i++) acc[i / 16][i / 4 % 4][i % 4] += part[i / 16][i / 4 % 4][i % 4];
  }
}

template <class F>
DEVICE void product(const Job& job) {
  u32 down = job.m / tile, across = job.n / tile, shared = dynamicShared();
  for (u32 p = firstPosition(blockIndex(), job.iteration, gridSize()); p < down * across; p += gridSize()) {
    u32 t = tileAt(p, down, across, job.strip), row = t / across * tile, column = t % across * tile;
    typename F::Acc acc[4][4][4];
    sum<F>(job, shared, row, column, acc);
    Spoil spoil;
    u64 hash = 0;
    if (job.bare) {
      keep<F, bare>(job, row, column, acc, spoil);
    } else if (!spoilOf(job, row, column, tile, tile, spoil)) {
      hash = keep<F, plain>(job, row, column, acc, spoil);
    } else if (!spoil.stuck) {
      hash = keep<F, spoiled>(job, row, column, acc, spoil);
    }
    finish(job, t, hash);
  }
}

}  // namespace mma
