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
struct Corner {
  int x, y, n;

  template <class Tile>
  __device__ __forceinline__ static Corner of(const SwapAbParams& p, int tile) {
    int column, line;
    const int n = divide(divide(tile, p.tiles_w, column), p.tiles_h, line);
    return {column * Tile::TILE_W, line * Tile::TILE_H, n * Tile::IMAGES};
  }
};

// The producer of pixels: for every 64 channels a box, or one for each row of the filter.
template <class Tile>
__device__ __forceinline__ void load_pixels(const SwapAbParams& p, uint32_t smem) {
  const Channels channels = Channels::of<Tile>(p);
  Place<Tile::PIXEL_STAGES> at;
  ptx::griddepcontrol_wait();  // @launches_wait: filters, and the bias, are loaded before
#pragma unroll 1
  for (int unit = blockIdx.x / Tile::CLUSTER; unit < p.units; unit += gridDim.x / Tile::CLUSTER) {
    const Work work = Work::of<Tile>(p, unit);
    const Corner corner = Corner::of<Tile>(p, work.tile);
#pragma unroll 1
    for (int c = channels.begin; c < channels.end; c += Tile::CHANNELS) {
#pragma unroll 1
      for (int r = 0; r < Tile::BOXES; ++r) {
        const uint32_t full = smem + Tile::PIXELS_FULL_AT + 8 * at.stage;
        // @pixels_empty
        ptx::mbarrier_wait(smem + Tile::PIXELS_EMPTY_AT + 8 * at.stage, at.parity ^ 1);
        ptx::mbarrier_arrive_expect_tx(full, Tile::PIXEL_BYTES);
        // @load_pixels
        ptx::tma_load_4d(smem + Tile::PIXELS_AT + at.stage * Tile::PIXEL_BYTES, &p.x, full, c,
                         corner.n, corner.x - 1, corner.y + r - 1);
        at.advance();
      }
    }
  }
}

// acc = 64 filters times the tile's pixels, over `chunks` of 64 channels.
template <class T, class Tile>
__device__ __forceinline__ void multiply(float (&acc)[Tile::SUMS],
                                         Place<Tile::PIXEL_STAGES>& pixels,
                                         Place<Tile::FILTER_STAGES>& filters, uint32_t smem,
                                         int consumer, int chunks) {
  constexpr int UNIT = 16;  // bytes, of addresses in descriptors
  constexpr int TAPS = 9;
  const uint32_t a_low = ptx::wgmma_descriptor_low(smem + Tile::FILTERS_AT +
                                                   consumer * Tile::CHANNELS * Tile::ROW_BYTES);
  const uint32_t b_low = ptx::wgmma_descriptor_low(smem + Tile::PIXELS_AT);
  const GiveBack<Tile> give_back(smem);
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
        ptx::mbarrier_wait(smem + Tile::PIXELS_FULL_AT + 8 * pixels.stage, pixels.parity);
        stage[box] = pixels.stage;
        pixels.advance();  // @next_pixels
      }
      const uint32_t a = a_low + filters.stage * (Tile::FILTER_BYTES / UNIT);
      const uint32_t b =
          // @tap_start
          b_low + stage[box] * (Tile::PIXEL_BYTES / UNIT) + group * (Tile::GROUP_BYTES / UNIT);
      // @filters_full
      ptx::mbarrier_wait(smem + Tile::FILTERS_FULL_AT + 8 * filters.stage, filters.parity);
      ptx::wgmma_fence();  // @wgmma_fence
#pragma unroll
      for (int k = 0; k < 4; ++k) {  // 16 channels are 32 bytes
        // @wgmma
        ptx::wgmma<T>(acc, ptx::wgmma_descriptor<8 * Tile::ROW_BYTES>(a + 2 * k),
                      ptx::wgmma_descriptor<Tile::GROUP_BYTES>(b + 2 * k), step | tap | k);
      }
      ptx::wgmma_commit();
      if (tap > 0 || step > 0) {
        ptx::wgmma_wait<1>();               // @tap_before: all but this tap's products are complete
        give_back.filters(filters_before);  // @release_filters
        // No tap behind the one before this reads its box.
        // @release_pixels
        if ((tap + TAPS - 1) % TAPS >= TAPS - Tile::BOXES) give_back.pixels(pixels_before);
      }
      filters_before = filters.stage;
      pixels_before = stage[box];
      filters.advance();
    }
  }
  ptx::wgmma_wait<0>();  // @last_tap
  ptx::wgmma_read(acc);
  give_back.filters(filters_before);  // @release_last_filters
  give_back.pixels(pixels_before);    // @release_last_pixels
}

// The sums of a pixel of eight images by 64 channels -> [8][64] at `to_smem`; chunks of 16 bytes
// are swizzled as tensor maps say. v[2 h + e] is channel 16 warp + 8 h + lane / 4, image
// lane % 4 * 2 + e: matrices of [channels, images], which are stored transposed.
template <class T>
__device__ __forceinline__ void write_group(const float (&v)[4], const float (&bias)[2],
                                            float least, uint32_t to_smem) {
  constexpr int ROW_BYTES = 128;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32 % 4;
  const int image = lane % 8, chunk = 2 * warp + lane / 8 % 2;  // that this lane addresses
  ptx::stmatrix_x2_trans(to_smem + image * ROW_BYTES + ((chunk ^ image) << 4),
                         pair<T>(v[0], v[1], {bias[0], bias[0]}, least),
                         pair<T>(v[2], v[3], {bias[1], bias[1]}, least));
}

