// Tiles of operands in shared memory, and how they are divided among warps.
//
// A row of a tile holds ROW_BYTES of GEMM_K in chunks of 16 bytes. A chunk is written by one
// cp.async, and is one row of an 8x8 matrix for ldmatrix. Chunks are swizzled so that two groups
// lie in different banks: eight neighbouring rows of one chunk, as ldmatrix reads them, and 128
// bytes of one or two neighbouring rows, as cp.async writes them.

#pragma once

#include <cstdint>

#include "ptx/mma.cuh"

namespace vgg::sm80 {

// The type in memory of an operand of products.
template <class Operand>
struct StorageOf {
  using T = Operand;
};
template <>
struct StorageOf<ptx::Tf32> {
  using T = float;
};

template <class Operand_, int BLOCK_M_, int BLOCK_N_, int ROW_BYTES_, int WARPS_M_, int WARPS_N_,
          int STAGES_>
struct Tile {
  using Operand = Operand_;
  using T = typename StorageOf<Operand>::T;
  static constexpr int BLOCK_M = BLOCK_M_, BLOCK_N = BLOCK_N_, ROW_BYTES = ROW_BYTES_;
  static constexpr int WARPS_M = WARPS_M_, WARPS_N = WARPS_N_, STAGES = STAGES_;
  static_assert(ROW_BYTES == 64 || ROW_BYTES == 128);

  static constexpr int BLOCK_K = ROW_BYTES / sizeof(T);
  static constexpr int CHUNK = 16 / sizeof(T), ROW_CHUNKS = ROW_BYTES / 16;  // elements; chunks
  static constexpr int WARP_M = BLOCK_M / WARPS_M, WARP_N = BLOCK_N / WARPS_N;
  static constexpr int THREADS = 32 * WARPS_M * WARPS_N;
  static constexpr int LOAD_ROWS = THREADS / ROW_CHUNKS;  // rows that all threads load at once
  static constexpr int A_BYTES = BLOCK_M * ROW_BYTES, B_BYTES = BLOCK_N * ROW_BYTES;

  // Offset of a chunk in bytes from the start of the tile; its period is eight rows.
  __device__ __forceinline__ static constexpr int place(int row, int chunk) {
    return row * ROW_BYTES + ((chunk ^ (row * ROW_BYTES / 128 % ROW_CHUNKS)) * 16);  // @swizzle
  }

  // The first row and the chunk that a thread loads.
  __device__ __forceinline__ static int load_row() { return threadIdx.x / ROW_CHUNKS; }
  __device__ __forceinline__ static int load_chunk() { return threadIdx.x % ROW_CHUNKS; }
};

}  // namespace vgg::sm80
