// Sizes of the halo convolution: its tiles, stages and results. Host and device code include them.

#pragma once

#include "kernels/sm90/conv_storage.h"

namespace vgg::sm90 {

// Output of a kernel: y, y pooled, or float32 sums over a part of C for reduce.cu.
enum class Result { whole, pooled, split };

// A tile is BLOCK_N channels of TILE_W x TILE_H pixels for each of two warpgroups. CLUSTER blocks
// share filters. Sizes count 16-bit elements, or bytes if their names say so.
template <int BLOCK_N_, int M_TILES_, int CLUSTER_, Result RESULT>
struct HaloTile {
  static constexpr int BLOCK_N = BLOCK_N_, M_TILES = M_TILES_, CLUSTER = CLUSTER_;
  static constexpr bool POOL = RESULT == Result::pooled, SPLIT = RESULT == Result::split;

  static constexpr int CONSUMERS = 2, THREADS = 128 * (CONSUMERS + 1);
  static constexpr int CHANNELS = 64, ROW_BYTES = 128;  // of a pixel or filter, in one step
  static constexpr int TILE_W = 8, TILE_H = 8 * M_TILES;
  static constexpr int PIXELS = CONSUMERS * TILE_W * TILE_H;
  static constexpr int SUMS = BLOCK_N / 2;  // of a thread, for each of M_TILES

  // A stage has, for each warpgroup, the pixels of one column of the filter for all its rows. Eight
  // pixels of a line are 1024 bytes, the period of the swizzle, so that the pixels under each row
  // of the filter start at a multiple of the period.
  static constexpr int STEP_TAPS = 3, STEP_STAGES = 1, CHUNK_STAGES = 3;
  static constexpr int LINE_BYTES = TILE_W * ROW_BYTES;
  static constexpr int STAGE_BOXES = CONSUMERS, BOX_BYTES = LINE_BYTES * (TILE_H + 2);
  static constexpr int PIXEL_STAGE_BYTES = STAGE_BOXES * BOX_BYTES,
                       FILTER_STAGE_BYTES = BLOCK_N * ROW_BYTES;

  // Results leave in subtiles of 64 pixels by 64 channels (16 pixels if they are pooled), in turn
  // through SUBTILE_BUFFERS buffers.
  static constexpr int SUBTILE_BYTES = (POOL ? 16 : 64) * ROW_BYTES;
  static constexpr int TILE_SUBTILES = M_TILES * BLOCK_N / CHANNELS;
  static constexpr int SUBTILE_BUFFERS = POOL && TILE_SUBTILES >= 4 ? 4 : 2;
  static_assert(SPLIT || TILE_SUBTILES % SUBTILE_BUFFERS == 0,
                "the next tile begins with the first buffer");
  static constexpr int OUT_BYTES = SPLIT ? 0 : CONSUMERS * SUBTILE_BUFFERS * SUBTILE_BYTES;

  static constexpr int SMEM_BYTES = 227 * 1024, BARRIER_BYTES = 1024;
  static constexpr int FILTER_STAGES = PIXELS * BLOCK_N < 128 * 128 ? 9 : BLOCK_N == 256 ? 4 : 5;
  static constexpr int LEFT_BYTES =
      SMEM_BYTES - BARRIER_BYTES - OUT_BYTES - FILTER_STAGES * FILTER_STAGE_BYTES;
  static constexpr int PIXEL_STAGES =
      LEFT_BYTES / PIXEL_STAGE_BYTES < 4 ? LEFT_BYTES / PIXEL_STAGE_BYTES : 4;
  static_assert(PIXEL_STAGES >= 2);
};

}  // namespace vgg::sm90
