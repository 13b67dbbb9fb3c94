// How a block of the first two convolutions is cut, and where everything lies in its shared memory.
// For the host, too.

#pragma once

namespace vgg::sm90 {

// Numbers of 16-bit elements, or bytes where they say so.
//
// Between the convolutions a tile has 18 x 16 pixels, columns -1 .. 16 and lines -1 .. 14 of its
// 16 x 14. They lie in four planes, [plane x' = -1 .. 2][line][member][64]: member i's pixel is in
// column 2 i + x'. So a plane's line is one group of eight rows of 128 bytes, the period of the
// swizzle, and the operand of tap (r, s) for all outputs of columns x0, x0 + 2, ... starts with
// group (x0 + s, r). Columns 1 .. 14 are in two planes each.
struct FusedConv1BlockTile {
  static constexpr int CHANNELS = 64, ROW_BYTES = 128;  // of a pixel between the convolutions
  static constexpr int WIDTH = 16, HEIGHT = 14;         // of the second's results
  static constexpr int POOLED_W = WIDTH / 2, POOLED_H = HEIGHT / 2;
  static constexpr int COLUMNS = WIDTH + 2, LINES = HEIGHT + 2;
  static constexpr int PLANES = 4, MEMBERS = 8, GROUP_BYTES = MEMBERS * ROW_BYTES;
  static constexpr int PLANE_BYTES = LINES * GROUP_BYTES, PIXELS_BYTES = PLANES * PLANE_BYTES;

  // One warpgroup computes the first convolution, a quarter of the lines to each warp; two in turn
  // the second, each from pixels of its own.
  static constexpr int CONSUMERS = 2, THREADS = 128 * (CONSUMERS + 1), WARPS = 4;
  static constexpr int WARP_LINES = LINES / WARPS;

  // What the first convolution reads, of a warp: rows of 27 values under the filter and zeros, for
  // two lines by turns, columns 2 i and 2 i + 1 apart, and of all lines for columns -1 and 16.
  static constexpr int GEMM_K = 27, TAPS_BYTES = 64, TAPS_GROUP_BYTES = MEMBERS * TAPS_BYTES;
  static constexpr int EDGES_AT = 4 * TAPS_GROUP_BYTES;
  static constexpr int WARP_BYTES = EDGES_AT + TAPS_GROUP_BYTES;

  static constexpr int FILTER_BYTES = CHANNELS * ROW_BYTES;  // of a tap
  static constexpr int OUT_BYTES = POOLED_H * POOLED_W * ROW_BYTES;

  // Offsets in bytes; multiples of 1024 but for the last two.
  static constexpr int PIXELS_AT = 0;
  static constexpr int FILTERS_AT = PIXELS_AT + CONSUMERS * PIXELS_BYTES;
  static constexpr int OUT_AT = FILTERS_AT + 9 * FILTER_BYTES;
  static constexpr int WARPS_AT = OUT_AT + CONSUMERS * OUT_BYTES;
  static constexpr int FILTERS_FULL_AT = WARPS_AT + WARPS * WARP_BYTES;
  static constexpr int PIXELS_FULL_AT = FILTERS_FULL_AT + 8;
  static constexpr int PIXELS_EMPTY_AT = PIXELS_FULL_AT + 8 * CONSUMERS;
  static constexpr int BYTES = PIXELS_EMPTY_AT + 8 * CONSUMERS;
  static_assert(BYTES <= 227 * 1024);
};

}  // namespace vgg::sm90
