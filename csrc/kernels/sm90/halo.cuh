// y = relu(pool(conv(x, w)) + bias) for GPUs of sm_90a: 3x3, stride 1, padding 1. Or float32 sums
// over a part of C, which kernels/sm80/reduce.cu adds.
//
// Blocks, alone or in clusters of two (pipeline.cuh), are persistent and specialised. Warp 0 of the
// last warpgroup copies pixels, warp 1 filters, through two rings in shared memory; the other two
// warpgroups multiply, each a coord of pixels by BLOCK_N channels, and write. GEMM_K is walked by
// 64 channels, columns of the filter, rows of the filter: a box of pixels, a coord and its halo,
// seen from column s, serves the three taps (r, s): tap r starts r lines further. Pixels outside
// the image arrive as zeros: the padding.
//
// Loop invariant of a consumer: one tap's products are in flight at most, and a stage is given back
// when the products of the tap behind it have been started and its own are known to be complete.
//
// x is [N, H, W, C] with C a multiple of 64, w [K, 9 C] with K a multiple of BLOCK_N.

#pragma once

#include <math_constants.h>

#include "kernels/fast_divmod.cuh"
#include "kernels/params.h"
#include "kernels/sm90/halo_tile.h"
#include "kernels/sm90/pipeline.cuh"
#include "kernels/smxx/element.cuh"
#include "ptx/cp_async.cuh"
#include "ptx/griddepcontrol.cuh"
#include "ptx/mbarrier.cuh"
#include "ptx/tma.cuh"
#include "ptx/warpgroup.cuh"
#include "ptx/wgmma.cuh"

namespace vgg::sm90 {

struct TileCoord {
  int x, y, n;  // its first pixel and its image; beyond the last image everything is outside

