// Test kernels for the wrappers of sm_90a; see test_kernels.cu.
//
// Arrays hold one item per block, [gridDim.x, ...]; comments give the shape of one item. A tensor
// map describes a whole array. `at` are the coordinates of each block's boxes, the contiguous
// dimension first. Blocks have one warp unless the kernel's comment gives their threads.

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "kernels/params.h"
#include "ptx/cluster.cuh"
#include "ptx/cp_async.cuh"
#include "ptx/griddepcontrol.cuh"
#include "ptx/mbarrier.cuh"
#include "ptx/special_registers.cuh"
#include "ptx/tma.cuh"
#include "ptx/warpgroup.cuh"
#include "ptx/wgmma.cuh"

namespace vgg {
namespace {

constexpr int LANES = 32;

// Initialises a barrier for one arrival. All threads may use it afterwards.
__device__ void make_barrier(uint32_t barrier_smem) {
  if (threadIdx.x == 0) {
    ptx::mbarrier_init(barrier_smem, 1);
    ptx::fence_mbarrier_init();
  }
  __syncthreads();
}

// out [CHUNKS] = the block's box in shared memory, after load(to_smem, barrier_smem).
template <int CHUNKS, class Load>
__device__ void loaded(uint4* out, Load load) {
  __shared__ __align__(1024) uint4 box[CHUNKS];
  __shared__ __align__(8) uint64_t full;
  const uint32_t barrier = ptx::shared_address(&full);
  make_barrier(barrier);
  if (threadIdx.x == 0) {
    ptx::mbarrier_arrive_expect_tx(barrier, sizeof(box));
    load(ptx::shared_address(box), barrier);
  }
  ptx::mbarrier_wait(barrier, 0);
  for (int i = threadIdx.x; i < CHUNKS; i += LANES) out[blockIdx.x * CHUNKS + i] = box[i];
}

// Offset of 16-byte chunk i of a wgmma operand with rows of 8 chunks, whose groups of eight rows
// are `group_bytes` apart.
__device__ int chunk_bytes(int i, int group_bytes) {
  const int row = i / 8;
  return row / 8 * group_bytes + row % 8 * 128 + ((i % 8 ^ row % 8) << 4);
}

// out [64, N] = a [64, 64] b [N, 64]^T + (add ? acc [64, N] : 0), as two groups of products. 128
// threads.
template <class T, int N>
__device__ void product(const uint4* a, const uint4* b, const float* acc, const int* add,
                        float* out) {
  constexpr int A_GROUP = 2048, B_GROUP = 1024, A_AT = N / 8 * B_GROUP;  // bytes
  extern __shared__ __align__(1024) unsigned char dynamic_smem[];
  const int t = threadIdx.x;
  a += blockIdx.x * 64 * 8, b += blockIdx.x * N * 8;
  acc += blockIdx.x * 64 * N, out += blockIdx.x * 64 * N;
  for (int i = t; i < 64 * 8; i += 128) {
    *reinterpret_cast<uint4*>(dynamic_smem + A_AT + chunk_bytes(i, A_GROUP)) = a[i];
  }
  for (int i = t; i < N * 8; i += 128) {
    *reinterpret_cast<uint4*>(dynamic_smem + chunk_bytes(i, B_GROUP)) = b[i];
  }
  const auto at = [&](int i) {
    return (16 * (t / 32) + t % 32 / 4 + i % 4 / 2 * 8) * N + i / 4 * 8 + t % 4 * 2 + i % 2;
  };
  float sum[N / 2];
#pragma unroll
  for (int i = 0; i < N / 2; ++i) sum[i] = acc[at(i)];
  ptx::fence_proxy_async();
  __syncthreads();
  const uint32_t smem = ptx::shared_address(dynamic_smem);
  const uint32_t a_low = ptx::wgmma_descriptor_low(smem + A_AT);
  const uint32_t b_low = ptx::wgmma_descriptor_low(smem);
  ptx::wgmma_fence();
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    ptx::wgmma<T>(sum, ptx::wgmma_descriptor<A_GROUP>(a_low + 2 * k),
                  ptx::wgmma_descriptor<B_GROUP>(b_low + 2 * k), k > 0 ? 1 : add[blockIdx.x]);
    if (k % 2 == 1) ptx::wgmma_commit();
  }
  ptx::wgmma_wait<1>();
  ptx::wgmma_wait<0>();
  ptx::wgmma_read(sum);
#pragma unroll
  for (int i = 0; i < N / 2; ++i) out[at(i)] = sum[i];
}

}  // namespace

