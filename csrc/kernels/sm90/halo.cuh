// The halo convolution: persistent_conv.cuh with pixels as wgmma's M and channels of y as its N.
//
// Each consumer multiplies a tile of 8 x 8 M_TILES pixels by BLOCK_N channels. A box of pixels is a
// tile and its halo, seen from column s of the filter. It serves the three taps (r, s): the pixels
// under tap r start r lines further.

#pragma once

#include "kernels/sm90/halo_tile.h"
#include "kernels/sm90/persistent_conv.cuh"

namespace vgg::sm90 {

// The greater elements of two pairs.
template <class T>
__device__ __forceinline__ uint32_t greater(uint32_t a, uint32_t b) {
  using Two = smxx::Pack<T, 2>;
  const Two max = smxx::max_nan(reinterpret_cast<const Two&>(a), reinterpret_cast<const Two&>(b));
  return reinterpret_cast<const uint32_t&>(max);
}

// 64 pixels (8 x 8) by 64 channels of the sums -> [64][64] at `to_smem`, pooled [16][64]; chunks of
// 16 bytes are swizzled as tensor maps require. Row i of the accumulator is pixel (i / 8, i % 8).
template <class T, bool POOL>
__device__ __forceinline__ void write_epilogue_subtile(const float* v, const float* bias,
                                                       float relu_floor, uint32_t to_smem) {
  constexpr int ROW_BYTES = 128;
  const AccumulatorCoord coord;
  const int lane_id = coord.lane_id, warp_id = coord.warp_id;
  const float2* biases = reinterpret_cast<const float2*>(bias + coord.column());
  const auto row = [&](int pixel, int chunk) {  // of a matrix that this lane addresses
    return to_smem + pixel * ROW_BYTES + ((chunk ^ pixel % 8) << 4);
  };
  if constexpr (!POOL) {
    const int pixel = 16 * warp_id + lane_id % 16;
#pragma unroll
    for (int j = 0; j < 8; j += 2) {
      const float2 b0 = biases[4 * j], b1 = biases[4 * j + 4];  // @bias_load
      const float* at = v + 4 * j;
      ptx::stmatrix_x4(row(pixel, j + lane_id / 16), pair<T>(at[0], at[1], b0, relu_floor),
                       pair<T>(at[2], at[3], b0, relu_floor), pair<T>(at[4], at[5], b1, relu_floor),
                       pair<T>(at[6], at[7], b1, relu_floor));
    }
  } else {
    // max(relu(v + bias)) = relu(max(v) + bias), and rounding keeps the order. Lines are pooled in
    // float32; columns, which neighbouring lanes hold, after packing. Lanes of even columns keep
    // channels 8 j, lanes of odd columns channels 8 (j + 4), so that one shuffle serves both.
    const bool odd = lane_id & 4;
    uint32_t pooled[4];
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const float *low = v + 4 * j, *high = v + 4 * (j + 4);
      const uint32_t l = pair<T>(smxx::max_nan(low[0], low[2]), smxx::max_nan(low[1], low[3]),
                                 biases[4 * j], relu_floor);
      const uint32_t h = pair<T>(smxx::max_nan(high[0], high[2]), smxx::max_nan(high[1], high[3]),
                                 biases[4 * (j + 4)], relu_floor);
      // @pool_shuffle
      pooled[j] = greater<T>(odd ? h : l, __shfl_xor_sync(0xffffffffu, odd ? l : h, 4));
    }
    // Row i of matrix j is in lanes 4 i .. 4 i + 3: window i / 2, channels 8 j or 8 (j + 4).
    const int pixel = 4 * warp_id + lane_id % 8 / 2;
    ptx::stmatrix_x4(row(pixel, lane_id / 8 + lane_id % 2 * 4), pooled[0], pooled[1], pooled[2],
                     pooled[3]);
  }
}

template <class T_, class Tile_>
class HaloPolicy {
 public:
  using T = T_;
  using Tile = Tile_;
  using Sums = float[Tile::M_TILES][Tile::SUMS];

