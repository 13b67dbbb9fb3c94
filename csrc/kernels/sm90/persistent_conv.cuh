// y = relu(pool(conv(x, w)) + bias) for GPUs of sm_90a: 3x3, stride 1, padding 1; or float32 sums
// over a part of C, which kernels/sm80/reduce.cu adds. x is [N, H, W, C] with C a multiple of 64, w
// [K, 9 C] with K a multiple of BLOCK_N.
//
// Blocks are persistent and specialised. Warp 0 of the last warpgroup copies pixels, warp 1
// filters, through two rings in shared memory; the other two warpgroups, the consumers, multiply
// and write. GEMM_K is walked by 64 channels, columns of the filter, rows of the filter. Pixels
// outside the image arrive as zeros: the padding.
//
// A block, or the two blocks of a cluster (Tile::CLUSTER), take one unit of work after the other:
// BLOCK_N channels of a tile of pixels each. Blocks of a cluster have the same channels: each
// copies its share of a stage of filters to all, and refills a stage when the consumers of all
// blocks have released it. All other shared memory is used by its own block alone.
//
// Loop invariant of a consumer: when a tap starts, only the products of the previous tap may be in
// flight. The consumer starts the products of the tap, waits until the previous tap's are complete,
// and releases the stages that only the previous tap still read.
//
// Comments such as @pixels_full tag lines where tests/support/mutants/ plants faults.
//
// halo.cuh and swap_ab.cuh have the policies, which place pixels and filters. A Policy has
//
//   T, Tile                     the dtype; the sizes and counts of halo_tile.h or swap_ab_tile.h
//   coord(p, work, i)           the pixels of box i of a stage, of Tile::STAGE_BOXES
//   load(p, coord, c, part, …)  copies that box of 64 channels from c on, the part-th of its chunk
//   operands(…, tap, a, b)      the two descriptors of a tap in given stages of pixels and filters
//   writes_sums(p)              whether sums are written instead of y, by write_sums(acc)
//   Prefetch(p, work)           what is read from global memory before the products start
//   Policy(p, work, consumer, prefetch)  the epilogue of one unit:
//     write_subtile(…), store_subtile(…)  one part of y: to shared memory, and from there to y

#pragma once

#include <math_constants.h>

#include <cstddef>
#include <cstdint>

#include "kernels/fast_divmod.cuh"
#include "kernels/params.h"
#include "kernels/sm90/accumulator.cuh"
#include "kernels/sm90/conv_storage.h"
#include "kernels/sm90/debug_waits.cuh"
#include "kernels/sm90/ring.cuh"
#include "kernels/sm90/sync.cuh"
#include "ptx/cp_async.cuh"
#include "ptx/griddepcontrol.cuh"
#include "ptx/mbarrier.cuh"
#include "ptx/tma.cuh"
#include "ptx/warpgroup.cuh"
#include "ptx/wgmma.cuh"

namespace vgg::sm90 {

// The first pixel of a tile, and its image or the first of its images. Beyond the last image
// everything is outside.
struct TileCoord {
  int x, y, n;
};

// This block's number in its cluster. The compiler knows that blockIdx is the same for all threads,
// which it does not know of %cluster_ctarank.
template <class Tile>
__device__ __forceinline__ uint32_t cluster_rank() {
  return blockIdx.x % Tile::CLUSTER;
}

// This block's part of a unit of work: its first channel and its tile of pixels, which may lie
// beyond the last. Blocks that run at the same time have the same pixels and different channels:
// they share x in the L2 cache.
struct Work {
  int k0, tile;

  template <class Tile>
  __device__ __forceinline__ static Work of(const ConvParams& p, int unit) {
    int n_tile;
    const int group = divide(unit, p.n_tiles, n_tile);
    const int tile =
        group * Tile::CLUSTER + static_cast<int>(cluster_rank<Tile>());  // @tile_of_block
    return {n_tile * Tile::BLOCK_N, tile};
  }
};

// The channels of x that this block walks.
struct Channels {
  int begin, end;

