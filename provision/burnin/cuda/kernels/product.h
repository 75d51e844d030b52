// What a product's kernels share: the order that a launch carries, what comes
// of each tile, and the end of a tile, where its elements are kept and hashed.
#pragma once

#include "arith.h"

// Job is one product, as the worker passes it: its layout is that of job in
// kernels.go.
struct Job {
  u64 a, b;     // factors, or the tensor maps that describe them
  u64 c;        // M x N elements of 32 bits
  u64 results;  // Result of each tile, zeros at first
  u64 spent;    // u32: a fault that happens once has happened
  u64 plantIndex;
  u32 plantXor;  // flipped in the element at plantIndex; 0: none
  u32 fault;     // planted on an SM: faultNone and so on
  u32 faultSM;
  u32 faultXor;
  u32 m, n, kBytes;
  u32 iteration;
  u32 strip;
  u32 bare;  // C is kept and not hashed: what the hash costs is measured so
};

constexpr u32 faultNone = 0, faultFlip = 1, faultNaN = 2, faultStuck = 3;

// Result is what comes of one tile.
struct Result {
  u64 hash;
  u32 sm;
  u32 warps;  // that have finished their part
};

// exact is the bits of an accumulator: zero is +0, whatever its sign was.
DEVICE u32 exact(float v) { return bitsOf(v + 0.0f); }
DEVICE u32 exact(int v) { return (u32)v; }

// How the end of a tile is done.
enum Mode { plain, spoiled, bare };

// Spoil is what is wrong on purpose with a tile that this thread has a part of.
struct Spoil {
  u64 plant;
  u32 plantXor;
  u64 element;  // on which the fault happens
  u32 faultXor;
  u32* spent;
  bool nan, stuck;

  DEVICE u32 operator()(u64 index, u32 bits) const {
    if (index == plant) bits ^= plantXor;
    if (index == element && atomicAdd32(spent, 1) == 0) bits = nan ? 0x7FC00000u : bits ^ faultXor;
    return bits;
  }
};

// spoilOf is false, and that for the whole block, when nothing is wrong.
DEVICE bool spoilOf(const Job& job, u32 row, u32 column, u32 tileM, u32 tileN, Spoil& s) {
  bool here = false;
  s = Spoil{~0ull, job.plantXor, ~0ull, job.faultXor, (u32*)job.spent, job.fault == faultNaN, false};
  if (job.plantXor) {
    u32 r = (u32)(job.plantIndex / job.n), c = (u32)(job.plantIndex % job.n);
    if (r - row < tileM && c - column < tileN) s.plant = job.plantIndex, here = true;
  }
  if (job.fault && smid() == job.faultSM) {
    s.element = (u64)row * job.n + column + tileN / 2;
    s.stuck = job.fault == faultStuck;
    here = true;
  }
  return here;
}

// finish tells of a tile, when each of a warp's threads has hashed its part.
DEVICE void finish(const Job& job, u32 tile, u64 hash) {
  UNROLL
  for (u32 mask = 16; mask; mask >>= 1) {
    u64 other = (u64)shuffleXor((u32)(hash >> 32), mask) << 32 | shuffleXor((u32)hash, mask);
    hash += other;
  }
  if (threadIndex() % 32) return;
  Result* r = (Result*)job.results + tile;
  atomicAdd64(&r->hash, hash);
  r->sm = smid();
  atomicAdd32(&r->warps, 1);
}
