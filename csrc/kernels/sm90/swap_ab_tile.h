// How a block of the swapped convolution is cut, and where everything lies in its shared memory.
// For the host, too.

#pragma once

namespace vgg::sm90 {

// A tile is BLOCK_N channels, 64 to each of two warpgroups, of TILE_W x TILE_H pixels of IMAGES
// images. CLUSTER blocks share filters. Numbers of 16-bit elements, or bytes where they say so.
template <int ROWS_, int CLUSTER_, bool POOL_>
struct SwapAbTile {
  static constexpr int ROWS = ROWS_, CLUSTER = CLUSTER_;
  static constexpr bool POOL = POOL_, SPLIT = !POOL;  // where `partial` is given
  static_assert(ROWS == 2 || (ROWS == 1 && !POOL));

  static constexpr int CONSUMERS = 2, THREADS = 128 * (CONSUMERS + 1);
  static constexpr int CHANNELS = 64, ROW_BYTES = 128;  // of a pixel or filter, in one step
  static constexpr int BLOCK_N = CONSUMERS * 64;
  static constexpr int IMAGES = 8, TILE_W = ROWS == 2 ? 14 : 28, TILE_H = ROWS;
  static constexpr int PIXELS = IMAGES * TILE_W * TILE_H;

  // A pixel of eight images is 1024 bytes, the period of the swizzle, so that every tap starts at
  // such a multiple. Two rows of pixels have all that nine taps read in one box; one row is wider
  // and has a box for each row of the filter, so that a ring of them fits.
  static constexpr int GROUP_BYTES = IMAGES * ROW_BYTES;
  static constexpr int BOX_W = TILE_W + 2, BOX_H = ROWS == 2 ? 4 : 1, BOXES = ROWS == 2 ? 1 : 3;
  static constexpr int PIXEL_BYTES = BOX_W * BOX_H * GROUP_BYTES;
  static constexpr int FILTER_BYTES = BLOCK_N * ROW_BYTES;

  // wgmma's N: groups from the first pixel of the tile to its last. Those between two rows are
  // computed, and never stored.
  static constexpr int GROUPS = BOX_W * (ROWS - 1) + TILE_W, SUMS = GROUPS * IMAGES / 2;

  // Results leave in pieces of seven pixels of all images by 64 channels, in turn through
  // SUBTILE_BUFFERS buffers.
  static constexpr int SUBTILE_W = 7, SUBTILE_BYTES = SUBTILE_W * GROUP_BYTES;
  static constexpr int TILE_SUBTILES = TILE_W * TILE_H / (POOL ? 4 : 1) / SUBTILE_W;
  static constexpr int SUBTILE_BUFFERS = POOL ? 1 : 2;
  static_assert(TILE_SUBTILES % SUBTILE_BUFFERS == 0, "the next tile begins with the first buffer");
  static constexpr int OUT_BYTES = CONSUMERS * SUBTILE_BUFFERS * SUBTILE_BYTES;

  static constexpr int SMEM_BYTES = 227 * 1024;
  static constexpr int PIXEL_STAGES = ROWS == 2 ? 2 : 4, FILTER_STAGES = POOL ? 5 : 4;

  // Offsets in bytes; multiples of 1024 but for the barriers, of 8 bytes each.
  static constexpr int PIXELS_AT = 0;
  static constexpr int FILTERS_AT = PIXELS_AT + PIXEL_STAGES * PIXEL_BYTES;
  static constexpr int OUT_AT = FILTERS_AT + FILTER_STAGES * FILTER_BYTES;
  static constexpr int PIXELS_FULL_AT = OUT_AT + OUT_BYTES;
  static constexpr int PIXELS_EMPTY_AT = PIXELS_FULL_AT + 8 * PIXEL_STAGES;
  static constexpr int FILTERS_FULL_AT = PIXELS_EMPTY_AT + 8 * PIXEL_STAGES;
  static constexpr int FILTERS_EMPTY_AT = FILTERS_FULL_AT + 8 * FILTER_STAGES;
  static constexpr int BYTES = FILTERS_EMPTY_AT + 8 * FILTER_STAGES;
  static_assert(BYTES <= SMEM_BYTES);
};

}  // namespace vgg::sm90
