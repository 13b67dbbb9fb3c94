// Sizes of the convolution with swapped operands: its tiles, stages and results. Host and device
// code include them.

#pragma once

#include "kernels/sm90/conv_storage.h"

namespace vgg::sm90 {

// A tile is BLOCK_N channels, 64 for each of two warpgroups, of TILE_W x TILE_H pixels of IMAGES
// images. CLUSTER blocks share filters. Sizes count 16-bit elements, or bytes if their names say
// so.
template <int ROWS_, int CLUSTER_, bool POOL_>
struct SwapAbTile {
  static constexpr int ROWS = ROWS_, CLUSTER = CLUSTER_;
  static constexpr bool POOL = POOL_, SPLIT = !POOL;  // kernels that do not pool write sums, too
  static_assert(ROWS == 2 || (ROWS == 1 && !POOL));

  static constexpr int CONSUMERS = 2, THREADS = 128 * (CONSUMERS + 1);
  static constexpr int CHANNELS = 64, ROW_BYTES = 128;  // of a pixel or filter, in one step
  static constexpr int BLOCK_N = CONSUMERS * 64;
  static constexpr int IMAGES = 8, TILE_W = ROWS == 2 ? 14 : 28, TILE_H = ROWS;
  static constexpr int PIXELS = IMAGES * TILE_W * TILE_H;

  // One pixel of eight images is 1024 bytes, the period of the swizzle, so that the pixels under
  // each tap start at a multiple of the period. For two rows of pixels one box has all that nine
  // taps read. One row is wider, and has a box for each row of the filter so that a ring of boxes
  // fits.
  static constexpr int STEP_TAPS = 9, STEP_STAGES = ROWS == 2 ? 1 : 3, CHUNK_STAGES = STEP_STAGES;
  static constexpr int GROUP_BYTES = IMAGES * ROW_BYTES;
  static constexpr int BOX_W = TILE_W + 2, BOX_H = ROWS == 2 ? 4 : 1;
  static constexpr int STAGE_BOXES = 1, BOX_BYTES = BOX_W * BOX_H * GROUP_BYTES;
  static constexpr int PIXEL_STAGE_BYTES = BOX_BYTES, FILTER_STAGE_BYTES = BLOCK_N * ROW_BYTES;

  // wgmma's N: groups from the first pixel of the tile to the last. The groups between two rows are
  // computed, and never stored.
  static constexpr int GROUPS = BOX_W * (ROWS - 1) + TILE_W;
  static constexpr int M_TILES = 1, SUMS = GROUPS * IMAGES / 2;

  // Results leave in subtiles of seven pixels of all images by 64 channels, in turn through
  // SUBTILE_BUFFERS buffers.
  static constexpr int SUBTILE_W = 7, SUBTILE_BYTES = SUBTILE_W * GROUP_BYTES;
  static constexpr int TILE_SUBTILES = TILE_W * TILE_H / (POOL ? 4 : 1) / SUBTILE_W;
  static constexpr int SUBTILE_BUFFERS = POOL ? 1 : 2;
  static_assert(TILE_SUBTILES % SUBTILE_BUFFERS == 0, "the next tile begins with the first buffer");
  static constexpr int OUT_BYTES = CONSUMERS * SUBTILE_BUFFERS * SUBTILE_BYTES;

  static constexpr int PIXEL_STAGES = ROWS == 2 ? 2 : 4, FILTER_STAGES = POOL ? 5 : 4;
};

}  // namespace vgg::sm90
