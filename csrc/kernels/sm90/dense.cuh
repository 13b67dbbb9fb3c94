// y = relu(x w^T + bias) for GPUs of sm_90a.
//
// Features are the rows of products and images their columns, so that few images make narrow
// products, whose time goes into reading w once. A block computes a tile over one split of GEMM_K.
// Its last warp copies w and x through a ring in shared memory; the other two warpgroups, the
// consumers, multiply. The blocks of the splits of a tile are a cluster: each block writes its sums
// to its own shared memory, and adds the sums of all blocks for its share of the images, in the
// order of the splits.
//
// Loop invariant of a consumer: the products of at most one step are in flight, and a stage is
// released when the products of the next step have been started and its own are complete.
//
// x is [N, C] with C a multiple of 8, w [K, C]; elements outside arrive as zeros.

#pragma once

#include <math_constants.h>

#include "kernels/fast_divmod.cuh"
#include "kernels/params.h"
#include "kernels/sm90/accumulator.cuh"
#include "kernels/sm90/debug_waits.cuh"
#include "kernels/sm90/dense_tile.h"
#include "kernels/sm90/ring.cuh"
#include "kernels/sm90/sync.cuh"
#include "kernels/smxx/element.cuh"
#include "ptx/cluster.cuh"
#include "ptx/cp_async.cuh"
#include "ptx/griddepcontrol.cuh"
#include "ptx/mbarrier.cuh"
#include "ptx/tma.cuh"
#include "ptx/warpgroup.cuh"
#include "ptx/wgmma.cuh"

namespace vgg::sm90 {

// A block's tile and split.
struct DenseWork {
  int n0, k0;             // first image and feature
  int first_step, steps;  // of BLOCK_K columns

  template <class Tile>
  __device__ __forceinline__ static DenseWork of(const DenseParams& p) {
    // Blocks that run at the same time have the same features: they share w in the L2 cache.
    int image_tile;
    const int k0 = divide(blockIdx.x, p.image_tiles, image_tile) * Tile::BLOCK_N;
    const int first_step = blockIdx.y * p.steps;  // @split_begin
    return {image_tile * Tile::BLOCK_M, k0, first_step, min(p.steps, p.all_steps - first_step)};
  }
};

// `kernel`: name of the kernel, for reports of waits.
template <class Tile>
__device__ __forceinline__ Ring<Tile::STAGES> dense_ring(uint32_t smem, const char* kernel) {
  const Waiter waiter{kernel, smem, smem + uint32_t{offsetof(DenseStorage<Tile>, launches_ended)}};
  return Ring<Tile::STAGES>(waiter, "stages", smem + offsetof(DenseStorage<Tile>, barriers));
}

// The producer: BLOCK_K columns of w and x at a time. It loads as much of w as there is room for
// before the launches that write x have ended.
template <class Tile>
__device__ __forceinline__ void load(const DenseParams& p, const DenseWork& work, uint32_t smem,
                                     const char* kernel) {
  using Stage = typename DenseStorage<Tile>::Stage;
  const auto column = [&](int step) { return (work.first_step + step) * Tile::BLOCK_K; };
  Ring<Tile::STAGES> ring = dense_ring<Tile>(smem, kernel);
  const auto load_weights = [&](int stage, int step) {
    ring.expect_bytes(Tile::STAGE_BYTES, stage);  // @stage_expect
    // @load_weights
    ptx::tma_load_2d(smem + stage * Tile::STAGE_BYTES, &p.w, ring.full_barrier(stage), column(step),
                     work.k0);
  };
#pragma unroll 1
  for (int step = 0; step < min(Tile::STAGES, work.steps); ++step) load_weights(step, step);
  // @launches_wait
  wait_for_launches(smem + offsetof(DenseStorage<Tile>, launches_ended));
#pragma unroll 1
  for (int step = 0; step < work.steps; ++step) {
    if (step >= Tile::STAGES) {
      ring.wait_empty();  // @stage_empty
      load_weights(ring.stage(), step);
    }
    // @load_images
    ptx::tma_load_2d(smem + ring.stage() * Tile::STAGE_BYTES + offsetof(Stage, images), &p.x,
                     ring.full_barrier(), column(step), work.n0);
    ring.advance();
  }
}

// acc = 64 features times BLOCK_M images, over the split's columns.
template <class T, class Tile>
__device__ __forceinline__ void multiply(float (&acc)[Tile::BLOCK_M / 2], int steps, uint32_t smem,
                                         const char* kernel, int consumer) {
  using Stage = typename DenseStorage<Tile>::Stage;
  constexpr int DESCRIPTOR_UNIT = 16;  // bytes, of addresses in descriptors
  constexpr int GROUP_BYTES = 8 * Tile::ROW_BYTES;
  const uint32_t a_low = ptx::wgmma_descriptor_low(smem + consumer * 64 * Tile::ROW_BYTES);
  const uint32_t b_low = ptx::wgmma_descriptor_low(smem + offsetof(Stage, images));
  Ring<Tile::STAGES> ring = dense_ring<Tile>(smem, kernel);
  uint32_t before = 0;
#pragma unroll 1
  for (int step = 0; step < steps; ++step) {
    const uint32_t stage = ring.stage() * (Tile::STAGE_BYTES / DESCRIPTOR_UNIT);
    ring.wait_full();    // @stage_full
    ptx::wgmma_fence();  // @wgmma_fence
#pragma unroll
    for (int k = 0; k < 4; ++k) {  // 16 columns are 32 bytes
      // @wgmma
      ptx::wgmma<T>(acc, ptx::wgmma_descriptor<GROUP_BYTES>(a_low + stage + 2 * k),
                    ptx::wgmma_descriptor<GROUP_BYTES>(b_low + stage + 2 * k), step | k);
    }
    ptx::wgmma_commit();  // @wgmma_commit
    if (step > 0) {
      ptx::wgmma_wait<1>();  // @step_before: the products of all steps but this one are complete
      ring.release(before);  // @release_stage
    }
    before = ring.stage();
    ring.advance();
  }
  ptx::wgmma_wait<0>();  // @last_step
  ptx::wgmma_read(acc);
}

// The sums of 64 features -> columns 64 consumer .. 64 consumer + 63 of sums [BLOCK_M][SUMS_ROW].
template <class Tile>
__device__ __forceinline__ void write_sums(const float (&acc)[Tile::BLOCK_M / 2], float* sums_smem,
                                           int consumer) {
  const AccumulatorCoord at;
  sums_smem += at.column() * Tile::SUMS_ROW + 64 * consumer + at.row();  // @first_sum
#pragma unroll
  for (int j = 0; j < Tile::BLOCK_M / 8; ++j) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        sums_smem[(8 * j + e) * Tile::SUMS_ROW + 8 * h] = acc[at.index(j, h, e)];
      }
    }
  }
}