  template <class Tile>
  __device__ __forceinline__ static TileCoord of(const HaloParams& p, const Work& work,
                                                 int consumer) {
    int column, line;
    const int row = divide(work.tile * Tile::CONSUMERS + consumer, p.slabs_w, column);
    const int n = divide(row, p.slabs_h, line);
    return {column * Tile::SLAB_W, line * Tile::SLAB_H, n};
  }
};

// The producer of pixels: for every 64 channels and column of the filter a box for each consumer.
template <class Tile>
__device__ __forceinline__ void load_pixels(const HaloParams& p, uint32_t smem) {
  const Channels channels = Channels::of<Tile>(p);
  PipelineState<Tile::PIXEL_STAGES> at;
  ptx::griddepcontrol_wait();  // @launches_wait: filters, and the bias, are loaded before
#pragma unroll 1
  for (int unit = blockIdx.x / Tile::CLUSTER; unit < p.units; unit += gridDim.x / Tile::CLUSTER) {
    const Work work = Work::of<Tile>(p, unit);
    TileCoord coord[Tile::CONSUMERS];
#pragma unroll
    for (int i = 0; i < Tile::CONSUMERS; ++i) coord[i] = TileCoord::of<Tile>(p, work, i);
#pragma unroll 1
    for (int c = channels.begin; c < channels.end; c += Tile::CHANNELS) {
#pragma unroll 1
      for (int s = 0; s < 3; ++s) {
        const uint32_t full = smem + Tile::PIXELS_FULL_AT + 8 * at.stage;
        const uint32_t to = smem + Tile::PIXELS_AT + at.stage * Tile::PIXEL_BYTES;
        // @pixels_empty
        ptx::mbarrier_wait(smem + Tile::PIXELS_EMPTY_AT + 8 * at.stage, at.phase ^ 1);
        ptx::mbarrier_arrive_expect_tx(full, Tile::PIXEL_BYTES);  // @pixels_expect
#pragma unroll
        for (int i = 0; i < Tile::CONSUMERS; ++i) {
          // @load_pixels
          ptx::tma_load_4d(to + i * Tile::BOX_BYTES, &p.x, full, c, coord[i].x + s - 1,
                           coord[i].y - 1, coord[i].n);
        }
        at.advance();
      }
    }
  }
}

// acc = the coord's pixels times BLOCK_N filters, over all of GEMM_K.
template <class T, class Tile>
__device__ __forceinline__ void multiply(float (&acc)[Tile::M_TILES][Tile::BLOCK_N / 2],
                                         PipelineState<Tile::PIXEL_STAGES>& pixels,
                                         PipelineState<Tile::FILTER_STAGES>& filters, uint32_t smem,
                                         int consumer, int chunks) {
  constexpr int UNIT = 16;  // bytes, of addresses in descriptors
  const uint32_t a_low =
      ptx::wgmma_descriptor_low(smem + Tile::PIXELS_AT + consumer * Tile::BOX_BYTES);
  const uint32_t b_low = ptx::wgmma_descriptor_low(smem + Tile::FILTERS_AT);
  const ConsumerRelease<Tile> release(smem);
  uint32_t pixels_before = 0, filters_before = 0;
#pragma unroll 1
  for (int step = 0; step < 3 * chunks; ++step) {  // a column of the filter, of 64 channels
    // @pixels_full
    ptx::mbarrier_wait(smem + Tile::PIXELS_FULL_AT + 8 * pixels.stage, pixels.phase);
#pragma unroll
    for (int r = 0; r < 3; ++r) {
      // @tap_start
      const uint32_t a = a_low + (pixels.stage * Tile::PIXEL_BYTES + r * Tile::LINE_BYTES) / UNIT;
      const uint32_t b = b_low + filters.stage * (Tile::FILTER_BYTES / UNIT);
      // @filters_full
      ptx::mbarrier_wait(smem + Tile::FILTERS_FULL_AT + 8 * filters.stage, filters.phase);
      ptx::wgmma_fence();  // @wgmma_fence
#pragma unroll
      for (int k = 0; k < 4; ++k) {  // 16 channels are 32 bytes
#pragma unroll
        for (int m = 0; m < Tile::M_TILES; ++m) {
          // @wgmma
          ptx::wgmma<T>(acc[m],
                        ptx::wgmma_descriptor<Tile::LINE_BYTES>(
                            a + m * (8 * Tile::LINE_BYTES / UNIT) + 2 * k),
                        ptx::wgmma_descriptor<8 * Tile::ROW_BYTES>(b + 2 * k), step | r | k);
        }
      }
      ptx::wgmma_commit();  // @wgmma_commit
      if (r > 0 || step > 0) {
        ptx::wgmma_wait<1>();             // @tap_before: all but this tap's products are complete
        release.filters(filters_before);  // @release_filters
        if (r == 0) release.pixels(pixels_before);  // @release_pixels
      }
      filters_before = filters.stage;
      pixels_before = pixels.stage;
      filters.advance();
    }
    pixels.advance();  // @next_pixels
  }
  ptx::wgmma_wait<0>();  // @last_tap
#pragma unroll
  for (int m = 0; m < Tile::M_TILES; ++m) ptx::wgmma_read(acc[m]);
  release.filters(filters_before);  // @release_last_filters
  release.pixels(pixels_before);    // @release_last_pixels
}

template <class T>
__device__ __forceinline__ uint32_t greater(uint32_t a, uint32_t b) {
  using Two = smxx::Pack<T, 2>;
  const Two max = smxx::max_nan(reinterpret_cast<const Two&>(a), reinterpret_cast<const Two&>(b));
  return reinterpret_cast<const uint32_t&>(max);
}

// 64 pixels (8 x 8) by 64 channels of the sums -> [64][64] at `to_smem`, pooled [16][64]; chunks of
// 16 bytes are swizzled as tensor maps say. v[4 j + 2 h + e] is pixel (2 warp_id + h, lane_id / 4),
// channel 8 j + lane_id % 4 * 2 + e.
template <class T, bool POOL>
__device__ __forceinline__ void write_epilogue_subtile(const float* v, const float* bias,
                                                       float relu_floor, uint32_t to_smem) {
  constexpr int ROW_BYTES = 128;
  const int lane_id = threadIdx.x % 32, warp_id = threadIdx.x / 32 % 4;
  const float2* biases = reinterpret_cast<const float2*>(bias) + lane_id % 4;
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
    // max(relu(v + bias)) = relu(max(v) + bias), and rounding keeps the order: lines are pooled in
    // float32, columns, which neighbouring lanes hold, after packing. Lanes of even columns keep
    // channels 8 j, those of odd ones 8 (j + 4), so that one shuffle serves both.
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
    // Row i of matrix j is lane 4 i .. 4 i + 3's: window i / 2, channels 8 j or 8 (j + 4).
    const int pixel = 4 * warp_id + lane_id % 8 / 2;
    ptx::stmatrix_x4(row(pixel, lane_id / 8 + lane_id % 2 * 4), pooled[0], pooled[1], pooled[2],
                     pooled[3]);
  }
}

// The sums of a coord, piece by piece: written to shared memory, which one thread copies to y while
// the next piece is written.
template <class T, class Tile>
__device__ __forceinline__ void write_slab(const HaloParams& p,
                                           const float (&acc)[Tile::M_TILES][Tile::BLOCK_N / 2],
                                           int k0, const TileCoord& coord, uint32_t smem,
                                           int consumer, bool is_store_leader) {
  constexpr int DOWN = Tile::POOL ? 2 : 1, COLUMNS = Tile::BLOCK_N / Tile::CHANNELS;
  const float relu_floor = p.relu ? 0.0f : -CUDART_INF_F;
  const uint32_t out = smem + Tile::OUT_AT + consumer * Tile::SUBTILE_BUFFERS * Tile::SUBTILE_BYTES;
#pragma unroll
  for (int subtile = 0; subtile < Tile::M_TILES * COLUMNS; ++subtile) {
    const int m = subtile / COLUMNS, c = subtile % COLUMNS * Tile::CHANNELS;
    const uint32_t buffer = out + subtile % Tile::SUBTILE_BUFFERS * Tile::SUBTILE_BYTES;
    // @buffer_free
    if (is_store_leader)
      ptx::bulk_wait_read<Tile::SUBTILE_BUFFERS - 1>();  // what left the buffer last is gone
    ptx::named_barrier(1 + consumer, 128);               // @before_results
    write_epilogue_subtile<T, Tile::POOL>(acc[m] + c / 2, p.bias + k0 + c, relu_floor,
                                          buffer);  // @write_results
    ptx::fence_proxy_async();                       // @results_fence
    ptx::named_barrier(1 + consumer, 128);          // @results_written
    if (is_store_leader) {
      // @store_results
      ptx::tma_store_4d(&p.y, buffer, k0 + c, coord.x / DOWN, (coord.y + 8 * m) / DOWN, coord.n);
      ptx::bulk_commit();  // @commit_store
    }
  }
}

