// Sizes of a dense layer and its shared memory. Host and device code include them.

#pragma once

#include "kernels/sm90/ring_barriers.h"

namespace vgg::sm90 {

// A tile is BLOCK_M images by BLOCK_N features, 64 features for each of two warpgroups. Sizes count
// 16-bit elements, or bytes if their names say so.
template <int BLOCK_M_>
struct DenseTile {
  static constexpr int BLOCK_M = BLOCK_M_, BLOCK_N = 128, BLOCK_K = 64;
  static constexpr int CONSUMERS = 2, WARPS = 4 * CONSUMERS, THREADS = 32 * (WARPS + 1);
  static constexpr int ROW_BYTES = 128;  // of an image or feature, in one step

  static constexpr int WEIGHT_BYTES = BLOCK_N * ROW_BYTES, IMAGE_BYTES = BLOCK_M * ROW_BYTES;
  static constexpr int STAGE_BYTES = WEIGHT_BYTES + IMAGE_BYTES;

  // If two blocks fit an SM, blocks of the next launch load weights beside the last blocks of this
  // launch.
  static constexpr int BLOCKS = BLOCK_M == 256 ? 1 : 2;  // of an SM
  static constexpr int SMEM_BYTES = 228 * 1024 / BLOCKS - 1024, BARRIER_BYTES = 1024;
  static constexpr int STAGES = (SMEM_BYTES - BARRIER_BYTES) / STAGE_BYTES;
  static_assert(STAGES >= 3);

  // A row of sums is padded so that the four rows of eight sums that a warp writes lie in different
  // banks.
  static constexpr int SUMS_ROW = BLOCK_N + 4;
};

// Sums take the place of the stages. Operands are swizzled in periods of 1024 bytes, to which every
// buffer is aligned.
template <class Tile>
struct DenseStorage {
  struct Stage {
    alignas(1024) unsigned char weights[Tile::WEIGHT_BYTES];
    unsigned char images[Tile::IMAGE_BYTES];
  };
  union {
    Stage stages[Tile::STAGES];
    float sums[Tile::BLOCK_M][Tile::SUMS_ROW];
  };
  RingBarriers<Tile::STAGES> barriers;
  uint64_t launches_ended;  // see debug_waits.cuh
};

}  // namespace vgg::sm90