// x, out [5, 32]. Two warps: the first passes rows to the second through one row of shared memory,
// each value to the neighbouring lane.
extern "C" __global__ void ptx_mbarrier(const uint32_t* x, uint32_t* out) {
  constexpr int ROUNDS = 5;
  __shared__ uint32_t row[LANES];
  __shared__ __align__(8) uint64_t barriers[2];
  const uint32_t full = ptx::shared_address(barriers), empty = full + 8;
  const int lane_id = threadIdx.x % LANES;
  if (threadIdx.x == 0) {
    ptx::mbarrier_init(full, LANES);
    ptx::mbarrier_init(empty, LANES);
    ptx::fence_mbarrier_init();
  }
  __syncthreads();
  for (int round = 0; round < ROUNDS; ++round) {
    const int i = (blockIdx.x * ROUNDS + round) * LANES + lane_id;
    if (threadIdx.x < LANES) {
      ptx::mbarrier_wait(empty, round % 2 ^ 1);
      row[lane_id ^ 1] = x[i];
      ptx::mbarrier_arrive(full);
    } else {
      while (!ptx::mbarrier_try_wait(full, round % 2)) {
      }
      out[i] = row[lane_id];
      ptx::mbarrier_arrive(empty);
    }
  }
}

// at [2]; out [16, 64] of 16 bits.
extern "C" __global__ void ptx_tma_load_2d(const __grid_constant__ TensorMapBytes x, const int* at,
                                           uint4* out) {
  at += blockIdx.x * 2;
  loaded<16 * 8>(out, [&](uint32_t to_smem, uint32_t barrier) {
    ptx::prefetch_tensor_map(&x);
    ptx::tma_load_2d(to_smem, &x, barrier, at[0], at[1]);
  });
}

// at [4]; out [2, 3, 5, 64] of 16 bits.
extern "C" __global__ void ptx_tma_load_4d(const __grid_constant__ TensorMapBytes x, const int* at,
                                           uint4* out) {
  at += blockIdx.x * 4;
  loaded<2 * 3 * 5 * 8>(out, [&](uint32_t to_smem, uint32_t barrier) {
    ptx::prefetch_tensor_map(&x);
    ptx::tma_load_4d(to_smem, &x, barrier, at[0], at[1], at[2], at[3]);
  });
}

// at [2], blocks [1]; out [2, 16, 64] of 16 bits. Each block of a cluster of two copies its box to
// the blocks in the mask `blocks`. A missing box stays zero.
extern "C" __global__ void __cluster_dims__(2, 1, 1)
    ptx_tma_load_2d_multicast(const __grid_constant__ TensorMapBytes x, const int* at,
                              const int* blocks, uint4* out) {
  constexpr int CHUNKS = 16 * 8;
  __shared__ __align__(1024) uint4 boxes[2 * CHUNKS];
  __shared__ __align__(8) uint64_t full;
  const uint32_t barrier = ptx::shared_address(&full);
  const int rank = blockIdx.x % 2, pair = blockIdx.x - rank;
  for (int i = threadIdx.x; i < 2 * CHUNKS; i += LANES) boxes[i] = make_uint4(0, 0, 0, 0);
  ptx::fence_proxy_async();
  make_barrier(barrier);
  ptx::cluster_arrive();
  ptx::cluster_wait();
  if (threadIdx.x == 0) {
    const int count = (blocks[pair] >> rank & 1) + (blocks[pair + 1] >> rank & 1);
    ptx::mbarrier_arrive_expect_tx(barrier, count * CHUNKS * sizeof(uint4));
    ptx::tma_load_2d_multicast(ptx::shared_address(boxes + rank * CHUNKS), &x, barrier,
                               at[2 * blockIdx.x], at[2 * blockIdx.x + 1],
                               static_cast<uint16_t>(blocks[blockIdx.x]));
  }
  ptx::mbarrier_wait(barrier, 0);
  for (int i = threadIdx.x; i < 2 * CHUNKS; i += LANES) out[blockIdx.x * 2 * CHUNKS + i] = boxes[i];
  ptx::cluster_arrive();
  ptx::cluster_wait();
}

