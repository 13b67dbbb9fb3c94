// What convolutions of Hopper share: units of work, rings of stages in shared memory, barriers, the
// producer of filters.
//
// A block, or the two blocks of a cluster (Tile::CLUSTER), take one unit after the other: BLOCK_N
// channels of a tile of pixels each. Blocks of a cluster have the same channels: each copies its
// share of a stage of filters to all, and refills a stage when the consumers of all have given it
// back. Everything else is a block's own.
//
// A Tile says CLUSTER, SPLIT, CONSUMERS, BLOCK_N, CHANNELS, ROW_BYTES, and of PIXEL and FILTER
// _STAGES, _BYTES, S_AT, S_FULL_AT and S_EMPTY_AT, where they and their barriers are in shared
// memory. Params have a map `w` of the filters, boxes of [BLOCK_N / CLUSTER, 64], C, units and
// n_tiles.

#pragma once

#include <cstdint>

#include "kernels/fast_divmod.cuh"
#include "kernels/sm90/ring.cuh"
#include "kernels/smxx/element.cuh"
#include "ptx/cluster.cuh"
#include "ptx/mbarrier.cuh"
#include "ptx/tma.cuh"

namespace vgg::sm90 {

// This block's number in its cluster, which the compiler knows to be the same for all threads: of
// %cluster_ctarank it does not.
template <class Tile>
__device__ __forceinline__ uint32_t rank() {
  return blockIdx.x % Tile::CLUSTER;
}

// This block's part of a unit of work: its first channel and its tile of pixels, which may lie
// beyond the last. Blocks that run at the same time have the same pixels and other channels: they
// share x in the L2 cache.
struct Work {
  int k0, tile;

  template <class Tile, class Params>
  __device__ __forceinline__ static Work of(const Params& p, int unit) {
    int n_tile;
    const int group = divide(unit, p.n_tiles, n_tile);
    // @tile_of_block
    return {n_tile * Tile::BLOCK_N, group * Tile::CLUSTER + static_cast<int>(rank<Tile>())};
  }
};

// The channels of x that this block walks.
struct Channels {
  int begin, end;

