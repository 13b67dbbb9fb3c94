// Transposition of 8x8 blocks of 16-bit elements.

#pragma once

#include <cstdint>
#include <cstring>

namespace vgg::emulator {

// Column order of the registers of C: even columns first. Tiles of B and C use this order.
constexpr int COLUMN[8] = {0, 2, 4, 6, 1, 3, 5, 7};

typedef uint16_t Vector16 __attribute__((vector_size(16)));

inline Vector16 interleave_low(Vector16 a, Vector16 b) {
#ifdef __clang__
  return __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
#else
  return __builtin_shuffle(a, b, Vector16{0, 8, 1, 9, 2, 10, 3, 11});
#endif
}
inline Vector16 interleave_high(Vector16 a, Vector16 b) {
#ifdef __clang__
  return __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
#else
  return __builtin_shuffle(a, b, Vector16{4, 12, 5, 13, 6, 14, 7, 15});
#endif
}

// Three rounds, each of which interleaves the first four rows with the last four. Overwrites
// `from`.
inline void transpose(Vector16* from /* [8] */, Vector16* to /* [8] */) {
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < 4; ++i) {
      to[2 * i] = interleave_low(from[i], from[i + 4]);
      to[2 * i + 1] = interleave_high(from[i], from[i + 4]);
    }
    for (int i = 0; i < 8; ++i) from[i] = to[i];
  }
}

}  // namespace vgg::emulator
