// y = relu(pool(conv(x, w)) + bias) for GPUs of sm_90a, or float32 sums over a part of C: as
// halo.cuh, for images that slabs of 8x8 pixels do not fit: 28x28, 14x14.
//
// The operands are swapped: channels of y are wgmma's M, pixels its N. Blocks are persistent and
// specialised. Warp 0 of the last warpgroup copies pixels, warp 1 filters, through two rings in
// shared memory; the other two warpgroups multiply, each 64 channels by all pixels of the tile, and
// write. GEMM_K is walked by 64 channels, columns of the filter, rows of the filter. The pixel
// operand's groups of eight rows are one pixel of eight images: a box of neighbouring pixels serves
// all taps, tap (r, s) starts r lines and s groups further. Pixels outside the image arrive as
// zeros: the padding.
//
// Loop invariant of a consumer: one tap's products are in flight at most, and a stage is given back
// when the products of the tap behind it have been started and its own are known to be complete.
//
// x is [N, H, W, C] with C a multiple of 64, w [K, 9 C] with K a multiple of 128.

#pragma once

#include <math_constants.h>

#include "kernels/fast_divmod.cuh"
#include "kernels/params.h"
#include "kernels/sm90/pipeline.cuh"
#include "kernels/sm90/swap_ab_tile.h"
#include "kernels/smxx/element.cuh"
#include "ptx/cp_async.cuh"
#include "ptx/griddepcontrol.cuh"
#include "ptx/mbarrier.cuh"
#include "ptx/tma.cuh"
#include "ptx/warpgroup.cuh"
#include "ptx/wgmma.cuh"

namespace vgg::sm90 {

// The first pixel of a tile and the first of its images; beyond the last everything is outside.
struct TileCoord {
  int x, y, n;