// The sums of a tile, piece by piece: written to shared memory, which one thread copies to y while
// the next piece is written.
template <class T, class Tile>
__device__ __forceinline__ void write_results(const SwapAbParams& p, const float (&acc)[Tile::SUMS],
                                              const float (&bias)[2], int k0, const Corner& corner,
                                              uint32_t smem, int consumer, bool leads) {
  constexpr int DOWN = Tile::POOL ? 2 : 1, COLUMNS = Tile::TILE_W / DOWN / Tile::PIECE_W;
  constexpr int LINE = 4 * Tile::BOX_W;  // sums from a pixel to the one below
  const float least = p.relu ? 0.0f : -CUDART_INF_F;
  const uint32_t out = smem + Tile::OUT_AT + consumer * Tile::PIECES * Tile::PIECE_BYTES;
#pragma unroll
  for (int piece = 0; piece < Tile::TILE_PIECES; ++piece) {
    const int y = piece / COLUMNS, x = piece % COLUMNS * Tile::PIECE_W;
    const uint32_t buffer = out + piece % Tile::PIECES * Tile::PIECE_BYTES;
    // @buffer_free
    if (leads) ptx::bulk_wait_read<Tile::PIECES - 1>();  // what left the buffer last is gone
    ptx::named_barrier(1 + consumer, 128);
#pragma unroll
    for (int i = 0; i < Tile::PIECE_W; ++i) {
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
      write_group<T>(v, bias, least, buffer + i * Tile::GROUP_BYTES);  // @write_results
    }
    ptx::fence_proxy_async();               // @results_fence
    ptx::named_barrier(1 + consumer, 128);  // @results_written
    if (leads) {
      ptx::tma_store_4d(&p.y, buffer, k0, corner.n, corner.x / DOWN + x, corner.y / DOWN + y);
      ptx::bulk_commit();  // @commit_store
    }
  }
}

// The sums of a tile -> partial, eight neighbouring channels, a sector of 32 bytes, at a time.
template <class Tile>
__device__ __forceinline__ void write_sums(const SwapAbParams& p, const float (&acc)[Tile::SUMS],
                                           int k0, const Corner& corner) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32 % 4;
  const int channel = k0 + 16 * warp + lane / 4;
#pragma unroll
  for (int e = 0; e < 2; ++e) {
    const int n = corner.n + lane % 4 * 2 + e;
    if (n >= p.N) continue;                                            // @inside_batch
    const int64_t image = static_cast<int64_t>(blockIdx.y) * p.N + n;  // @split_image
#pragma unroll
    for (int y = 0; y < Tile::TILE_H; ++y) {
      if (corner.y + y >= p.H) continue;
      float* to = p.partial + ((image * p.H + corner.y + y) * p.W + corner.x) * p.K + channel;
#pragma unroll
      for (int x = 0; x < Tile::TILE_W; ++x, to += p.K) {
        if (corner.x + x >= p.W) continue;
        const float* v = acc + 4 * (Tile::BOX_W * y + x) + e;
        to[0] = v[0];
        to[8] = v[2];
      }
    }
  }
}

// A consumer's part: 64 channels of every unit. `leads`: is it the thread that copies results?
template <class T, class Tile>
__device__ __forceinline__ void consume(const SwapAbParams& p, uint32_t smem, int consumer,
                                        bool leads) {
  const Channels channels = Channels::of<Tile>(p);
  const int chunks = (channels.end - channels.begin) / Tile::CHANNELS;
  Place<Tile::PIXEL_STAGES> pixels;
  Place<Tile::FILTER_STAGES> filters;
  const int channel = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4;  // of the unit's
#pragma unroll 1
  for (int unit = blockIdx.x / Tile::CLUSTER; unit < p.units; unit += gridDim.x / Tile::CLUSTER) {
    const Work work = Work::of<Tile>(p, unit);
    const Corner corner = Corner::of<Tile>(p, work.tile);
    const float* biases = p.bias + work.k0 + channel;
    const float bias[2] = {biases[0], biases[8]};  // @bias_load
    float acc[Tile::SUMS];
    multiply<T, Tile>(acc, pixels, filters, smem, consumer, chunks);
    const int k0 = work.k0 + consumer * Tile::CHANNELS;
    if (Tile::SPLIT && p.partial != nullptr) {
      write_sums<Tile>(p, acc, k0, corner);
    } else {
      write_results<T, Tile>(p, acc, bias, k0, corner, smem, consumer, leads);
    }
  }
  if (leads) ptx::bulk_wait_read<0>();  // @stores_read: shared memory outlives the last copies
}

template <class T, class Tile>
__device__ __forceinline__ void swap_ab_convolution(const SwapAbParams& p) {
  extern __shared__ __align__(1024) unsigned char dynamic_smem[];
  const uint32_t smem = ptx::shared_address(dynamic_smem);
  const int warp = __shfl_sync(0xffffffffu, threadIdx.x / 32, 0);  // known to be the warp's
  const int warpgroup = warp / 4;
  ptx::griddepcontrol_launch_dependents();
  make_barriers<Tile>(smem);
  // 128 (40 + 2 * 232) registers are 64 K less 512: all there are.
  if (warpgroup == Tile::CONSUMERS) {
    ptx::decrease_registers<40>();
    if (warp == 4 * Tile::CONSUMERS && ptx::elect_one()) load_pixels<Tile>(p, smem);
    if (warp == 4 * Tile::CONSUMERS + 1 && ptx::elect_one()) load_filters<Tile>(p, smem);
    __syncwarp();
  } else {
    ptx::increase_registers<232>();
    consume<T, Tile>(p, smem, warpgroup, warp % 4 == 0 && ptx::elect_one());
  }
  leave<Tile>();
}

}  // namespace vgg::sm90