// The sums of a coord, those of its pixels that there are: an access is eight pixels, eight
// channels.
template <class Tile>
__device__ __forceinline__ void write_sums(const HaloParams& p,
                                           const float (&acc)[Tile::M_TILES][Tile::BLOCK_N / 2],
                                           int k0, const TileCoord& coord) {
  const int lane_id = threadIdx.x % 32, warp_id = threadIdx.x / 32 % 4, x = coord.x + lane_id / 4;
  const int image = static_cast<int>(blockIdx.y) * p.N + coord.n;  // @split_image
#pragma unroll
  for (int m = 0; m < Tile::M_TILES; ++m) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int y = coord.y + 8 * m + 2 * warp_id + h;
      if (coord.n >= p.N || y >= p.H || x >= p.W) continue;  // @inside_image
      const int64_t pixel = (static_cast<int64_t>(image) * p.H + y) * p.W + x;
      float* to = p.partial + pixel * p.K + k0 + lane_id % 4 * 2;
#pragma unroll
      for (int j = 0; j < Tile::BLOCK_N / 8; ++j) {
        const float* v = acc[m] + 4 * j + 2 * h;
        *reinterpret_cast<float2*>(to + 8 * j) = make_float2(v[0], v[1]);  // @store_sums
      }
    }
  }
}

// A consumer's part: its coord of every unit. `is_store_leader`: is it the thread that copies
// results?
template <class T, class Tile>
__device__ __forceinline__ void consume(const HaloParams& p, uint32_t smem, int consumer,
                                        bool is_store_leader) {
  const Channels channels = Channels::of<Tile>(p);
  const int chunks = (channels.end - channels.begin) / Tile::CHANNELS;
  PipelineState<Tile::PIXEL_STAGES> pixels;
  PipelineState<Tile::FILTER_STAGES> filters;
#pragma unroll 1
  for (int unit = blockIdx.x / Tile::CLUSTER; unit < p.units; unit += gridDim.x / Tile::CLUSTER) {
    const Work work = Work::of<Tile>(p, unit);
    float acc[Tile::M_TILES][Tile::BLOCK_N / 2];
    multiply<T, Tile>(acc, pixels, filters, smem, consumer, chunks);
    const TileCoord coord = TileCoord::of<Tile>(p, work, consumer);
    if constexpr (Tile::SPLIT) {
      write_sums<Tile>(p, acc, work.k0, coord);
    } else {
      write_slab<T, Tile>(p, acc, work.k0, coord, smem, consumer, is_store_leader);
    }
  }
  if (is_store_leader)
    ptx::bulk_wait_read<0>();  // @stores_read: shared memory outlives the last copies
}

template <class T, class Tile>
__device__ __forceinline__ void halo_convolution(const HaloParams& p) {
  extern __shared__ __align__(1024) unsigned char dynamic_smem[];
  const uint32_t smem = ptx::shared_address(dynamic_smem);
  const int warp_id = __shfl_sync(0xffffffffu, threadIdx.x / 32, 0);  // known to be the warp's
  const int warpgroup_id = warp_id / 4;
  ptx::griddepcontrol_launch_dependents();
  make_barriers<Tile>(smem);  // @first_sync
  // 128 (40 + 2 * 232) registers are 64 K less 512: all there are.
  if (warpgroup_id == Tile::CONSUMERS) {
    ptx::decrease_registers<40>();  // @decrease_registers
    if (warp_id == 4 * Tile::CONSUMERS && ptx::elect_one()) load_pixels<Tile>(p, smem);
    if (warp_id == 4 * Tile::CONSUMERS + 1 && ptx::elect_one()) load_filters<Tile>(p, smem);
    __syncwarp();
  } else {
    ptx::increase_registers<232>();
    consume<T, Tile>(p, smem, warpgroup_id, warp_id % 4 == 0 && ptx::elect_one());
  }
  cluster_exit_sync<Tile>();  // @last_sync
}

}  // namespace vgg::sm90