  template <class Tile>
  __device__ __forceinline__ static TileCoord of(const SwapAbParams& p, int tile) {
    int column, line;
    const int n = divide(divide(tile, p.tiles_w, column), p.tiles_h, line);
    return {column * Tile::TILE_W, line * Tile::TILE_H, n * Tile::IMAGES};
  }
};

// The producer of pixels: for every 64 channels a box, or one for each row of the filter.
template <class Tile>
__device__ __forceinline__ void load_pixels(const SwapAbParams& p, uint32_t smem) {
  const Channels channels = Channels::of<Tile>(p);
  PipelineState<Tile::PIXEL_STAGES> at;
  ptx::griddepcontrol_wait();  // @launches_wait: filters, and the bias, are loaded before
#pragma unroll 1
  for (int unit = blockIdx.x / Tile::CLUSTER; unit < p.units; unit += gridDim.x / Tile::CLUSTER) {
    const Work work = Work::of<Tile>(p, unit);
    const TileCoord coord = TileCoord::of<Tile>(p, work.tile);
#pragma unroll 1
    for (int c = channels.begin; c < channels.end; c += Tile::CHANNELS) {
#pragma unroll 1
      for (int r = 0; r < Tile::BOXES; ++r) {
        const uint32_t full = smem + Tile::PIXELS_FULL_AT + 8 * at.stage;
        // @pixels_empty
        ptx::mbarrier_wait(smem + Tile::PIXELS_EMPTY_AT + 8 * at.stage, at.phase ^ 1);
        ptx::mbarrier_arrive_expect_tx(full, Tile::PIXEL_BYTES);
        // @load_pixels
        ptx::tma_load_4d(smem + Tile::PIXELS_AT + at.stage * Tile::PIXEL_BYTES, &p.x, full, c,
                         coord.n, coord.x - 1, coord.y + r - 1);
        at.advance();
      }
    }
  }
}

// acc = 64 filters times the tile's pixels, over `chunks` of 64 channels.
template <class T, class Tile>
__device__ __forceinline__ void multiply(float (&acc)[Tile::SUMS],
                                         PipelineState<Tile::PIXEL_STAGES>& pixels,
                                         PipelineState<Tile::FILTER_STAGES>& filters, uint32_t smem,
                                         int consumer, int chunks) {
  constexpr int UNIT = 16;  // bytes, of addresses in descriptors
  constexpr int TAPS = 9;
  const uint32_t a_low = ptx::wgmma_descriptor_low(smem + Tile::FILTERS_AT +
                                                   consumer * Tile::CHANNELS * Tile::ROW_BYTES);
  const uint32_t b_low = ptx::wgmma_descriptor_low(smem + Tile::PIXELS_AT);
  const ConsumerRelease<Tile> release(smem);
  uint32_t pixels_before = 0, filters_before = 0;
#pragma unroll 1
  for (int step = 0; step < chunks; ++step) {
    uint32_t stage[Tile::BOXES];
#pragma unroll
    for (int tap = 0; tap < TAPS; ++tap) {
      const int s = tap / 3, r = tap % 3, box = Tile::BOXES == 1 ? 0 : r;
      const int group = Tile::BOXES == 1 ? Tile::BOX_W * r + s : s;  // the tap's first, in the box
      if (tap < Tile::BOXES) {
        // @pixels_full
        ptx::mbarrier_wait(smem + Tile::PIXELS_FULL_AT + 8 * pixels.stage, pixels.phase);
        stage[box] = pixels.stage;
        pixels.advance();  // @next_pixels
      }
      const uint32_t a = a_low + filters.stage * (Tile::FILTER_BYTES / UNIT);
      const uint32_t b =
          // @tap_start
          b_low + stage[box] * (Tile::PIXEL_BYTES / UNIT) + group * (Tile::GROUP_BYTES / UNIT);
      // @filters_full
      ptx::mbarrier_wait(smem + Tile::FILTERS_FULL_AT + 8 * filters.stage, filters.phase);
      ptx::wgmma_fence();  // @wgmma_fence
#pragma unroll
      for (int k = 0; k < 4; ++k) {  // 16 channels are 32 bytes
        // @wgmma
        ptx::wgmma<T>(acc, ptx::wgmma_descriptor<8 * Tile::ROW_BYTES>(a + 2 * k),
                      ptx::wgmma_descriptor<Tile::GROUP_BYTES>(b + 2 * k), step | tap | k);
      }
      ptx::wgmma_commit();
      if (tap > 0 || step > 0) {
        ptx::wgmma_wait<1>();             // @tap_before: all but this tap's products are complete
        release.filters(filters_before);  // @release_filters
        // No tap behind the one before this reads its box.
        // @release_pixels
        if ((tap + TAPS - 1) % TAPS >= TAPS - Tile::BOXES) release.pixels(pixels_before);
      }
      filters_before = filters.stage;
      pixels_before = stage[box];
      filters.advance();
    }
  }
  ptx::wgmma_wait<0>();  // @last_tap
  ptx::wgmma_read(acc);
  release.filters(filters_before);  // @release_last_filters
  release.pixels(pixels_before);    // @release_last_pixels
}

// The sums of a pixel of eight images by 64 channels -> [8][64] at `to_smem`; chunks of 16 bytes
// are swizzled as tensor maps say. v[2 h + e] is channel 16 warp_id + 8 h + lane_id / 4, image
// lane_id % 4 * 2 + e: matrices of [channels, images], which are stored transposed.
template <class T>
__device__ __forceinline__ void write_group(const float (&v)[4], const float (&bias)[2],
                                            float relu_floor, uint32_t to_smem) {
  constexpr int ROW_BYTES = 128;
  const int lane_id = threadIdx.x % 32, warp_id = threadIdx.x / 32 % 4;
  const int image = lane_id % 8, chunk = 2 * warp_id + lane_id / 8 % 2;  // that this lane addresses
  ptx::stmatrix_x2_trans(to_smem + image * ROW_BYTES + ((chunk ^ image) << 4),
                         pair<T>(v[0], v[1], {bias[0], bias[0]}, relu_floor),
                         pair<T>(v[2], v[3], {bias[1], bias[1]}, relu_floor));
}

// The sums of a tile, piece by piece: written to shared memory, which one thread copies to y while
// the next piece is written.
template <class T, class Tile>
__device__ __forceinline__ void write_results(const SwapAbParams& p, const float (&acc)[Tile::SUMS],
                                              const float (&bias)[2], int k0,
                                              const TileCoord& coord, uint32_t smem, int consumer,
                                              bool is_store_leader) {
  constexpr int DOWN = Tile::POOL ? 2 : 1, COLUMNS = Tile::TILE_W / DOWN / Tile::SUBTILE_W;
  constexpr int LINE = 4 * Tile::BOX_W;  // sums from a pixel to the one below
  const float relu_floor = p.relu ? 0.0f : -CUDART_INF_F;
  const uint32_t out = smem + Tile::OUT_AT + consumer * Tile::SUBTILE_BUFFERS * Tile::SUBTILE_BYTES;
#pragma unroll
  for (int subtile = 0; subtile < Tile::TILE_SUBTILES; ++subtile) {
    const int y = subtile / COLUMNS, x = subtile % COLUMNS * Tile::SUBTILE_W;
    const uint32_t buffer = out + subtile % Tile::SUBTILE_BUFFERS * Tile::SUBTILE_BYTES;
    // @buffer_free
    if (is_store_leader)
      ptx::bulk_wait_read<Tile::SUBTILE_BUFFERS - 1>();  // what left the buffer last is gone
    ptx::named_barrier(1 + consumer, 128);
#pragma unroll
    for (int i = 0; i < Tile::SUBTILE_W; ++i) {
      const float* at = acc + y * LINE + 4 * DOWN * (x + i);
      float v[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        v[j] = at[j];
        // max(relu(v + bias)) = relu(max(v) + bias): windows are pooled in float32.
        if constexpr (Tile::POOL) {
          // @pool_window
          v[j] = smxx::max_nan(smxx::max_nan(at[j], at[j + 4]),
                               smxx::max_nan(at[j + LINE], at[j + LINE + 4]));
        }
      }
      write_group<T>(v, bias, relu_floor, buffer + i * Tile::GROUP_BYTES);  // @write_results
    }
    ptx::fence_proxy_async();               // @results_fence
    ptx::named_barrier(1 + consumer, 128);  // @results_written
    if (is_store_leader) {
      ptx::tma_store_4d(&p.y, buffer, k0, coord.n, coord.x / DOWN + x, coord.y / DOWN + y);
      ptx::bulk_commit();  // @commit_store
    }
  }
}

// The sums of a tile -> partial, eight neighbouring channels, a sector of 32 bytes, at a time.
template <class Tile>
__device__ __forceinline__ void write_sums(const SwapAbParams& p, const float (&acc)[Tile::SUMS],
                                           int k0, const TileCoord& coord) {
  const int lane_id = threadIdx.x % 32, warp_id = threadIdx.x / 32 % 4;
  const int channel = k0 + 16 * warp_id + lane_id / 4;
#pragma unroll
  for (int e = 0; e < 2; ++e) {
    const int n = coord.n + lane_id % 4 * 2 + e;
    if (n >= p.N) continue;                                            // @inside_batch
    const int64_t image = static_cast<int64_t>(blockIdx.y) * p.N + n;  // @split_image
#pragma unroll
    for (int y = 0; y < Tile::TILE_H; ++y) {
      if (coord.y + y >= p.H) continue;
      float* to = p.partial + ((image * p.H + coord.y + y) * p.W + coord.x) * p.K + channel;
#pragma unroll
      for (int x = 0; x < Tile::TILE_W; ++x, to += p.K) {
        if (coord.x + x >= p.W) continue;
        const float* v = acc + 4 * (Tile::BOX_W * y + x) + e;
        to[0] = v[0];
        to[8] = v[2];
      }
    }
  }
}

// A consumer's part: 64 channels of every unit. `is_store_leader`: is it the thread that copies
// results?
template <class T, class Tile>
__device__ __forceinline__ void consume(const SwapAbParams& p, uint32_t smem, int consumer,
                                        bool is_store_leader) {
  const Channels channels = Channels::of<Tile>(p);
  const int chunks = (channels.end - channels.begin) / Tile::CHANNELS;
  PipelineState<Tile::PIXEL_STAGES> pixels;
  PipelineState<Tile::FILTER_STAGES> filters;
  const int channel = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4;  // of the unit's
#pragma unroll 1
  for (int unit = blockIdx.x / Tile::CLUSTER; unit < p.units; unit += gridDim.x / Tile::CLUSTER) {
    const Work work = Work::of<Tile>(p, unit);
    const TileCoord coord = TileCoord::of<Tile>(p, work.tile);
    const float* biases = p.bias + work.k0 + channel;
    const float bias[2] = {biases[0], biases[8]};  // @bias_load
    float acc[Tile::SUMS];
    multiply<T, Tile>(acc, pixels, filters, smem, consumer, chunks);
    const int k0 = work.k0 + consumer * Tile::CHANNELS;
    if (Tile::SPLIT && p.partial != nullptr) {
      write_sums<Tile>(p, acc, k0, coord);
    } else {
      write_results<T, Tile>(p, acc, bias, k0, coord, smem, consumer, is_store_leader);
    }
  }
  if (is_store_leader)
    ptx::bulk_wait_read<0>();  // @stores_read: shared memory outlives the last copies
}

template <class T, class Tile>
__device__ __forceinline__ void swap_ab_convolution(const SwapAbParams& p) {
  extern __shared__ __align__(1024) unsigned char dynamic_smem[];
  const uint32_t smem = ptx::shared_address(dynamic_smem);
  const int warp_id = __shfl_sync(0xffffffffu, threadIdx.x / 32, 0);  // known to be the warp's
  const int warpgroup_id = warp_id / 4;
  ptx::griddepcontrol_launch_dependents();
  make_barriers<Tile>(smem);
  // 128 (40 + 2 * 232) registers are 64 K less 512: all there are.
  if (warpgroup_id == Tile::CONSUMERS) {
    ptx::decrease_registers<40>();
    if (warp_id == 4 * Tile::CONSUMERS && ptx::elect_one()) load_pixels<Tile>(p, smem);
    if (warp_id == 4 * Tile::CONSUMERS + 1 && ptx::elect_one()) load_filters<Tile>(p, smem);
    __syncwarp();
  } else {
    ptx::increase_registers<232>();
    consume<T, Tile>(p, smem, warpgroup_id, warp_id % 4 == 0 && ptx::elect_one());
  }
  cluster_exit_sync<Tile>();
}

}  // namespace vgg::sm90
