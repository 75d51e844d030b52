// The arithmetic that the GPU shares with the CPU: package burnin's Element,
// Weight, Term, Slot and Pattern.Word, bit for bit. A test compiles this for
// the host and holds it against them.
#pragma once

#include "hardware.h"

constexpr u64 golden = 0x9E3779B97F4A7C15;  // 2^64 divided by the golden ratio, odd

DEVICE u64 mix64(u64 z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
  return z ^ (z >> 31);
}

// element is the integer in [-span, span] at an index of a factor.
DEVICE int element(u64 seed, u64 index, u32 span) {
  u64 z = mix64(seed + (index + 1) * golden);
  return (int)(((z >> 32) * (2 * span + 1)) >> 32) - (int)span;
}

// weight is that of the element of C at an index in the hash of its tile.
DEVICE u64 weight(u64 index) {
  u64 z = (index + 1) * golden;
  return (z ^ (z >> 32)) | 1;
}

DEVICE u64 term(u64 index, u32 bits) { return bits * weight(index); }

// The number formats, as the worker numbers them.
constexpr u32 formatBF16 = 0, formatFP8 = 1, formatINT8 = 2;

// encode is a small integer in a number format that holds it exactly.
DEVICE u32 encode(u32 format, int v) {
  if (format == formatINT8) return (u32)v & 0xFF;
  if (v == 0) return 0;
  u32 sign = v < 0, size = sign ? -v : v, log = 0;
  while (size >> (log + 1)) log++;
  if (format == formatBF16) return sign << 15 | (log + 127) << 7 | ((size << 7 >> log) & 0x7F);
  return sign << 7 | (log + 7) << 3 | ((size << 3 >> log) & 7);  // e4m3
}

// The patterns, in the order of burnin.Patterns.
DEVICE u64 word(u32 pattern, u64 seed, u64 index) {
  constexpr u64 chequer = 0x5555555555555555;
  switch (pattern) {
    case 1: return ~0ull;
    case 2: return chequer ^ -(index & 1);
    case 3: return ~(chequer ^ -(index & 1));
    case 4: return index;
    case 5: return mix64(seed + (index + 1) * golden);
    case 6: return ~mix64(seed + (index + 1) * golden);
  }
  return 0;
}

// tileAt is the tile at a position of the order in which tiles are dealt to
// the thread blocks: strips of so many columns, so that the tiles which are
// computed at the same time share as many rows of A and of B as they can.
DEVICE u32 tileAt(u32 position, u32 down, u32 across, u32 strip) {
  u32 first = position / (down * strip) * strip;
  u32 in = position - first * down;
  u32 wide = across - first < strip ? across - first : strip;
  return in / wide * across + first + in % wide;
}

// firstPosition is where a slot begins in an iteration: burnin.Slot turned
// round. It goes on in steps of slots.
DEVICE u32 firstPosition(u32 slot, u32 iteration, u32 slots) {
  return (slot + slots - iteration % slots) % slots;
}
