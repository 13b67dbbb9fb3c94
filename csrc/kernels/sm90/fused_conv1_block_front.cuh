// The first of the two convolutions of fused_conv1_block.cuh, by one of four warps: all columns of
// WARP_LINES lines of every tile, tile after tile. A warp waits only for the consumers of its
// pixels.
//
// The filters are the rows of A, in registers. The rows of B are eight pixels: the values of the
// image under the filter at each pixel. A lane reads one channel of two pixels in each line of the
// image, one tile ahead, and writes it to every row of B whose filter covers it. Values outside the
// normalised image are zeros: the padding of the first convolution. Results outside the image are
// zeros as well: the padding of the second.

#pragma once

#include "kernels/fast_divmod.cuh"
#include "kernels/params.h"
#include "kernels/sm90/accumulator.cuh"
#include "kernels/sm90/fused_conv1_block_tile.h"
#include "kernels/sm90/ring.cuh"
#include "kernels/sm90/sync.cuh"
#include "kernels/smxx/element.cuh"
#include "ptx/cp_async.cuh"
#include "ptx/mbarrier.cuh"
#include "ptx/mma.cuh"
#include "ptx/tma.cuh"
#include "ptx/warpgroup.cuh"

namespace vgg::sm90 {

using PixelRing = Ring<FusedConv1BlockTile::CONSUMERS>;

// A tile's first pixel, before pooling, and its image.
struct FusedConv1BlockWork {
  int x, y, n;

  __device__ __forceinline__ static FusedConv1BlockWork of(const FusedConv1BlockParams& p,
                                                           int tile) {
    int column, line;
    const int row = divide(tile, p.tiles_w, column);
    const int n = divide(row, p.tiles_h, line);
    return {column * FusedConv1BlockTile::WIDTH, line * FusedConv1BlockTile::HEIGHT, n};
  }
};

// The image under a warp's lines, with two columns and lines more than the warp computes, and its
// places in B. Lane 3 i + c has channel c of columns 2 i + `odd`, with odd = 0 and 1.
template <class T, class Source>
class Patch {
  using Tile = FusedConv1BlockTile;
  static constexpr int LINES = Tile::WARP_LINES + 2, CHANNELS = 3;

 public:
  __device__ __forceinline__ Patch(const FusedConv1BlockParams& p, unsigned char* taps, int warp_id)
      : p_(p), taps_(taps), line_(warp_id * Tile::WARP_LINES), lane_(threadIdx.x % 32) {
    const int c = lane_ % CHANNELS;
    scale_ = c == 0 ? p.scale[0] : c == 1 ? p.scale[1] : p.scale[2];
    shift_ = c == 0 ? p.shift[0] : c == 1 ? p.shift[1] : p.shift[2];
#pragma unroll
    for (int odd = 0; odd < 2; ++odd) {
      const int column = 2 * i() + odd, right = column - Tile::COLUMNS + 1;
      const int edge_s = column < 3 ? column : right;
#pragma unroll
      for (int r = 0; r < 3; ++r) {
#pragma unroll
        for (int s = 0; s < 3; ++s) {
          to_[odd][r][s] = place(member(odd, s), 3 * (3 * r + s) + c);
        }
        edge_to_[odd][r] = place(column < 3 ? 0 : 1, 3 * (3 * r + edge_s) + c);
      }
      has_edge_[odd] = column < 3 || (right >= 0 && right < 3);
    }
  }

  // Starts to load the values inside the image.
  __device__ __forceinline__ void fetch(const FusedConv1BlockWork& work) {
    const int y = work.y + line_ - 2, x = work.x + 2 * i() - 2;  // @patch_corner
    const int64_t pixel = (static_cast<int64_t>(work.n) * p_.H + y) * p_.W + x;
    const int c = p_.reversed ? CHANNELS - 1 - lane_ % CHANNELS : lane_ % CHANNELS;
    const Source* from = static_cast<const Source*>(p_.x) + pixel * CHANNELS + c;
    inside_ = 0;
#pragma unroll
    for (int line = 0; line < LINES; ++line) {
#pragma unroll
      for (int odd = 0; odd < 2; ++odd) {
        if (is_used() && is_in(y + line, p_.H) && is_in(x + odd, p_.W)) {
          loaded_[line][odd] = from[odd * CHANNELS];
          inside_ |= 1 << (2 * line + odd);
        }
      }
      from += static_cast<int64_t>(p_.W) * CHANNELS;
    }
  }

