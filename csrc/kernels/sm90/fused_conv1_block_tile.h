// Sizes of the fused first two convolutions and their shared memory. Host and device code include
// them.

#pragma once

#include "kernels/sm90/ring_barriers.h"

namespace vgg::sm90 {

// Sizes count 16-bit elements, or bytes if their names say so.
//
// Between the convolutions a tile has 18 x 16 pixels, columns -1 .. 16 and lines -1 .. 14 of its
// 16 x 14. They lie in four planes, [plane x' = -1 .. 2][line][member][64]: the pixel of member i
// is in column 2 i + x'. So a line of a plane is one group of eight rows of 128 bytes, the period
// of the swizzle, and the operand of tap (r, s) for all outputs of columns x0, x0 + 2, ... starts
// with group (x0 + s, r). Columns 1 .. 14 are in two planes each.
struct FusedConv1BlockTile {
  static constexpr int CHANNELS = 64, ROW_BYTES = 128;  // of a pixel between the convolutions
  static constexpr int WIDTH = 16, HEIGHT = 14;         // of the second's results
  static constexpr int POOLED_W = WIDTH / 2, POOLED_H = HEIGHT / 2;
  static constexpr int COLUMNS = WIDTH + 2, LINES = HEIGHT + 2;
  static constexpr int PLANES = 4, MEMBERS = 8, GROUP_BYTES = MEMBERS * ROW_BYTES;
  static constexpr int PLANE_BYTES = LINES * GROUP_BYTES, PIXELS_BYTES = PLANES * PLANE_BYTES;

  // One warpgroup computes the first convolution, each warp a quarter of the lines. Two warpgroups
  // compute the second in turn, each from its own pixels.
  static constexpr int CONSUMERS = 2, THREADS = 128 * (CONSUMERS + 1), WARPS = 4;
  static constexpr int WARP_LINES = LINES / WARPS;

  // Input of the first convolution for one warp: rows of 27 values under the filter and zeros.
  // There are two lines, used in turn, whose columns 2 i and 2 i + 1 are apart; and columns -1 and
  // 16 of all lines.
  static constexpr int GEMM_K = 27, TAPS_BYTES = 64, TAPS_GROUP_BYTES = MEMBERS * TAPS_BYTES;
  static constexpr int EDGES_AT = 4 * TAPS_GROUP_BYTES;
  static constexpr int WARP_BYTES = EDGES_AT + TAPS_GROUP_BYTES;

  static constexpr int FILTER_BYTES = CHANNELS * ROW_BYTES;  // of a tap
  static constexpr int OUT_BYTES = POOLED_H * POOLED_W * ROW_BYTES;
};

// Pixels, filters and results are swizzled in periods of 1024 bytes, to which they are aligned.
struct FusedConv1BlockStorage {
  using Tile = FusedConv1BlockTile;

  alignas(1024) unsigned char pixels[Tile::CONSUMERS][Tile::PIXELS_BYTES];
  alignas(1024) unsigned char filters[9][Tile::FILTER_BYTES];
  alignas(1024) unsigned char out[Tile::CONSUMERS][Tile::OUT_BYTES];
  alignas(1024) unsigned char taps[Tile::WARPS][Tile::WARP_BYTES];
  uint64_t filters_full;
  RingBarriers<Tile::CONSUMERS> pixel_barriers;
};
static_assert(sizeof(FusedConv1BlockStorage) <= 227 * 1024);

}  // namespace vgg::sm90