  template <class Tile>
  __device__ __forceinline__ static Channels of(const ConvParams& p) {
    if constexpr (Tile::SPLIT) {
      const int begin = static_cast<int>(blockIdx.y) * p.split_channels;  // @split_begin
      return {begin, min(begin + p.split_channels, p.C)};                 // @split_end
    } else {
      return {0, p.C};
    }
  }
};

template <class Tile>
using PixelRing = Ring<Tile::PIXEL_STAGES>;
template <class Tile>
using FilterRing = Ring<Tile::FILTER_STAGES, Tile::CLUSTER>;

// `kernel`: name of the kernel, for reports of waits.
template <class Tile>
__device__ __forceinline__ Waiter waiter(uint32_t smem, const char* kernel) {
  return {kernel, smem, smem + uint32_t{offsetof(ConvStorage<Tile>, launches_ended)}};
}
template <class Tile>
__device__ __forceinline__ PixelRing<Tile> pixel_ring(uint32_t smem, const char* kernel) {
  return PixelRing<Tile>(waiter<Tile>(smem, kernel), "pixels",
                         smem + offsetof(ConvStorage<Tile>, pixel_barriers));
}
template <class Tile>
__device__ __forceinline__ FilterRing<Tile> filter_ring(uint32_t smem, const char* kernel) {
  return FilterRing<Tile>(waiter<Tile>(smem, kernel), "filters",
                          smem + offsetof(ConvStorage<Tile>, filter_barriers));
}

// For all threads. No block copies to another before the barriers of both are made. Tensor maps are
// fetched meanwhile.
template <class Policy>
__device__ __forceinline__ void make_barriers(const ConvParams& p, uint32_t smem,
                                              const char* kernel) {
  using Tile = typename Policy::Tile;
  constexpr int WARPS = 4 * Tile::CONSUMERS;
  if (threadIdx.x == 0) {
    ptx::prefetch_tensor_map(&p.w);  // @prefetch_maps
    ptx::prefetch_tensor_map(&p.x);
    if (!Policy::writes_sums(p)) ptx::prefetch_tensor_map(&p.y);     // @prefetch_y
    pixel_ring<Tile>(smem, kernel).init(1, WARPS);                   // @pixels_arrivals
    filter_ring<Tile>(smem, kernel).init(1, WARPS * Tile::CLUSTER);  // @filters_arrivals
    make_launches_ended(smem + offsetof(ConvStorage<Tile>, launches_ended));
    ptx::fence_mbarrier_init();  // @barriers_made
  }
  mbarriers_sync<Tile::CLUSTER>();
}

// The producer of pixels, one thread: STAGE_BOXES boxes of 64 channels at a time.
template <class Policy>
__device__ __forceinline__ void load_pixels(const ConvParams& p, uint32_t smem,
                                            const char* kernel) {
  using Tile = typename Policy::Tile;
  const Channels channels = Channels::of<Tile>(p);
  PixelRing<Tile> ring = pixel_ring<Tile>(smem, kernel);
  // @launches_wait: filters and bias are loaded before
  wait_for_launches(smem + offsetof(ConvStorage<Tile>, launches_ended));
#pragma unroll 1
  for (int unit = blockIdx.x / Tile::CLUSTER; unit < p.units; unit += gridDim.x / Tile::CLUSTER) {
    const Work work = Work::of<Tile>(p, unit);
    TileCoord coord[Tile::STAGE_BOXES];
#pragma unroll
    for (int i = 0; i < Tile::STAGE_BOXES; ++i) coord[i] = Policy::coord(p, work, i);
#pragma unroll 1
    for (int c = channels.begin; c < channels.end; c += Tile::CHANNELS) {
#pragma unroll 1
      for (int part = 0; part < Tile::CHUNK_STAGES; ++part) {
        const uint32_t full = ring.full_barrier();
        ring.wait_empty();                           // @pixels_empty
        ring.expect_bytes(Tile::PIXEL_STAGE_BYTES);  // @pixels_expect
        const uint32_t to =
            smem + offsetof(ConvStorage<Tile>, pixels) + ring.stage() * Tile::PIXEL_STAGE_BYTES;
#pragma unroll
        for (int i = 0; i < Tile::STAGE_BOXES; ++i) {
          Policy::load(p, coord[i], c, part, to + i * Tile::BOX_BYTES, full);  // @load_pixels
        }
        ring.advance();
      }
    }
  }
}

// The producer of filters, one thread: one tap of 64 channels for BLOCK_N filters at a time; by
// channels, columns, rows of the filter.
template <class Tile>
__device__ __forceinline__ void load_filters(const ConvParams& p, uint32_t smem,
                                             const char* kernel) {
  constexpr int SHARE = Tile::BLOCK_N / Tile::CLUSTER;
  const Channels channels = Channels::of<Tile>(p);
  FilterRing<Tile> ring = filter_ring<Tile>(smem, kernel);
#pragma unroll 1
  for (int unit = blockIdx.x / Tile::CLUSTER; unit < p.units; unit += gridDim.x / Tile::CLUSTER) {
    const int first = Work::of<Tile>(p, unit).k0 + cluster_rank<Tile>() * SHARE;  // @filters_share
#pragma unroll 1
    for (int c = channels.begin; c < channels.end; c += Tile::CHANNELS) {
#pragma unroll 1
      for (int s = 0; s < 3; ++s) {
#pragma unroll 1
        for (int r = 0; r < 3; ++r) {
          const uint32_t full = ring.full_barrier();
          const uint32_t to = smem + offsetof(ConvStorage<Tile>, filters) +
                              ring.stage() * Tile::FILTER_STAGE_BYTES +
                              cluster_rank<Tile>() * SHARE * Tile::ROW_BYTES;
          const int column = (3 * r + s) * p.C + c;     // @filter_column
          ring.wait_empty();                            // @filters_empty
          ring.expect_bytes(Tile::FILTER_STAGE_BYTES);  // @filters_expect: the shares of all blocks
          if constexpr (Tile::CLUSTER == 1) {
            ptx::tma_load_2d(to, &p.w, full, column, first);  // @load_filters
          } else {
            // @multicast
            ptx::tma_load_2d_multicast(to, &p.w, full, column, first, (1 << Tile::CLUSTER) - 1);
          }
          ring.advance();
        }
      }
    }
  }
  if constexpr (Tile::CLUSTER > 1) {
    // Consumers of the other block arrive at this block's barriers: its shared memory lives until
    // they have released all stages, and so have received this block's copies. The block's own
    // consumers wait for everything else that others send.
#pragma unroll 1
    for (int i = 0; i < Tile::FILTER_STAGES; ++i) {  // @last_stages
      ring.wait_empty();                             // @last_releases
      ring.advance();
    }
  }
}

// acc = A times B over `chunks` of 64 channels; Tile::STEP_TAPS taps, and the STEP_STAGES stages of
// pixels that they read, make one step.
template <class Policy>
__device__ __forceinline__ void multiply(float (&acc)[Policy::Tile::M_TILES][Policy::Tile::SUMS],
                                         PixelRing<typename Policy::Tile>& pixels,
                                         FilterRing<typename Policy::Tile>& filters, uint32_t smem,
                                         int consumer, int chunks) {
  using Tile = typename Policy::Tile;
  constexpr int TAPS = Tile::STEP_TAPS, STAGES = Tile::STEP_STAGES, DESCRIPTOR_UNIT = 16,
                PERIOD = 1024;
  uint32_t pixels_before = 0, filters_before = 0;
#pragma unroll 1
  for (int step = 0; step < 9 / TAPS * chunks; ++step) {
    uint32_t stage[STAGES];
#pragma unroll
    for (int tap = 0; tap < TAPS; ++tap) {
      if (tap < STAGES) {
        pixels.wait_full();  // @pixels_full
        stage[tap] = pixels.stage();
        if constexpr (STAGES > 1) pixels.advance();  // @next_pixels
      }
      uint32_t a, b;
      Policy::operands(smem, consumer, stage[tap % STAGES], filters.stage(), tap, a, b);
      filters.wait_full();  // @filters_full
      ptx::wgmma_fence();   // @wgmma_fence
#pragma unroll
      for (int k = 0; k < 4; ++k) {  // 16 channels are 32 bytes: 2 units of an address
#pragma unroll
        for (int m = 0; m < Tile::M_TILES; ++m) {
          // @wgmma: 64 rows of A are 8 periods; the first product overwrites acc
          ptx::wgmma<typename Policy::T>(
              acc[m], ptx::wgmma_descriptor<PERIOD>(a + m * (8 * PERIOD / DESCRIPTOR_UNIT) + 2 * k),
              ptx::wgmma_descriptor<PERIOD>(b + 2 * k), step | tap | k);
        }
      }
      ptx::wgmma_commit();  // @wgmma_commit
      if (tap > 0 || step > 0) {
        ptx::wgmma_wait<1>();  // @tap_before: the products of all taps but this one are complete
        filters.release(filters_before);  // @release_filters
        // The previous tap is the last reader of its stage if it is one of a step's last STAGES.
        if ((tap + TAPS - 1) % TAPS >= TAPS - STAGES)
          pixels.release(pixels_before);  // @release_pixels
      }
      filters_before = filters.stage();
      pixels_before = stage[tap % STAGES];
      filters.advance();
    }
    if constexpr (STAGES == 1) pixels.advance();  // @next_pixels
  }
  ptx::wgmma_wait<0>();  // @last_tap
#pragma unroll
  for (int m = 0; m < Tile::M_TILES; ++m) ptx::wgmma_read(acc[m]);
  filters.release(filters_before);  // @release_last_filters
  pixels.release(pixels_before);    // @release_last_pixels
}

// The sums of a tile, subtile by subtile: written to shared memory, which one thread copies to y
// while the next subtile is written.
template <class Policy>
__device__ __forceinline__ void write_results(
    const Policy& policy, const float (&acc)[Policy::Tile::M_TILES][Policy::Tile::SUMS], int relu,
    uint32_t smem, int consumer, bool is_store_leader) {
  using Tile = typename Policy::Tile;
  constexpr int BUFFERS = Tile::SUBTILE_BUFFERS;
  const float relu_floor = relu ? 0.0f : -CUDART_INF_F;
  const uint32_t out =
      smem + offsetof(ConvStorage<Tile>, out) + consumer * BUFFERS * Tile::SUBTILE_BYTES;
#pragma unroll
  for (int subtile = 0; subtile < Tile::TILE_SUBTILES; ++subtile) {
    const uint32_t buffer = out + subtile % BUFFERS * Tile::SUBTILE_BYTES;
    if (is_store_leader) {
      ptx::bulk_wait_read<BUFFERS - 1>();  // @buffer_free: its last copy has read it
    }
    ptx::named_barrier(consumer_barrier(consumer), 128);     // @before_results
    policy.write_subtile(acc, subtile, relu_floor, buffer);  // @write_results
    ptx::fence_proxy_async();                                // @results_fence
    ptx::named_barrier(consumer_barrier(consumer), 128);     // @results_written
    if (is_store_leader) {
      policy.store_subtile(subtile, buffer);  // @store_results
      ptx::bulk_commit();                     // @commit_store
    }
  }
}

// A consumer's part of every unit. `is_store_leader`: whether this thread copies the results.
template <class Policy>
__device__ __forceinline__ void consume(const ConvParams& p, uint32_t smem, const char* kernel,
                                        int consumer, bool is_store_leader) {
  using Tile = typename Policy::Tile;
  const Channels channels = Channels::of<Tile>(p);
  const int chunks = (channels.end - channels.begin) / Tile::CHANNELS;
  PixelRing<Tile> pixels = pixel_ring<Tile>(smem, kernel);
  FilterRing<Tile> filters = filter_ring<Tile>(smem, kernel);
#pragma unroll 1
  for (int unit = blockIdx.x / Tile::CLUSTER; unit < p.units; unit += gridDim.x / Tile::CLUSTER) {
    const Work work = Work::of<Tile>(p, unit);
    const typename Policy::Prefetch prefetch(p, work);
    float acc[Tile::M_TILES][Tile::SUMS];
    multiply<Policy>(acc, pixels, filters, smem, consumer, chunks);
    const Policy policy(p, work, consumer, prefetch);
    if (Policy::writes_sums(p)) {
      policy.write_sums(acc);
    } else {
      write_results(policy, acc, p.relu, smem, consumer, is_store_leader);
    }
  }
  if (is_store_leader) {
    ptx::bulk_wait_read<0>();  // @stores_read: shared memory outlives the last copies
  }
}

template <class Policy>
__device__ __forceinline__ void persistent_conv(const ConvParams& p, const char* kernel) {
  using Tile = typename Policy::Tile;
  extern __shared__ __align__(1024) unsigned char dynamic_smem[];  // ConvStorage<Tile>
  const uint32_t smem = ptx::shared_address(dynamic_smem);
  // The shuffle tells the compiler that all lanes of a warp have the same value.
  const int warp_id = __shfl_sync(0xffffffffu, threadIdx.x / 32, 0);
  const int warpgroup_id = warp_id / 4;
  ptx::griddepcontrol_launch_dependents();
  make_barriers<Policy>(p, smem, kernel);  // @first_sync
  // 128 (40 + 2 * 232) registers are the 384 * 168 of the launch.
  if (warpgroup_id == Tile::CONSUMERS) {
    ptx::decrease_registers<40>();  // @decrease_registers
    if (warp_id == 4 * Tile::CONSUMERS && ptx::elect_one()) load_pixels<Policy>(p, smem, kernel);
    if (warp_id == 4 * Tile::CONSUMERS + 1 && ptx::elect_one()) load_filters<Tile>(p, smem, kernel);
  } else {
    ptx::increase_registers<232>();
    consume<Policy>(p, smem, kernel, warpgroup_id, warp_id % 4 == 0 && ptx::elect_one());
  }
}

}  // namespace vgg::sm90
