// Tiles of wgmma: addresses in shared memory, conversion to float32, and products.

#pragma once

#include <cstdint>

#include "emulator/core/warpgroup.h"

namespace vgg::emulator {

constexpr int WGMMA_M = 64, WGMMA_K = 16;

// Decoded 64-bit descriptor of a tile of 16-bit elements in shared memory.
struct MatrixDescriptor {
  uint32_t start, leading, stride;  // bytes
  int base;                         // base offset: start of the swizzle pattern, in 128-byte lines
  int swizzle_bits;                 // 0 (none) to 3 (128 bytes)

  // Address of the 16 bytes with elements 8 i to 8 i + 7 of a line. A line is a row of the matrix
  // if K is contiguous, and one index k with all rows if it is not (transposed).
  uint32_t address(uint32_t line, uint32_t i, bool transposed) const;
};
// Decodes a descriptor. Returns false if reserved bits are set.
bool parse_descriptor(uint64_t bits, MatrixDescriptor& to);

// Fills `operand.ranges` from `operand.pieces`.
void merge_pieces(MatrixOperand& operand);

// Conversion to row-major float32 tiles. Columns of B and C are in the order of COLUMN
// (transpose.h).
void expand_a(const char* shared, const MatrixOperand& a, bool bfloat, bool negated, float* to);
void expand_b(const char* shared, const MatrixOperand& b, int columns, bool bfloat, float* to);
void expand_block(const void* lanes, bool bfloat, float* to);  // one register: an 8x8 block
// c [64, columns] = a [64, 16] b [16, columns] + (keep ? c : 0), summed in ascending order of K.
void multiply_tiles(const float* a, const float* b, float* c, int columns, bool keep);

}  // namespace vgg::emulator
