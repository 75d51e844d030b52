// The processor's instructions on the host, for tests: the kernels run as they
// are, a block at a time, each thread as a fiber of its own. Instructions of a
// whole warp meet at a barrier of its 32 fibers. A warp runs as far ahead of the
// others as it can. What goes on beside the computation happens as late as it
// may, so that a wait that is missing shows, or with LIBCUDA_EARLY as early as it
// may, so that memory which is reused too soon does.
#pragma once

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#define DEVICE inline
#define OUTLINE static
#define KERNEL(threads) extern "C"
#define UNROLL

namespace host {

constexpr u32 mostThreads = 1024, stackSize = 128 << 10, mostShared = 232448, mostCopies = 256;

struct Meeting {
  u32 arrived, generation;
};

struct Copy {
  u32 group, to;
  const u8* from;
};

struct Fiber {
  jmp_buf at;
  bool done;
  u32 groups, copies;
  Copy copy[mostCopies];
};

struct Slot {
  u32 address, value, a[4], b[2];
};

struct Block {
  u32 index, grid, size, now;
  u64 progress;
  bool early;
  Meeting all, warp[mostThreads / 32], group[mostThreads / 128];
  Slot slot[mostThreads];
  Fiber fiber[mostThreads];
  jmp_buf home;
  void (*entry)(void**);
  void** arguments;
  u8* stacks;
  alignas(1024) u8 shared[mostShared];
};

inline Block block;

inline Fiber& self() { return block.fiber[block.now]; }

inline void yield() {
  if (!_setjmp(self().at)) _longjmp(block.home, 1);
}

inline void meet(Meeting& m, u32 count) {
  u32 generation = m.generation;
  if (++m.arrived == count) {
    m.arrived = 0, m.generation++, block.progress++;
    return;
  }
  while (m.generation == generation) yield();
}

inline void meetWarp() { meet(block.warp[block.now / 32], 32); }
inline Slot& slotOf(u32 lane) { return block.slot[block.now / 32 * 32 + lane]; }
inline Slot& mine() { return block.slot[block.now]; }

[[noreturn]] inline void die(const char* why) {
  fprintf(stderr, "host processor: block %u, thread %u: %s\n", block.index, block.now, why);
  abort();
}

inline ucontext_t starter, maker;

inline void begin() {
  if (!_setjmp(self().at)) setcontext(&maker);  // it runs when it is resumed
  block.entry(block.arguments);
  self().done = true;
  block.progress++;
  _longjmp(block.home, 1);
}

inline void resetAsync();

inline void runBlock() {
  resetAsync();
  u32 count = block.size;
  block.progress = 0;
  for (block.now = 0; block.now < count; block.now++) {
    Fiber& f = self();
    f.done = false, f.groups = 0, f.copies = 0;
    getcontext(&starter);
    starter.uc_stack.ss_sp = block.stacks + (u64)block.now * stackSize;
    starter.uc_stack.ss_size = stackSize;
    starter.uc_link = nullptr;
    makecontext(&starter, begin, 0);
    swapcontext(&maker, &starter);
  }
  for (volatile u32 left = count, idle = 0; left; idle++) {
    u64 began = block.progress;
    for (volatile u32 warp = 0; warp < count; warp += 32) {
      volatile u64 before;
      do {
        before = block.progress;
        for (block.now = warp; block.now < warp + 32; block.now++) {
          if (self().done) continue;
          if (!_setjmp(block.home)) _longjmp(self().at, 1);
          if (self().done) left--;
        }
      } while (block.progress != before);
    }
    if (block.progress != began) idle = 0;
    if (idle > 100) block.now = 0, die("every thread waits for another");
  }
}

inline void run(u32 grid, u32 threads, u32 shared, void (*entry)(void**), void** arguments) {
  if (threads > mostThreads || threads % 32 || shared > mostShared) die("no such launch");
  if (!block.stacks) block.stacks = (u8*)mmap(nullptr, (u64)mostThreads * stackSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  block.early = getenv("LIBCUDA_EARLY") != nullptr;
  block.grid = grid, block.size = threads, block.entry = entry, block.arguments = arguments;
  for (block.index = 0; block.index < grid; block.index++) {
    memset(block.shared, 0xA5, sizeof block.shared);
    runBlock();
  }
}

}  // namespace host

DEVICE u32 threadIndex() { return host::block.now; }
DEVICE u32 blockIndex() { return host::block.index; }
DEVICE u32 blockSize() { return host::block.size; }
DEVICE u32 gridSize() { return host::block.grid; }
DEVICE u32 smid() { return host::block.index; }
DEVICE void barrier() { host::meet(host::block.all, host::block.size); }
DEVICE u32 dynamicShared() { return 0; }
DEVICE void atomicAdd64(u64* at, u64 v) { *at += v; }
DEVICE u32 atomicAdd32(u32* at, u32 v) {
  u32 old = *at;
  *at += v;
  return old;
}
DEVICE u32 shuffleXor(u32 v, u32 mask) {
  host::mine().value = v;
  host::meetWarp();
  u32 out = host::slotOf((threadIndex() % 32) ^ mask).value;
  host::meetWarp();
  return out;
}

struct Pair {
  u64 x, y;
};
DEVICE Pair loadPair(const u64* at) { return Pair{at[0], at[1]}; }
DEVICE void storePair(u64* at, Pair p) { at[0] = p.x, at[1] = p.y; }
DEVICE void storeBits(u32* at, u32 x, u32 y) { at[0] = x, at[1] = y; }
DEVICE u32 bitsOf(float v) {
  u32 b;
  memcpy(&b, &v, 4);
  return b;
}

DEVICE void copyAsync16(u32 shared, const u8* global) {
  host::Fiber& f = host::self();
  if (f.copies == host::mostCopies || shared % 16 || (u64)global % 16) host::die("an asynchronous copy that cannot be");
  if (host::block.early)
    memcpy(host::block.shared + shared, global, 16);
  else
    f.copy[f.copies++] = {f.groups, shared, global};
}
DEVICE void commitCopies() { host::self().groups++; }
template <int most>
DEVICE void waitCopies() {
  host::Fiber& f = host::self();
  u32 kept = 0;
  for (u32 i = 0; i < f.copies; i++) {
    host::Copy c = f.copy[i];
    if (c.group + most < f.groups)
      memcpy(host::block.shared + c.to, c.from, 16);
    else
      f.copy[kept++] = c;
  }
  f.copies = kept;
}

DEVICE void loadMatrix4(u32 (&r)[4], u32 shared) {
  u32 lane = threadIndex() % 32;
  host::mine().address = shared;
  host::meetWarp();
  for (u32 m = 0; m < 4; m++) memcpy(&r[m], host::block.shared + host::slotOf(m * 8 + lane / 4).address + lane % 4 * 4, 4);
  host::meetWarp();
}

namespace host {

inline float decode(u32 bits, u32 bytes) {
  if (bytes == 2) {
    u32 wide = bits << 16;
    float v;
    memcpy(&v, &wide, 4);
    return v;
  }
  u32 exponent = bits >> 3 & 15, fraction = bits & 7;  // e4m3
  float v = exponent ? (float)(8 + fraction) : (float)fraction;
  for (int e = (int)(exponent ? exponent : 1) - 10; e > 0; e--) v *= 2;
  for (int e = (int)(exponent ? exponent : 1) - 10; e < 0; e++) v /= 2;
  return bits & 0x80 ? -v : v;
}

// multiply is one warp's product of 16 x 32 bytes with 32 bytes x 8, as the PTX
// ISA lays their fragments out over the lanes.
template <class Acc>
inline void multiply(Acc (&d)[4], const u32 (&a)[4], const u32* b, u32 bytes, bool integers) {
  u32 lane = block.now % 32;
  memcpy(mine().a, a, 16);
  memcpy(mine().b, b, 8);
  meetWarp();
  for (u32 e = 0; e < 4; e++) {
    u32 row = lane / 4 + e / 2 * 8, column = lane % 4 * 2 + e % 2;
    for (u32 k = 0; k < 32; k += bytes) {
      u32 shift = k % 4 * 8, mask = bytes == 2 ? 0xFFFF : 0xFF;
      u32 x = slotOf(row % 8 * 4 + k % 16 / 4).a[row / 8 + k / 16 * 2] >> shift & mask;
      u32 y = slotOf(column * 4 + k % 16 / 4).b[k / 16] >> shift & mask;
      d[e] += integers ? (Acc)((int)(signed char)x * (int)(signed char)y) : (Acc)(decode(x, bytes) * decode(y, bytes));
    }
  }
  meetWarp();
}

}  // namespace host

DEVICE void mmaBF16(float (&d)[4], const u32 (&a)[4], const u32* b) { host::multiply(d, a, b, 2, false); }
DEVICE void mmaINT8(int (&d)[4], const u32 (&a)[4], const u32* b) { host::multiply(d, a, b, 1, true); }
DEVICE void mmaFP8(float (&d)[4], const u32 (&a)[4], const u32* b) { host::multiply(d, a, b, 1, false); }
