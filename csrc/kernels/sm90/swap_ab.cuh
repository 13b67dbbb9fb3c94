// The convolution with swapped operands: persistent_conv.cuh with channels of y as wgmma's M and
// pixels as its N. It is for images that tiles of 8 x 8 pixels do not fit: 28 x 28, 14 x 14.
//
// Each consumer multiplies 64 channels by all pixels of the tile. A group of eight rows of the
// pixel operand is one pixel of eight images: a box of neighbouring pixels serves all taps, and the
// pixels under tap (r, s) start r lines and s groups further.

#pragma once

#include "kernels/sm90/persistent_conv.cuh"
#include "kernels/sm90/swap_ab_tile.h"

namespace vgg::sm90 {

// The sums of one pixel of eight images by 64 channels -> [8][64] at `to_smem`; chunks of 16 bytes
// are swizzled as tensor maps require. v[2 h + e] is channel row() + 8 h and image column() + e of
// the accumulator: matrices of [channels, images], which are stored transposed.
template <class T>
__device__ __forceinline__ void write_group(const float (&v)[4], const float (&bias)[2],
                                            float relu_floor, uint32_t to_smem) {
  constexpr int ROW_BYTES = 128;
  const AccumulatorCoord at;
  const int image = at.lane_id % 8, chunk = 2 * at.warp_id + at.lane_id / 8 % 2;
  ptx::stmatrix_x2_trans(to_smem + image * ROW_BYTES + ((chunk ^ image) << 4),
                         pair<T>(v[0], v[1], {bias[0], bias[0]}, relu_floor),
                         pair<T>(v[2], v[3], {bias[1], bias[1]}, relu_floor));
}

template <class T_, class Tile_>
class SwapAbPolicy {
 public:
  using T = T_;
  using Tile = Tile_;
  using Sums = float[Tile::M_TILES][Tile::SUMS];

  __device__ __forceinline__ static TileCoord coord(const ConvParams& p, const Work& work, int) {
    int column, line;
    const int n = divide(divide(work.tile, p.tiles_w, column), p.tiles_h, line);
    return {column * Tile::TILE_W, line * Tile::TILE_H, n * Tile::IMAGES};
  }

  // The box of all rows of the filter, or of row r.
  __device__ __forceinline__ static void load(const ConvParams& p, const TileCoord& coord, int c,
                                              int r, uint32_t to_smem, uint32_t full_barrier) {
    ptx::tma_load_4d(to_smem, &p.x, full_barrier, c, coord.n, coord.x - 1, coord.y + r - 1);
  }

  // A is filters, B pixels; addresses in 16 bytes, as in descriptors.
  __device__ __forceinline__ static void operands(uint32_t smem, int consumer, uint32_t pixel_stage,
                                                  uint32_t filter_stage, int tap, uint32_t& a,
                                                  uint32_t& b) {
    using Storage = ConvStorage<Tile>;
    const int s = tap / 3, r = tap % 3;
    const int group = Tile::STEP_STAGES == 1 ? Tile::BOX_W * r + s : s;  // of the box
    const uint32_t filters =
        smem + offsetof(Storage, filters) + consumer * Tile::CHANNELS * Tile::ROW_BYTES;
    const uint32_t pixels = smem + offsetof(Storage, pixels);
    a = ptx::wgmma_descriptor_low(filters) + filter_stage * (Tile::FILTER_STAGE_BYTES / 16);
    // @tap_start
    b = ptx::wgmma_descriptor_low(pixels) + pixel_stage * (Tile::PIXEL_STAGE_BYTES / 16) +
        group * (Tile::GROUP_BYTES / 16);
  }

  struct Prefetch {
    TileCoord coord;
    float bias[2];  // of the accumulator's rows row() and row() + 8

    __device__ __forceinline__ Prefetch(const ConvParams& p, const Work& work)
        : coord(SwapAbPolicy::coord(p, work, 0)) {
      // The warps of both consumers have 16 channels each.
      const int channel = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4;
      const float* biases = p.bias + work.k0 + channel;
      bias[0] = biases[0];
      bias[1] = biases[8];  // @bias_load
    }
  };

  __device__ __forceinline__ SwapAbPolicy(const ConvParams& p, const Work& work, int consumer,
                                          const Prefetch& prefetch)
      : p_(p), k0_(work.k0 + consumer * Tile::CHANNELS), prefetch_(prefetch) {}

  __device__ __forceinline__ static bool writes_sums(const ConvParams& p) {
    return Tile::SPLIT && p.partial != nullptr;
  }

  // In-bounds sums -> partial: eight neighbouring channels, a sector of 32 bytes, at a time.
  __device__ __forceinline__ void write_sums(const Sums& acc) const {
    const AccumulatorCoord at;
    const int channel = k0_ + at.row();
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const int n = prefetch_.coord.n + at.column() + e;
      if (n >= p_.N) continue;                                            // @inside_batch
      const int64_t image = static_cast<int64_t>(blockIdx.y) * p_.N + n;  // @split_image
#pragma unroll
      for (int y = 0; y < Tile::TILE_H; ++y) {
        if (prefetch_.coord.y + y >= p_.H) continue;
        float* to = p_.partial +
                    ((image * p_.H + prefetch_.coord.y + y) * p_.W + prefetch_.coord.x) * p_.K +
                    channel;
#pragma unroll
        for (int x = 0; x < Tile::TILE_W; ++x, to += p_.K) {
          if (prefetch_.coord.x + x >= p_.W) continue;
          const float* v = acc[0] + AccumulatorCoord::index(Tile::BOX_W * y + x, 0, e);
          to[0] = v[0];
          to[8] = v[2];
        }
      }
    }
  }

  __device__ __forceinline__ void write_subtile(const Sums& acc, int subtile, float relu_floor,
                                                uint32_t to_smem) const {
    constexpr int LINE = 4 * Tile::BOX_W;  // sums from a pixel to the pixel below
#pragma unroll
    for (int i = 0; i < Tile::SUBTILE_W; ++i) {
      const float* from = acc[0] + y(subtile) * LINE + 4 * DOWN * (x(subtile) + i);
      float v[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        v[j] = from[j];
        // max(relu(v + bias)) = relu(max(v) + bias): windows are pooled in float32.
        if constexpr (Tile::POOL) {
          // @pool_window
          v[j] = smxx::max_nan(smxx::max_nan(from[j], from[j + 4]),
                               smxx::max_nan(from[j + LINE], from[j + LINE + 4]));
        }
      }
      write_group<T>(v, prefetch_.bias, relu_floor, to_smem + i * Tile::GROUP_BYTES);
    }
  }

  __device__ __forceinline__ void store_subtile(int subtile, uint32_t from_smem) const {
    ptx::tma_store_4d(&p_.y, from_smem, k0_, prefetch_.coord.n,
                      prefetch_.coord.x / DOWN + x(subtile), prefetch_.coord.y / DOWN + y(subtile));
  }

 private:
  static constexpr int DOWN = Tile::POOL ? 2 : 1;
  static constexpr int COLUMNS = Tile::TILE_W / DOWN / Tile::SUBTILE_W;  // of subtiles in a line

  __device__ __forceinline__ static int x(int subtile) {
    return subtile % COLUMNS * Tile::SUBTILE_W;
  }
  __device__ __forceinline__ static int y(int subtile) { return subtile / COLUMNS; }

  const ConvParams& p_;
  const int k0_;
  const Prefetch& prefetch_;
};

}  // namespace vgg::sm90
