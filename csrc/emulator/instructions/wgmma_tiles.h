// Tiles of wgmma: where they lie in shared memory, and their products.

#pragma once

#include <cstdint>

#include "emulator/core/warpgroup.h"

namespace vgg::emulator {

constexpr int WGMMA_M = 64, WGMMA_K = 16;

// A tile of 16-bit elements in shared memory, as a descriptor says: 64 bits.
struct MatrixDescriptor {
  uint32_t start, leading, stride;  // bytes
  int base;          // where the pattern of the swizzle starts, in its 128-byte lines
  int swizzle_bits;  // 0 (none) to 3 (128 bytes)

  // The address of the 16 bytes that hold elements 8 i to 8 i + 7 of a line: where K runs fastest,
  // line `line` is a row; where it does not (transposed), `line` is k and i counts along the row.
  uint32_t address(uint32_t line, uint32_t i, bool transposed) const;
};
// False if reserved bits are set.
bool parse_descriptor(uint64_t bits, MatrixDescriptor& to);

// Row-major tiles as float32. B and C have their columns in the order of registers: of each eight
// 0 2 4 6 1 3 5 7.
void expand_a(const char* shared, const MatrixOperand& a, bool bfloat, bool negated, float* to);
void expand_b(const char* shared, const MatrixOperand& b, int columns, bool bfloat, float* to);
void expand_block(const void* lanes, bool bfloat, float* to);  // a register: an 8x8 block
// c [64, columns] += a [64, 16] b [16, columns], K ascending; c = ... unless `keep`.
void multiply_tiles(const float* a, const float* b, float* c, int columns, bool keep);

}  // namespace vgg::emulator