  // Boxes of a stage are of the consumers' tiles.
  __device__ __forceinline__ static TileCoord coord(const ConvParams& p, const Work& work,
                                                    int consumer) {
    int column, line;
    const int row = divide(work.tile * Tile::CONSUMERS + consumer, p.tiles_w, column);
    const int n = divide(row, p.tiles_h, line);
    return {column * Tile::TILE_W, line * Tile::TILE_H, n};
  }

  __device__ __forceinline__ static void load(const ConvParams& p, const TileCoord& coord, int c,
                                              int s, uint32_t to_smem, uint32_t full_barrier) {
    ptx::tma_load_4d(to_smem, &p.x, full_barrier, c, coord.x + s - 1, coord.y - 1, coord.n);
  }

  // A is pixels, B filters; addresses in 16 bytes, as in descriptors.
  __device__ __forceinline__ static void operands(uint32_t smem, int consumer, uint32_t pixel_stage,
                                                  uint32_t filter_stage, int r, uint32_t& a,
                                                  uint32_t& b) {
    using Storage = ConvStorage<Tile>;
    const uint32_t pixels = smem + offsetof(Storage, pixels) + consumer * Tile::BOX_BYTES;
    const uint32_t filters = smem + offsetof(Storage, filters);
    // @tap_start
    a = ptx::wgmma_descriptor_low(pixels) +
        (pixel_stage * Tile::PIXEL_STAGE_BYTES + r * Tile::LINE_BYTES) / 16;
    b = ptx::wgmma_descriptor_low(filters) + filter_stage * (Tile::FILTER_STAGE_BYTES / 16);
  }

  struct Prefetch {  // nothing: the bias is in the L1 cache
    __device__ __forceinline__ Prefetch(const ConvParams&, const Work&) {}
  };

  __device__ __forceinline__ HaloPolicy(const ConvParams& p, const Work& work, int consumer,
                                        const Prefetch&)
      : p_(p), k0_(work.k0), coord_(coord(p, work, consumer)) {}

  __device__ __forceinline__ static constexpr bool writes_sums(const ConvParams&) {
    return Tile::SPLIT;
  }

  // In-bounds sums -> partial: one access is eight pixels by eight channels.
  __device__ __forceinline__ void write_sums(const Sums& acc) const {
    const AccumulatorCoord at;
    const int x = coord_.x + at.lane_id / 4;
    const int image = static_cast<int>(blockIdx.y) * p_.N + coord_.n;  // @split_image
#pragma unroll
    for (int m = 0; m < Tile::M_TILES; ++m) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const int y = coord_.y + 8 * m + 2 * at.warp_id + h;
        if (coord_.n >= p_.N || y >= p_.H || x >= p_.W) continue;  // @inside_image
        const int64_t pixel = (static_cast<int64_t>(image) * p_.H + y) * p_.W + x;
        float* to = p_.partial + pixel * p_.K + k0_ + at.column();
#pragma unroll
        for (int j = 0; j < Tile::BLOCK_N / 8; ++j) {
          const float* v = acc[m] + AccumulatorCoord::index(j, h, 0);
          *reinterpret_cast<float2*>(to + 8 * j) = make_float2(v[0], v[1]);  // @store_sums
        }
      }
    }
  }

  __device__ __forceinline__ void write_subtile(const Sums& acc, int subtile, float relu_floor,
                                                uint32_t to_smem) const {
    const int c = channel(subtile);
    write_epilogue_subtile<T, Tile::POOL>(acc[subtile / COLUMNS] + c / 2, p_.bias + k0_ + c,
                                          relu_floor, to_smem);
  }

  __device__ __forceinline__ void store_subtile(int subtile, uint32_t from_smem) const {
    constexpr int DOWN = Tile::POOL ? 2 : 1;
    ptx::tma_store_4d(&p_.y, from_smem, k0_ + channel(subtile), coord_.x / DOWN,
                      (coord_.y + 8 * (subtile / COLUMNS)) / DOWN, coord_.n);
  }

 private:
  static constexpr int COLUMNS = Tile::BLOCK_N / Tile::CHANNELS;  // of subtiles, along channels

  __device__ __forceinline__ static int channel(int subtile) {
    return subtile % COLUMNS * Tile::CHANNELS;
  }

  const ConvParams& p_;
  const int k0_;
  const TileCoord coord_;
};

}  // namespace vgg::sm90