// Adds the sums of all splits and writes y. A warp takes an image, a lane four of its features.
// Splits are added in order, so that the same input gives the same bits.
template <class T, class Tile>
__device__ __forceinline__ void write_results(const DenseParams& p, const DenseWork& work,
                                              uint32_t sums_smem) {
  constexpr int WIDTH = 4;
  const int lane_id = threadIdx.x % 32, splits = gridDim.y;
  const int feature = work.k0 + WIDTH * lane_id, images = min(Tile::BLOCK_M, p.N - work.n0);
  const bool inside = feature < p.K;
  // @bias_load
  const auto bias = inside ? smxx::load<WIDTH>(p.bias + feature) : smxx::Pack<float, WIDTH>{};
  const float relu_floor = p.relu ? 0.0f : -CUDART_INF_F;
  T* y = static_cast<T*>(p.y) + static_cast<int64_t>(work.n0) * p.K + feature;
#pragma unroll 1
  for (int image = blockIdx.y + threadIdx.x / 32 * splits; image < images;
       image += Tile::WARPS * splits) {
    const uint32_t at = sums_smem + (image * Tile::SUMS_ROW + WIDTH * lane_id) * 4;
    float4 sums[DenseParams::MAX_SPLITS];
#pragma unroll
    for (int split = 0; split < DenseParams::MAX_SPLITS; ++split) {  // all loads are started first
      // @load_sums
      if (split < splits) sums[split] = ptx::cluster_load(ptx::cluster_address(at, split));
    }
    float4 sum = sums[0];
#pragma unroll
    for (int split = 1; split < DenseParams::MAX_SPLITS; ++split) {
      if (split < splits) {
        sum.x += sums[split].x;
        sum.y += sums[split].y;
        sum.z += sums[split].z;
        sum.w += sums[split].w;
      }
    }
    const float v[WIDTH] = {sum.x, sum.y, sum.z, sum.w};
    smxx::Pack<T, WIDTH> out;
#pragma unroll
    for (int e = 0; e < WIDTH; ++e) {
      out.e[e] = smxx::from_float<T>(smxx::max_nan(v[e] + bias.e[e], relu_floor));  // @relu
    }
    T* to = y + static_cast<int64_t>(image) * p.K;
    if (p.K % WIDTH == 0) {
      if (inside) smxx::store(to, out);
    } else {
#pragma unroll
      for (int e = 0; e < WIDTH; ++e) {
        if (feature + e < p.K) to[e] = out.e[e];  // @inside_features
      }
    }
  }
}

template <class T, class Tile>
__device__ __forceinline__ void dense(const DenseParams& p, const char* kernel) {
  extern __shared__ __align__(1024) unsigned char dynamic_smem[];
  const uint32_t smem = ptx::shared_address(dynamic_smem);
  const int warp_id =
      __shfl_sync(0xffffffffu, threadIdx.x / 32, 0);  // the same in all lanes, as the compiler sees
  const DenseWork work = DenseWork::of<Tile>(p);
  ptx::griddepcontrol_launch_dependents();
  if (threadIdx.x == 0) {
    ptx::prefetch_tensor_map(&p.w);  // @prefetch_maps
    ptx::prefetch_tensor_map(&p.x);
    dense_ring<Tile>(smem, kernel).init(1, Tile::WARPS);  // @stage_arrivals
    make_launches_ended(smem + offsetof(DenseStorage<Tile>, launches_ended));
    ptx::fence_mbarrier_init();  // @barriers_made
  }
  __syncthreads();  // @block_sync
  if (warp_id == Tile::WARPS) {
    if (ptx::elect_one()) load<Tile>(p, work, smem, kernel);
    return;
  }
  float acc[Tile::BLOCK_M / 2];
  multiply<T, Tile>(acc, work.steps, smem, kernel, warp_id / 4);
  // The stages, whose place the sums take, are no longer read by products.
  ptx::named_barrier(static_cast<int>(NamedBarrier::consumers),
                     32 * Tile::WARPS);  // @products_done
  write_sums<Tile>(acc, reinterpret_cast<float*>(dynamic_smem), warp_id / 4);
  // Both barriers release and acquire: they order sums before reads, and reads before a block's
  // end.
  cluster_sync();  // @sums_written: by all splits
  write_results<T, Tile>(p, work, smem);
  cluster_sync();  // @last_sync: the other blocks have read this block's sums
}

}  // namespace vgg::sm90