  // Converts the loaded values for products.
  __device__ __forceinline__ void normalize() {
#pragma unroll
    for (int line = 0; line < LINES; ++line) {
#pragma unroll
      for (int odd = 0; odd < 2; ++odd) {
        const float value = fmaf(smxx::to_float(loaded_[line][odd]), scale_, shift_);
        const bool inside = inside_ >> (2 * line + odd) & 1;
        value_[line][odd] = smxx::from_float<T>(inside ? value : 0.0f);  // @image_padding
      }
    }
  }

  // The rows of B for one of the warp's lines.
  __device__ __forceinline__ void write_taps(int line) const {
#pragma unroll
    for (int odd = 0; odd < 2; ++odd) {
#pragma unroll
      for (int r = 0; r < 3; ++r) {
        const T value = value_[line + r][odd];
#pragma unroll
        for (int s = 0; s < 3; ++s) {
          const int group = 2 * (line % 2) + (odd + s + 1) % 2;
          if (is_used() && is_in(member(odd, s), Tile::MEMBERS)) {
            write(group * Tile::TAPS_GROUP_BYTES + to_[odd][r][s], value);
          }
        }
        // Rows 2 line and 2 line + 1 are for columns -1 and 16.
        const int edge_to = (edge_to_[odd][r] ^ line << 4) + 2 * line * Tile::TAPS_BYTES;
        if (is_used() && has_edge_[odd]) write(Tile::EDGES_AT + edge_to, value);
      }
    }
  }

  // Offset of column k of a row of B: the chunks of a group's rows lie in different banks.
  __device__ __forceinline__ static int place(int row, int k) {
    return row * Tile::TAPS_BYTES + ((k / 8 ^ row / 2 % 4) << 4) + k % 8 * 2;
  }

 private:
  __device__ __forceinline__ static bool is_in(int i, int size) {
    return static_cast<unsigned>(i) < static_cast<unsigned>(size);
  }
  __device__ __forceinline__ int i() const { return lane_ / CHANNELS; }
  __device__ __forceinline__ bool is_used() const { return lane_ < 30; }

  // The pixel of its group that has the lane's value under column s of the filter.
  __device__ __forceinline__ int member(int odd, int s) const {
    return i() + (odd - s + 3) / 2 - 2;
  }

  __device__ __forceinline__ void write(int to, T value) const {
    *reinterpret_cast<T*>(taps_ + to) = value;
  }

  const FusedConv1BlockParams& p_;
  unsigned char* const taps_;
  const int line_, lane_;
  float scale_, shift_;
  int to_[2][3][3], edge_to_[2][3];  // offsets in bytes by [odd][r][s]
  bool has_edge_[2];
  uint32_t inside_;  // bit 2 line + odd: whether the pixel is in the image
  Source loaded_[LINES][2];
  T value_[LINES][2];
};

// The filters as rows of A, and their bias.
template <class T>
class FirstFilters {
  static constexpr int M = FusedConv1BlockTile::CHANNELS / 16, K = 2, ROW_WORDS = 16;

