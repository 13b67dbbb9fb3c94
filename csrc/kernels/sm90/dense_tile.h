// How a block of a dense layer is cut, and where everything lies in its shared memory. For the
// host, too.

#pragma once

namespace vgg::sm90 {

// A tile is BLOCK_M images by BLOCK_N features, 64 of them to each of two warpgroups. Numbers of
// 16-bit elements, or bytes where they say so.
template <int BLOCK_M_>
struct DenseTile {
  static constexpr int BLOCK_M = BLOCK_M_, BLOCK_N = 128, BLOCK_K = 64;
  static constexpr int CONSUMERS = 2, WARPS = 4 * CONSUMERS, THREADS = 32 * (WARPS + 1);
  static constexpr int ROW_BYTES = 128;  // of an image or feature, in one step

  static constexpr int WEIGHT_BYTES = BLOCK_N * ROW_BYTES, IMAGE_BYTES = BLOCK_M * ROW_BYTES;
  static constexpr int STAGE_BYTES = WEIGHT_BYTES + IMAGE_BYTES;

  // Where two blocks fit an SM, those of the next launch load weights beside the last of this one.
  static constexpr int BLOCKS = BLOCK_M == 256 ? 1 : 2;  // of an SM
  static constexpr int SMEM_BYTES = 228 * 1024 / BLOCKS - 1024, BARRIER_BYTES = 1024;
  static constexpr int STAGES = (SMEM_BYTES - BARRIER_BYTES) / STAGE_BYTES;
  static_assert(STAGES >= 3);

  // Sums take the place of the stages, float32 [BLOCK_M][SUMS_ROW]: the filling puts what a warp
  // writes, four rows of eight, in different banks.
  static constexpr int SUMS_ROW = BLOCK_N + 4;
  static_assert(BLOCK_M * SUMS_ROW * 4 <= STAGES * STAGE_BYTES);

  // Offsets in bytes; of stages multiples of 1024, the period of the swizzle.
  static constexpr int FULL_AT = STAGES * STAGE_BYTES, EMPTY_AT = FULL_AT + 8 * STAGES;
  static constexpr int BYTES = EMPTY_AT + 8 * STAGES;
  static_assert(BYTES <= SMEM_BYTES);
};

}  // namespace vgg::sm90
