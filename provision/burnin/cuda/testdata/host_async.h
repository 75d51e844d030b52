// The asynchronous instructions of sm_90a on the host. As in host.h everything
// happens as late as it may: a tile arrives when somebody has waited for it for
// a while, and a product reads its stage when it is waited for, so that a stage
// that is reused too early spoils it. With LIBCUDA_EARLY tiles arrive at once.
#pragma once

namespace host {

constexpr u32 mostBarriers = 64, mostTiles = 64, mostProducts = 64;

struct Barrier {
  u32 address, count, pending, phase;
  long bytes;
};

struct TileCopy {
  u32 to, x, row, counted;
  u64 map;
};

// Map is what the stand-in for libcuda writes into a tensor map: rows of bytes,
// copied in boxes, whose chunks of 16 bytes are permuted by the row.
struct Map {
  const u8* at;
  u64 width, rows, pitch;
  u32 boxWidth, boxRows;
};

struct Product {
  u32 group;
  void* acc;
  u64 a, b;
  u32 more, columns, bytes;
  bool integers;
};

struct Async {
  Barrier barrier[mostBarriers];
  u32 barriers;
  TileCopy copy[mostTiles];
  u32 copies;
  struct {
    Product product[mostProducts];
    u32 products, groups;
  } of[mostThreads];
};

inline Async async;

inline void resetAsync() {
  async.barriers = 0, async.copies = 0;
  for (u32 i = 0; i < mostThreads; i++) async.of[i].products = 0, async.of[i].groups = 0;
}

inline Barrier& barrierAt(u32 address) {
  for (u32 i = 0; i < async.barriers; i++)
    if (async.barrier[i].address == address) return async.barrier[i];
  die("no barrier was made there");
}

inline void complete(Barrier& b) {
  if (b.pending || b.bytes) return;
  b.pending = b.count;
  b.phase ^= 1;
  block.progress++;
}

// arrive brings the tiles that a barrier counts.
inline void arrive(Barrier& b) {
  u32 kept = 0;
  TileCopy due[mostTiles];
  u32 dues = 0;
  for (u32 i = 0; i < async.copies; i++) {
    if (async.copy[i].counted == b.address)
      due[dues++] = async.copy[i];
    else
      async.copy[kept++] = async.copy[i];
  }
  async.copies = kept;
  for (u32 i = 0; i < dues; i++) {
    const TileCopy& c = due[i];
    const Map& m = *(const Map*)c.map;
    if (c.to % 1024) die("a tile must lie at a multiple of 1024");
    for (u32 r = 0; r < m.boxRows; r++)
      for (u32 x = 0; x < m.boxWidth; x++) {
        u32 at = c.to + r * m.boxWidth + x;
        at ^= (at >> 7 & 7) << 4;
        bool inside = c.row + r < m.rows && c.x + x < m.width;
        block.shared[at] = inside ? m.at[(c.row + r) * m.pitch + c.x + x] : 0;
      }
    b.bytes -= (long)m.boxRows * m.boxWidth;
    if (b.bytes < 0) die("more bytes came than were expected");
  }
  if (dues) complete(b);
}

inline u32 sharedByte(u64 description, u32 row, u32 k) {
  if (description >> 62 != 1 || (description >> 32 & 0x3FFF) != 64) die("a description that this host does not know");
  u32 at = (u32)(description & 0x3FFF) * 16 + row / 8 * 1024 + row % 8 * 128 + k;
  return block.shared[at ^ (at >> 7 & 7) << 4];
}

// compute is this thread's part of a product: 64 rows of a over four warps.
template <class Acc>
inline void compute(const Product& p) {
  Acc* d = (Acc*)p.acc;
  u32 lane = block.now % 32, warp = block.now / 32 % 4;
  float x[2][32], y[32];
  for (u32 half = 0; half < 2; half++)
    for (u32 k = 0; k < 32; k += p.bytes) {
      u32 row = warp * 16 + lane / 4 + half * 8, v = 0;
      for (u32 i = 0; i < p.bytes; i++) v |= sharedByte(p.a, row, k + i) << 8 * i;
      x[half][k] = p.integers ? (float)(signed char)v : decode(v, p.bytes);
    }
  for (u32 column = 0; column < p.columns; column++) {
    if (column / 2 % 4 != lane % 4) continue;
    for (u32 k = 0; k < 32; k += p.bytes) {
      u32 v = 0;
      for (u32 i = 0; i < p.bytes; i++) v |= sharedByte(p.b, column, k + i) << 8 * i;
      y[k] = p.integers ? (float)(signed char)v : decode(v, p.bytes);
    }
    for (u32 half = 0; half < 2; half++) {
      Acc& out = d[column / 8 * 4 + half * 2 + column % 2];
      if (!p.more) out = 0;
      for (u32 k = 0; k < 32; k += p.bytes) out += (Acc)(x[half][k] * y[k]);
    }
  }
}

inline void product(void* acc, u64 a, u64 b, u32 more, u32 columns, u32 bytes, bool integers) {
  auto& mine = async.of[block.now];
  if (mine.products == mostProducts) die("too many products are under way");
  mine.product[mine.products++] = {mine.groups, acc, a, b, more, columns, bytes, integers};
}

}  // namespace host

DEVICE void barrierInit(u32 at, u32 count) {
  if (host::async.barriers == host::mostBarriers || at % 8) host::die("no such barrier");
  host::async.barrier[host::async.barriers++] = {at, count, count, 0, 0};
}
DEVICE void barriersReady() {}
DEVICE void barrierArrive(u32 at) {
  host::Barrier& b = host::barrierAt(at);
  if (!b.pending) host::die("one more arrives than the barrier counts");
  b.pending--;
  host::complete(b);
}
DEVICE void barrierExpect(u32 at, u32 bytes) {
  host::barrierAt(at).bytes += bytes;
  barrierArrive(at);
}
DEVICE void barrierWait(u32 at, u32 parity) {
  host::Barrier& b = host::barrierAt(at);
  for (u32 rounds = 0; b.phase == parity; rounds++) {
    if (rounds == 4) host::arrive(b);
    host::yield();
  }
}
DEVICE void copyTile(u32 to, u64 map, u32 x, u32 row, u32 counted) {
  if (host::async.copies == host::mostTiles) host::die("too many tiles are under way");
  host::async.copy[host::async.copies++] = {to, x, row, counted, map};
  if (host::block.early) host::arrive(host::barrierAt(counted));
}
template <int registers>
DEVICE void moreRegisters() {}
template <int registers>
DEVICE void fewerRegisters() {}

DEVICE void productsBegin() {}
DEVICE void productsCommit() { host::async.of[threadIndex()].groups++; }
template <int most>
DEVICE void productsWait() {
  auto& mine = host::async.of[threadIndex()];
  u32 kept = 0;
  for (u32 i = 0; i < mine.products; i++) {
    host::Product p = mine.product[i];
    if (p.group + most >= mine.groups)
      mine.product[kept++] = p;
    else if (p.integers)
      host::compute<int>(p);
    else
      host::compute<float>(p);
  }
  mine.products = kept;
}
DEVICE void wgmmaBF16(float (&d)[128], u64 a, u64 b, u32 more) { host::product(d, a, b, more, 256, 2, false); }
DEVICE void wgmmaINT8(int (&d)[128], u64 a, u64 b, u32 more) { host::product(d, a, b, more, 256, 1, true); }
DEVICE void wgmmaFP8(float (&d)[64], u64 a, u64 b, u32 more) { host::product(d, a, b, more, 128, 1, false); }
template <class T>
DEVICE void settled(T&) {}