 public:
  __device__ __forceinline__ explicit FirstFilters(const FusedConv1BlockParams& p) {
    const int lane_id = threadIdx.x % 32;
    const uint32_t* words =
        static_cast<const uint32_t*>(p.w1) + lane_id / 4 * ROW_WORDS + lane_id % 4;
#pragma unroll
    for (int m = 0; m < M; ++m) {
#pragma unroll
      for (int k = 0; k < K; ++k) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          a_[m][k][i] = words[(16 * m + i % 2 * 8) * ROW_WORDS + 8 * k + i / 2 * 4];
        }
      }
      bias_[m][0] = p.bias1[16 * m + lane_id / 4];
      bias_[m][1] = p.bias1[16 * m + lane_id / 4 + 8];
    }
  }

  // Convolves the eight pixels whose rows of B are at `taps_smem`: z[j] is channel 8 j + lane_id /
  // 4 of pixels 2 (lane_id % 4) and 2 (lane_id % 4) + 1, masked by `inside`.
  __device__ __forceinline__ void convolve(uint32_t taps_smem, uint32_t inside,
                                           uint32_t (&z)[2 * M]) const {
    uint32_t b[4];
    ptx::ldmatrix_x4(b, taps_smem);
#pragma unroll
    for (int m = 0; m < M; ++m) {
      float acc[4] = {};
      ptx::mma<T>(acc, a_[m][0], b[0], b[1]);
      ptx::mma<T>(acc, a_[m][1], b[2], b[3]);
      z[2 * m] = relu(acc[0] + bias_[m][0], acc[1] + bias_[m][0]) & inside;
      z[2 * m + 1] = relu(acc[2] + bias_[m][1], acc[3] + bias_[m][1]) & inside;
    }
  }

 private:
  // Rounds first, so that two values are compared with zero at once.
  __device__ __forceinline__ static uint32_t relu(float first, float second) {
    using Two = smxx::Pack<T, 2>;
    const Two both{smxx::from_float<T>(first), smxx::from_float<T>(second)}, zero = {};
    const Two most = smxx::max_nan(both, zero);
    return reinterpret_cast<const uint32_t&>(most);
  }

  uint32_t a_[M][K][4];
  float bias_[M][2];
};

// A mask of ones for each of two pixels that is inside.
__device__ __forceinline__ uint32_t halves(bool first, bool second) {
  return (first ? 0xffffu : 0) | (second ? 0xffff0000u : 0);
}

// Rotates chunks in groups of four lanes: lane t's part of matrix i becomes its chunk (i + t) % 4.
__device__ __forceinline__ void rotate(uint32_t (&z)[8]) {
  const int t = threadIdx.x % 4;
#pragma unroll
  for (int by = 1; by <= 2; ++by) {
    const uint32_t before[8] = {z[0], z[1], z[2], z[3], z[4], z[5], z[6], z[7]};
#pragma unroll
    // @rotate_chunks
    for (int j = 0; j < 8; ++j) z[j] = t & by ? before[j / 4 * 4 + (j + by) % 4] : before[j];
  }
}

// Stores all 64 channels of eight pixels. This lane addresses chunk lane_id / 8 of their rows.
__device__ __forceinline__ void store_pixels(uint32_t row_smem, const uint32_t (&z)[8]) {
  ptx::stmatrix_x4_trans(row_smem, z[0], z[1], z[2], z[3]);
  ptx::stmatrix_x4_trans(row_smem ^ 64, z[4], z[5], z[6],
                         z[7]);  // four chunks further in the swizzled row
}

