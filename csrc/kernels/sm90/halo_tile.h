// How a block of the halo convolution is cut, and where everything lies in its shared memory. For
// the host, too.

#pragma once

namespace vgg::sm90 {

// What a kernel makes of its sums: y, y pooled, or float32 sums of a part of C for reduce.cu.
enum class Result { whole, pooled, split };

// A coord is 8 pixels wide and 8 M_TILES high; a tile is one coord for each of two warpgroups, by
// BLOCK_N channels. CLUSTER blocks share filters. Numbers of 16-bit elements, or bytes where they
// say so.
template <int BLOCK_N_, int M_TILES_, int CLUSTER_, Result RESULT>
struct HaloTile {
  static constexpr int BLOCK_N = BLOCK_N_, M_TILES = M_TILES_, CLUSTER = CLUSTER_;
  static constexpr bool POOL = RESULT == Result::pooled, SPLIT = RESULT == Result::split;

  static constexpr int CONSUMERS = 2, THREADS = 128 * (CONSUMERS + 1);
  static constexpr int CHANNELS = 64, ROW_BYTES = 128;  // of a pixel or filter, in one step
  static constexpr int SLAB_W = 8, SLAB_H = 8 * M_TILES;
  static constexpr int PIXELS = CONSUMERS * SLAB_W * SLAB_H;

  // Pixels of one column of the filter, for all its rows: eight of a line are 1024 bytes, the
  // period of the swizzle, so that each row of the filter starts at such a multiple.
  static constexpr int LINE_BYTES = SLAB_W * ROW_BYTES;
  static constexpr int BOX_BYTES = LINE_BYTES * (SLAB_H + 2);
  static constexpr int PIXEL_BYTES = CONSUMERS * BOX_BYTES, FILTER_BYTES = BLOCK_N * ROW_BYTES;

  // Results leave in pieces of 64 pixels by 64 channels, 16 pixels where they are pooled, in turn
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
      SMEM_BYTES - BARRIER_BYTES - OUT_BYTES - FILTER_STAGES * FILTER_BYTES;
  static constexpr int PIXEL_STAGES = LEFT_BYTES / PIXEL_BYTES < 4 ? LEFT_BYTES / PIXEL_BYTES : 4;
  static_assert(PIXEL_STAGES >= 2);

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