// at [3, 2]; out [3, 2, 16, 64] of 16 bits. In three rounds, each of two blocks copies a box to
// both blocks after both have read the boxes of the round before.
extern "C" __global__ void __cluster_dims__(2, 1, 1)
    ptx_cluster(const __grid_constant__ TensorMapBytes x, const int* at, uint4* out) {
  constexpr int ROUNDS = 3, CHUNKS = 16 * 8;
  __shared__ __align__(1024) uint4 boxes[2 * CHUNKS];
  __shared__ __align__(8) uint64_t barriers[2];
  const uint32_t full = ptx::shared_address(barriers), empty = full + 8;
  const int lane_id = threadIdx.x, rank = blockIdx.x % 2;
  if (lane_id == 0) ptx::mbarrier_init(empty, 2);
  make_barrier(full);
  ptx::cluster_arrive_relaxed();
  ptx::cluster_wait();
  for (int round = 0; round < ROUNDS; ++round) {
    const int item = blockIdx.x * ROUNDS + round;
    if (lane_id == 0) {
      ptx::mbarrier_wait(empty, round % 2 ^ 1);
      ptx::mbarrier_arrive_expect_tx(full, sizeof(boxes));
      ptx::tma_load_2d_multicast(ptx::shared_address(boxes + rank * CHUNKS), &x, full, at[2 * item],
                                 at[2 * item + 1], 3);
    }
    ptx::mbarrier_wait(full, round % 2);
    for (int i = lane_id; i < 2 * CHUNKS; i += LANES) out[item * 2 * CHUNKS + i] = boxes[i];
    __syncwarp();
    if (lane_id < 2) ptx::mbarrier_arrive_cluster(ptx::cluster_address(empty, lane_id));
  }
  ptx::cluster_arrive();
  ptx::cluster_wait();
}

// x [32, 4], out [32, 4]. Each block of a cluster of two reads the other block's row.
extern "C" __global__ void __cluster_dims__(2, 1, 1)
    ptx_cluster_load(const float4* x, float4* out) {
  __shared__ float4 row[LANES];
  const int i = blockIdx.x * LANES + threadIdx.x;
  row[threadIdx.x] = x[i];
  ptx::cluster_arrive();
  ptx::cluster_wait();
  out[i] = ptx::cluster_load(
      ptx::cluster_address(ptx::shared_address(row + threadIdx.x), blockIdx.x % 2 ^ 1));
  ptx::cluster_arrive();
  ptx::cluster_wait();
}

// x [3, 12, 64] of 16 bits, at [3, 4]: boxes of 12 pixels. The third box overwrites the first in
// shared memory after the first has been read.
extern "C" __global__ void ptx_tma_store_4d(const uint4* x, const int* at,
                                            const __grid_constant__ TensorMapBytes out) {
  constexpr int BOXES = 3, CHUNKS = 12 * 8, PLACE = 128;  // 2048 bytes
  __shared__ __align__(1024) uint4 memory[2 * PLACE];
  for (int box = 0; box < BOXES; ++box) {
    uint4* const from = memory + box % 2 * PLACE;
    if (box == 2) {
      if (threadIdx.x == 0) ptx::bulk_wait_read<1>();
      __syncthreads();
    }
    for (int i = threadIdx.x; i < CHUNKS; i += LANES) {
      from[i] = x[(blockIdx.x * BOXES + box) * CHUNKS + i];
    }
    ptx::fence_proxy_async();
    __syncthreads();
    if (threadIdx.x == 0) {
      const int* a = at + (blockIdx.x * BOXES + box) * 4;
      ptx::tma_store_4d(&out, ptx::shared_address(from), a[0], a[1], a[2], a[3]);
      ptx::bulk_commit();
    }
  }
  if (threadIdx.x == 0) ptx::bulk_wait_read<0>();
}

// out [1]: number of elected threads of the warp.
extern "C" __global__ void ptx_elect_one(uint32_t* out) {
  const uint32_t elected = __ballot_sync(~0u, ptx::elect_one());
  if (threadIdx.x == 0) out[blockIdx.x] = __popc(elected);
}