template <class T, class Source>
__device__ __forceinline__ void first_convolution(const FusedConv1BlockParams& p,
                                                  unsigned char* smem, const char* kernel,
                                                  int warp_id) {
  using Tile = FusedConv1BlockTile;
  using Storage = FusedConv1BlockStorage;
  const int lane_id = threadIdx.x % 32, t = lane_id % 4, member = lane_id % 8, chunk = lane_id / 8;
  const uint32_t address = ptx::shared_address(smem);
  PixelRing ring({kernel, address, 0}, "pixels", address + offsetof(Storage, pixel_barriers));
  unsigned char* const taps = smem + offsetof(Storage, taps) + warp_id * Tile::WARP_BYTES;
  for (int i = lane_id; i < Tile::WARP_BYTES / 16; i += 32) {    // those behind the 27th stay zero
    reinterpret_cast<uint4*>(taps)[i] = make_uint4(0, 0, 0, 0);  // @taps_zeros
  }
  __syncwarp();  // zeros are there before values are written among them

  const FirstFilters<T> filters(p);
  Patch<T, Source> patch(p, taps, warp_id);
  const uint32_t taps_row =
      ptx::shared_address(taps) + Patch<T, Source>::place(lane_id % 8, lane_id / 8 * 8);
  const auto row = [&](int member) {  // of a group of pixels between the convolutions
    return member * Tile::ROW_BYTES + ((chunk ^ member) << 4);  // @pixel_row
  };
  const auto group = [&](int plane, int line) {
    return plane * Tile::PLANE_BYTES + (warp_id * Tile::WARP_LINES + line) * Tile::GROUP_BYTES;
  };
  // @neighbour_rows
  const int own = row(member), left = row((member + 7) % 8), right = row((member + 1) % 8);
  // Edges of four lines: column -1 in plane 0 and column 16 in plane 3.
  const int edge_line = lane_id % 8 / 2, edge_chunk = (lane_id / 8 + edge_line) % 4;
  const int edge = lane_id % 2 == 0
                       ? group(0, edge_line) + (edge_chunk << 4)
                       : group(3, edge_line) + 7 * Tile::ROW_BYTES + ((edge_chunk ^ 7) << 4);

  patch.fetch(FusedConv1BlockWork::of(p, blockIdx.x));
#pragma unroll 1
  for (int tile = blockIdx.x; tile < p.tiles; tile += gridDim.x) {
    const FusedConv1BlockWork work = FusedConv1BlockWork::of(p, tile);
    const uint32_t pixels = address + offsetof(Storage, pixels) + ring.stage() * Tile::PIXELS_BYTES;
    const int y = work.y + warp_id * Tile::WARP_LINES - 1;
    const auto is_line = [&](int line) { return y + line >= 0 && y + line < p.H; };
    const int x = work.x + 4 * t;  // of lane t's first pixel, column 2 (2 t), or the one behind it
    // @inside_columns
    const uint32_t columns[2] = {halves(x < p.W, x + 2 < p.W), halves(x + 1 < p.W, x + 3 < p.W)};

    patch.normalize();
    const int next = tile + gridDim.x;
    if (next < p.tiles) patch.fetch(FusedConv1BlockWork::of(p, next));
    ring.wait_empty();  // @pixels_empty
    uint32_t z[8];
#pragma unroll
    for (int line = 0; line < Tile::WARP_LINES; ++line) {
      patch.write_taps(line);
      // @taps_written
      __syncwarp();  // rows of B are written before other lanes read them, and two lines before
#pragma unroll
      for (int odd = 0; odd < 2; ++odd) {
        filters.convolve(taps_row + (2 * (line % 2) + odd) * Tile::TAPS_GROUP_BYTES,
                         is_line(line) ? columns[odd] : 0, z);  // @inside_lines
        store_pixels(pixels + group(1 + odd, line) + own, z);
        // Each pixel also belongs to a second plane, one member further left (even columns) or
        // right (odd columns). The pixel that wraps around takes the place of an edge, written
        // below.
        store_pixels(pixels + (odd ? group(0, line) + right : group(3, line) + left), z);
      }
    }
    __syncwarp();  // @edges_written: edges are stored last
    filters.convolve(taps_row + Tile::EDGES_AT,
                     // @inside_edges
                     is_line(t) ? halves(work.x > 0, work.x + Tile::WIDTH < p.W) : 0, z);
    rotate(z);  // equal chunks of one member lie in the same banks in every line
    store_pixels(pixels + edge, z);
    ptx::fence_proxy_async();  // @pixels_fence: wgmma reads what was written
    __syncwarp();              // by all lanes
    ring.arrive_full();
    ring.advance();
  }
}

}  // namespace vgg::sm90
