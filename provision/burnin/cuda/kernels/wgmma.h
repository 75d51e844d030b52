// The product for sm_90a: wgmma, fed by TMA through a ring of stages.
//
// A block of three warpgroups has an SM to itself. One thread of the first
// copies: for each stage 128 bytes of K, of 128 rows of A and of tileN rows of
// the transpose of B. The other two multiply, 64 rows of A each. For each stage
// there is a barrier that counts the bytes that have come, and one that counts
// the warps that are done with them. The copies run ahead into the next tile
// while the end of the last one is still being hashed.
#pragma once

#include "async.h"
#include "product.h"

namespace wgmma {

constexpr u32 tileM = 128, threads = 384, stages = 4, stepBytes = 128, consumers = 8;  // warps

struct BF16 {
  typedef float Acc;
  static constexpr u32 tileN = 256;
  static constexpr bool emptied = false;
  DEVICE static void multiply(Acc (&d)[128], u64 a, u64 b, u32 more) { wgmmaBF16(d, a, b, more); }
};
struct INT8 {
  typedef int Acc;
  static constexpr u32 tileN = 256;
  static constexpr bool emptied = false;
  DEVICE static void multiply(Acc (&d)[128], u64 a, u64 b, u32 more) { wgmmaINT8(d, a, b, more); }
};
// FP8 is accumulated with fewer bits than fp32 has: it is emptied every stage,
// which is 128 of K, into sums of its own. Hence the smaller tile.
struct FP8 {
  typedef float Acc;
  static constexpr u32 tileN = 128;
  static constexpr bool emptied = true;
  DEVICE static void multiply(Acc (&d)[64], u64 a, u64 b, u32 more) { wgmmaFP8(d, a, b, more); }
};

// Ring is a place in the ring of stages, and how often it was gone round.
template <class F>
struct Ring {
  static constexpr u32 sizeA = tileM * stepBytes, sizeB = F::tileN * stepBytes, stage = sizeA + sizeB;
  u32 base, at, round;
  DEVICE u32 a() const { return base + at * stage; }
  DEVICE u32 b() const { return a() + sizeA; }
  DEVICE u32 full() const { return base + stages * stage + at * 8; }
  DEVICE u32 empty() const { return full() + stages * 8; }
  DEVICE void next() {
    if (++at == stages) at = 0, round ^= 1;
  }
};

// describe is the descriptor of rows of 128 bytes in shared memory, whose
// chunks of 16 bytes are permuted by the row, eight rows to a group.
DEVICE u64 describe(u32 shared) { return (u64)((shared & 0x3FFFF) >> 4) | 1ull << 16 | (u64)(1024 >> 4) << 32 | 1ull << 62; }

template <class F>
DEVICE void copy(const Job& job, Ring<F> ring) {
  u32 down = job.m / tileM, across = job.n / F::tileN, steps = job.kBytes / stepBytes;
  for (u32 p = firstPosition(blockIndex(), job.iteration, gridSize()); p < down * across; p += gridSize()) {
    u32 t = tileAt(p, down, across, job.strip), row = t / across * tileM, column = t % across * F::tileN;
    for (u32 s = 0; s < steps; s++, ring.next()) {
      barrierWait(ring.empty(), ring.round ^ 1);
      barrierExpect(ring.full(), Ring<F>::stage);
      copyTile(ring.a(), job.a, s * stepBytes, row, ring.full());
      copyTile(ring.b(), job.b, s * stepBytes, column, ring.full());
    }
  }
}

// stage begins the products of one stage.
template <class F>
DEVICE void stage(const Ring<F>& ring, typename F::Acc (&acc)[F::tileN / 2], u32 group, u32 more) {
  u64 a = describe(ring.a() + group * 64 * stepBytes), b = describe(ring.b());
  productsBegin();
  UNROLL
  for (u32 k = 0; k < stepBytes / 32; k++) F::multiply(acc, a + k * 2, b + k * 2, k || more);
  productsCommit();
}

DEVICE void release(u32 empty) {
  if (threadIndex() % 32 == 0) barrierArrive(empty);
}

// sum computes a tile; one stage is read while the next is waited for.
template <class F>
DEVICE void sum(Ring<F>& ring, u32 steps, u32 group, typename F::Acc (&acc)[F::tileN / 2]) {
  UNROLL
  for (u32 i = 0; i < F::tileN / 2; i++) acc[i] = 0;
  barrierWait(ring.full(), ring.round);
  stage<F>(ring, acc, group, 0);
  u32 before = ring.empty();
  ring.next();
  for (u32 s = 1; s < steps; s++, ring.next()) {
    barrierWait(ring.full(), ring.round);
    stage<F>(ring, acc, group, 1);
    productsWait<1>();
    release(before);
    before = ring.empty();
  }
  productsWait<0>();
  settled(acc);
  release(before);
}

template <class F>
DEVICE void sumEmptied(Ring<F>& ring, u32 steps, u32 group, typename F::Acc (&acc)[F::tileN / 2]) {
  UNROLL
  for (u32 i = 0; i < F::tileN / 2; i++) acc[i] = 0;
  for (u32 s = 0; s < steps; s++, ring.next()) {
    typename F::Acc part[F::tileN / 2];
    UNROLL
    for (u32 i = 0; i < F::tileN / 2; i++) part[i] = 0;
    barrierWait(ring.full(), ring.round);
    stage<F>(ring, part, group, 0);
    productsWait<0>();
    settled(part);
    release(ring.empty());
    UNROLL
    for (u32 i = 0; i < F::tileN / 2; i++) acc[i] += part[i];
  }
}

// keep stores a thread's part of a tile and returns its part of the hash.
template <class F, Mode mode>
DEVICE u64 keep(const Job& job, u32 row, u32 column, typename F::Acc (&acc)[F::tileN / 2], const Spoil& spoil) {
  u32 lane = threadIndex() % 32, warp = threadIndex() / 32 % 4;
  u64 hash = 0;
  UNROLL
  for (u32 i = 0; i < 2; i++) {
    u64 at = (u64)(row + warp * 16 + lane / 4 + i * 8) * job.n + column + lane % 4 * 2;
    UNROLL
    for (u32 j = 0; j < F::tileN / 8; j++) {
      u32 x = exact(acc[j * 4 + i * 2]), y = exact(acc[j * 4 + i * 2 + 1]);
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
DEVICE void multiply(const Job& job, Ring<F> ring) {
  u32 down = job.m / tileM, across = job.n / F::tileN, steps = job.kBytes / stepBytes, group = threadIndex() / 128 - 1;
  for (u32 p = firstPosition(blockIndex(), job.iteration, gridSize()); p < down * across; p += gridSize()) {
    u32 t = tileAt(p, down, across, job.strip), row = t / across * tileM, column = t % across * F::tileN;
    typename F::Acc acc[F::tileN / 2];
    if (F::emptied) {
      sumEmptied<F>(ring, steps, group, acc);
    } else {
      sum<F>(ring, steps, group, acc);
    }
    Spoil spoil;
    u64 hash = 0;
    if (job.bare) {
      keep<F, bare>(job, row + group * 64, column, acc, spoil);
    } else if (!spoilOf(job, row, column, tileM, F::tileN, spoil)) {
      hash = keep<F, plain>(job, row + group * 64, column, acc, spoil);
    } else if (!spoil.stuck) {
      hash = keep<F, spoiled>(job, row + group * 64, column, acc, spoil);
    }
    finish(job, t, hash);
  }
}

template <class F>
DEVICE void product(const Job& job) {
  Ring<F> ring{(dynamicShared() + 1023) & ~1023u, 0, 0};
  if (threadIndex() == 0) {
    for (Ring<F> r = ring; !r.round; r.next()) {
      barrierInit(r.full(), 1);
      barrierInit(r.empty(), consumers);
    }
    barriersReady();
  }
  barrier();
  if (threadIndex() < 128) {
    fewerRegisters<40>();
    if (threadIndex() == 0) copy<F>(job, ring);
  } else {
    moreRegisters<232>();
    multiply<F>(job, ring);
  }
}

}  // namespace wgmma