// x, out [32].
extern "C" __global__ void ptx_griddepcontrol(const uint32_t* x, uint32_t* out) {
  ptx::griddepcontrol_launch_dependents();
  const int i = blockIdx.x * LANES + threadIdx.x;
  ptx::griddepcontrol_wait();
  out[i] = x[i] + 1;
}

// out [1]. Whether the clock advances, and by less than a second until it does.
extern "C" __global__ void ptx_globaltimer(uint32_t* out) {
  const uint64_t begin = ptx::globaltimer();
  uint64_t end = begin;
  while (end == begin) end = ptx::globaltimer();
  if (threadIdx.x == 0) out[blockIdx.x] = end - begin < 1000 * 1000 * 1000;
}

// x, out [384]. Three warpgroups; the last one releases registers to the others.
extern "C" __global__ void __launch_bounds__(384, 1)
    ptx_registers(const uint32_t* x, uint32_t* out) {
  const int i = blockIdx.x * 384 + threadIdx.x;
  const uint32_t value = x[i];
  if (threadIdx.x / 128 == 2) {
    ptx::decrease_registers<40>();
    out[i] = value + 1;
  } else {
    ptx::increase_registers<232>();
    out[i] = value + 2;
  }
}

// x, out [128]. Four warps: the even warps exchange their values once, the odd warps twice, and add
// one each time.
extern "C" __global__ void ptx_named_barrier(const uint32_t* x, uint32_t* out) {
  __shared__ uint32_t memory[2][128];
  const int t = threadIdx.x, i = blockIdx.x * 128 + t, pair = t / 32 % 2;
  uint32_t value = x[i];
  for (int round = 0; round <= pair; ++round) {
    memory[round][t] = value;
    ptx::named_barrier(1 + pair, 64);
    value = memory[round][t ^ 64] + 1;
  }
  out[i] = value;
}

// x [32, 4]: the registers; row [32]: the row of out that each lane addresses; out [40, 8] of 16
// bits, zero elsewhere.
template <class Store>
__device__ void store_matrices(const uint4* x, const int* row, uint4* out, Store store) {
  __shared__ uint4 rows_smem[40];
  const int lane_id = threadIdx.x, i = blockIdx.x * LANES + lane_id;
  for (int r = lane_id; r < 40; r += LANES) rows_smem[r] = make_uint4(0, 0, 0, 0);
  __syncthreads();
  store(ptx::shared_address(rows_smem + row[i]), x[i]);
  __syncthreads();
  for (int r = lane_id; r < 40; r += LANES) out[blockIdx.x * 40 + r] = rows_smem[r];
}
extern "C" __global__ void ptx_stmatrix_x4(const uint4* x, const int* row, uint4* out) {
  store_matrices(x, row, out,
                 [](uint32_t to, uint4 m) { ptx::stmatrix_x4(to, m.x, m.y, m.z, m.w); });
}
extern "C" __global__ void ptx_stmatrix_x4_trans(const uint4* x, const int* row, uint4* out) {
  store_matrices(x, row, out,
                 [](uint32_t to, uint4 m) { ptx::stmatrix_x4_trans(to, m.x, m.y, m.z, m.w); });
}
extern "C" __global__ void ptx_stmatrix_x2_trans(const uint4* x, const int* row, uint4* out) {
  store_matrices(x, row, out, [](uint32_t to, uint4 m) { ptx::stmatrix_x2_trans(to, m.x, m.y); });
}

// a [64, 64], b [N, 64], acc, out [64, N], add [1]. 128 threads.
#define WGMMA(DTYPE, T, N)                                                            \
  extern "C" __global__ void __launch_bounds__(128) ptx_wgmma_##DTYPE##_n##N(         \
      const uint4* a, const uint4* b, const float* acc, const int* add, float* out) { \
    product<T, N>(a, b, acc, add, out);                                               \
  }
#define WGMMA_OF(N)     \
  WGMMA(f16, __half, N) \
  WGMMA(bf16, __nv_bfloat16, N)
WGMMA_OF(8)
WGMMA_OF(16)
WGMMA_OF(32)
WGMMA_OF(64)
WGMMA_OF(112)
WGMMA_OF(128)
WGMMA_OF(224)
WGMMA_OF(240)
WGMMA_OF(256)
#undef WGMMA_OF
#undef WGMMA

}  // namespace vgg
