// y = relu(x w^T + bias) for GPUs of sm_90a.
//
// Features are the rows of products and images their columns, so that few images make narrow
// products: what takes time then is reading w, once. A block computes a tile over one split of
// GEMM_K. Its last warp copies w and x through a ring in shared memory; the other two warpgroups
// multiply. The blocks of a tile's splits are a cluster: each writes its sums to its own shared
// memory, and adds those of all for its share of the images, in the order of the splits.
//
// Loop invariant of a consumer: one step's products are in flight at most, and a stage is given
// back when the products of the step behind it have been started and its own are known to be
// complete.
//
// x is [N, C] with C a multiple of 8, w [K, C]; what lies outside arrives as zeros.

#pragma once

#include <math_constants.h>

#include "kernels/fast_divmod.cuh"
#include "kernels/params.h"
#include "kernels/sm90/dense_tile.h"
#include "kernels/sm90/ring.cuh"
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

// The producer: BLOCK_K columns of w and x at a time; as much of w as there is room for before the
// launches that write x have ended.
template <class Tile>
__device__ __forceinline__ void load(const DenseParams& p, const DenseWork& work, uint32_t smem) {
  const auto full = [&](int stage) { return smem + Tile::FULL_AT + 8 * stage; };
  const auto column = [&](int step) { return (work.first_step + step) * Tile::BLOCK_K; };
  const auto load_weights = [&](int stage, int step) {
    ptx::mbarrier_arrive_expect_tx(full(stage), Tile::STAGE_BYTES);  // @stage_expect
    // @load_weights
    ptx::tma_load_2d(smem + stage * Tile::STAGE_BYTES, &p.w, full(stage), column(step), work.k0);
  };
#pragma unroll 1
  for (int step = 0; step < min(Tile::STAGES, work.steps); ++step) load_weights(step, step);
  ptx::griddepcontrol_wait();  // @launches_wait
  PipelineState<Tile::STAGES> at;
#pragma unroll 1
  for (int step = 0; step < work.steps; ++step) {
    if (step >= Tile::STAGES) {
      ptx::mbarrier_wait(smem + Tile::EMPTY_AT + 8 * at.stage, at.phase ^ 1);  // @stage_empty
      load_weights(at.stage, step);
    }
    // @load_images
    ptx::tma_load_2d(smem + at.stage * Tile::STAGE_BYTES + Tile::WEIGHT_BYTES, &p.x, full(at.stage),
                     column(step), work.n0);
    at.advance();
  }
}

// acc = 64 features times BLOCK_M images, over the split's columns.
template <class T, class Tile>
__device__ __forceinline__ void multiply(float (&acc)[Tile::BLOCK_M / 2], int steps, uint32_t smem,
                                         int consumer) {
  constexpr int UNIT = 16;  // bytes, of addresses in descriptors
  constexpr int GROUP_BYTES = 8 * Tile::ROW_BYTES;
  const uint32_t a_low = ptx::wgmma_descriptor_low(smem + consumer * 64 * Tile::ROW_BYTES);
  const uint32_t b_low = ptx::wgmma_descriptor_low(smem + Tile::WEIGHT_BYTES);
  const bool arrives = threadIdx.x % 32 == 0;  // one thread of each warp
  PipelineState<Tile::STAGES> at;
  uint32_t before = 0;
#pragma unroll 1
  for (int step = 0; step < steps; ++step) {
    const uint32_t stage = at.stage * (Tile::STAGE_BYTES / UNIT);
    ptx::mbarrier_wait(smem + Tile::FULL_AT + 8 * at.stage, at.phase);  // @stage_full
    ptx::wgmma_fence();                                                 // @wgmma_fence
#pragma unroll
    for (int k = 0; k < 4; ++k) {  // 16 columns are 32 bytes
      // @wgmma
      ptx::wgmma<T>(acc, ptx::wgmma_descriptor<GROUP_BYTES>(a_low + stage + 2 * k),
                    ptx::wgmma_descriptor<GROUP_BYTES>(b_low + stage + 2 * k), step | k);
    }
    ptx::wgmma_commit();  // @wgmma_commit
    if (step > 0) {
      ptx::wgmma_wait<1>();  // @step_before: all but this step's products are complete
      if (arrives) ptx::mbarrier_arrive(smem + Tile::EMPTY_AT + 8 * before);  // @release_stage
    }
    before = at.stage;
    at.advance();
  }
  ptx::wgmma_wait<0>();  // @last_step
  ptx::wgmma_read(acc);
}

// The sums of 64 features -> columns 64 consumer .. of sums [BLOCK_M][SUMS_ROW].
template <class Tile>
__device__ __forceinline__ void write_sums(const float (&acc)[Tile::BLOCK_M / 2], float* sums_smem,
                                           int consumer) {
  const int lane_id = threadIdx.x % 32, warp_id = threadIdx.x / 32 % 4;
  sums_smem +=
      lane_id % 4 * 2 * Tile::SUMS_ROW + 64 * consumer + 16 * warp_id + lane_id / 4;  // @first_sum
#pragma unroll
  for (int i = 0; i < Tile::BLOCK_M / 2; ++i) {
    sums_smem[(i / 4 * 8 + i % 2) * Tile::SUMS_ROW + i % 4 / 2 * 8] = acc[i];
  }
}

// A warp takes an image, a lane four features of it; splits are added in their order, so that the
// same input gives the same bits.
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
    for (int split = 0; split < DenseParams::MAX_SPLITS; ++split) {  // all are on their way
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
__device__ __forceinline__ void dense(const DenseParams& p) {
  extern __shared__ __align__(1024) unsigned char dynamic_smem[];
  const uint32_t smem = ptx::shared_address(dynamic_smem);
  const int warp_id = __shfl_sync(0xffffffffu, threadIdx.x / 32, 0);  // known to be the warp's
  const DenseWork work = DenseWork::of<Tile>(p);
  ptx::griddepcontrol_launch_dependents();
  if (threadIdx.x == 0) {
    for (int i = 0; i < Tile::STAGES; ++i) {
      ptx::mbarrier_init(smem + Tile::FULL_AT + 8 * i, 1);
      ptx::mbarrier_init(smem + Tile::EMPTY_AT + 8 * i, Tile::WARPS);  // @stage_arrivals
    }
    ptx::fence_mbarrier_init();  // @barriers_made
  }
  __syncthreads();  // @block_sync
  if (warp_id == Tile::WARPS) {
    if (ptx::elect_one()) load<Tile>(p, work, smem);
    return;
  }
  float acc[Tile::BLOCK_M / 2];
  multiply<T, Tile>(acc, work.steps, smem, warp_id / 4);
  // @products_done
  ptx::named_barrier(1, 32 * Tile::WARPS);  // nobody's products still read the stages
  write_sums<Tile>(acc, reinterpret_cast<float*>(dynamic_smem), warp_id / 4);
  ptx::cluster_arrive();  // @sums_written
  ptx::cluster_wait();    // @sums_written: by all splits
  write_results<T, Tile>(p, work, smem);
  ptx::cluster_arrive();  // @last_sync
  ptx::cluster_wait();    // @last_sync: shared memory outlives what others read of it
}

}  // namespace vgg::sm90