  template <class Tile, class Params>
  __device__ __forceinline__ static Channels of(const Params& p) {
    if constexpr (Tile::SPLIT) {
      const int begin = static_cast<int>(blockIdx.y) * p.split_channels;  // @split_begin
      return {begin, min(begin + p.split_channels, p.C)};                 // @split_end
    } else {
      return {0, p.C};
    }
  }
};

// Waits for all threads of the block, or of the cluster.
template <class Tile>
__device__ __forceinline__ void cluster_or_block_sync() {
  if constexpr (Tile::CLUSTER == 1) {
    __syncthreads();  // @block_sync
  } else {
    ptx::cluster_arrive();
    ptx::cluster_wait();
  }
}

// For all threads. Nobody copies to a block whose barriers are not made.
template <class Tile>
__device__ __forceinline__ void make_barriers(uint32_t smem) {
  constexpr int WARPS = 4 * Tile::CONSUMERS;
  if (threadIdx.x == 0) {
    for (int i = 0; i < Tile::PIXEL_STAGES; ++i) {
      ptx::mbarrier_init(smem + Tile::PIXELS_FULL_AT + 8 * i, 1);
      ptx::mbarrier_init(smem + Tile::PIXELS_EMPTY_AT + 8 * i, WARPS);  // @pixels_arrivals
    }
    for (int i = 0; i < Tile::FILTER_STAGES; ++i) {
      ptx::mbarrier_init(smem + Tile::FILTERS_FULL_AT + 8 * i, 1);
      // @filters_arrivals
      ptx::mbarrier_init(smem + Tile::FILTERS_EMPTY_AT + 8 * i, WARPS * Tile::CLUSTER);
    }
    ptx::fence_mbarrier_init();  // @barriers_made
  }
  cluster_or_block_sync<Tile>();
}

// For all threads, at the end: shared memory outlives what the other block still sends to it.
template <class Tile>
__device__ __forceinline__ void cluster_exit_sync() {
  if constexpr (Tile::CLUSTER > 1) {
    __syncwarp();  // single threads were at work
    cluster_or_block_sync<Tile>();
  }
}

// The producer of filters, one thread: one tap of 64 channels for BLOCK_N filters at a time; by
// channels, columns, rows of the filter.
template <class Tile, class Params>
__device__ __forceinline__ void load_filters(const Params& p, uint32_t smem) {
  constexpr int SHARE = Tile::BLOCK_N / Tile::CLUSTER;
  const Channels channels = Channels::of<Tile>(p);
  PipelineState<Tile::FILTER_STAGES> at;
#pragma unroll 1
  for (int unit = blockIdx.x / Tile::CLUSTER; unit < p.units; unit += gridDim.x / Tile::CLUSTER) {
    const int first = Work::of<Tile>(p, unit).k0 + rank<Tile>() * SHARE;  // @filters_share
#pragma unroll 1
    for (int c = channels.begin; c < channels.end; c += Tile::CHANNELS) {
#pragma unroll 1
      for (int s = 0; s < 3; ++s) {
#pragma unroll 1
        for (int r = 0; r < 3; ++r) {
          const uint32_t full = smem + Tile::FILTERS_FULL_AT + 8 * at.stage;
          const uint32_t to = smem + Tile::FILTERS_AT + at.stage * Tile::FILTER_BYTES +
                              rank<Tile>() * SHARE * Tile::ROW_BYTES;
          const int column = (3 * r + s) * p.C + c;  // @filter_column
          // @filters_empty
          ptx::mbarrier_wait(smem + Tile::FILTERS_EMPTY_AT + 8 * at.stage, at.phase ^ 1);
          // @filters_expect
          ptx::mbarrier_arrive_expect_tx(full, Tile::FILTER_BYTES);  // the shares of all blocks
          if constexpr (Tile::CLUSTER == 1) {
            ptx::tma_load_2d(to, &p.w, full, column, first);  // @load_filters
          } else {
            // @multicast
            ptx::tma_load_2d_multicast(to, &p.w, full, column, first, (1 << Tile::CLUSTER) - 1);
          }
          at.advance();
        }
      }
    }
  }
}

// How a consumer's thread gives stages back: one arrival for each warp, and for each block that
// fills the stage; lane i arrives at block i.
template <class Tile>
class ConsumerRelease {
 public:
  __device__ __forceinline__ explicit ConsumerRelease(uint32_t smem)
      : smem_(smem), cluster_smem_(smem), lane_(threadIdx.x % 32) {
    if constexpr (Tile::CLUSTER > 1) {
      cluster_smem_ = ptx::cluster_address(smem, lane_ % Tile::CLUSTER);  // @release_address
    }
  }

  __device__ __forceinline__ void pixels(uint32_t stage) const {
    if (lane_ == 0) ptx::mbarrier_arrive(smem_ + Tile::PIXELS_EMPTY_AT + 8 * stage);
  }

  __device__ __forceinline__ void filters(uint32_t stage) const {
    const uint32_t barrier = cluster_smem_ + Tile::FILTERS_EMPTY_AT + 8 * stage;
    if constexpr (Tile::CLUSTER == 1) {
      if (lane_ == 0) ptx::mbarrier_arrive(barrier);
    } else {
      if (lane_ < Tile::CLUSTER) ptx::mbarrier_arrive_cluster(barrier);  // @release_cluster
    }
  }

 private:
  uint32_t smem_, cluster_smem_;  // this block's, and that of the block to which this lane arrives
  uint32_t lane_;
};

// Two results as they are stored, in one register.
template <class T>
__device__ __forceinline__ uint32_t pair(float first, float second, float2 bias, float relu_floor) {
  // @relu
  const smxx::Pack<T, 2> both{smxx::from_float<T>(smxx::max_nan(first + bias.x, relu_floor)),
                              smxx::from_float<T>(smxx::max_nan(second + bias.y, relu_floor))};
  return reinterpret_cast<const uint32_t&>(both);
}

}  // namespace vgg::sm90
