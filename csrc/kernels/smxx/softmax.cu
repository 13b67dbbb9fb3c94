// Softmax over the rows of a matrix.
//
// One block of THREADS threads normalises one row: one warp for short rows, eight warps for long
// rows. A thread visits every THREADS-th pack of SIZE elements three times, for maximum, sum and
// result; the second and third visits hit the cache. Threads share only the two reductions. A
// thread stores only to elements that it alone has loaded, so that y may be x. exp is taken of
// values <= 0, so it cannot overflow. A row of only -inf, or with NaN or +inf, gives NaN, as in
// PyTorch.

#include <math_constants.h>

#include "kernels/params.h"
#include "kernels/smxx/element.cuh"

namespace vgg::smxx {

constexpr int WARP = 32;

// Reduces `value` over the block, always in the same order; every thread gets the result.
template <int THREADS, class Reduce>
__device__ float block_reduce(float value, float* warp_smem /* [THREADS / WARP] */, Reduce reduce) {
#pragma unroll
  for (int lanes = WARP / 2; lanes > 0; lanes /= 2) {
    value = reduce(value, __shfl_xor_sync(0xffffffffu, value, lanes));
  }
  if constexpr (THREADS > WARP) {
    if (threadIdx.x % WARP == 0) warp_smem[threadIdx.x / WARP] = value;
    __syncthreads();  // @softmax_barrier: the values of all warps are written
    value = warp_smem[0];
#pragma unroll
    for (int warp_id = 1; warp_id < THREADS / WARP; ++warp_id) {
      value = reduce(value, warp_smem[warp_id]);
    }
  }
  return value;
}

template <class T, int SIZE, int THREADS>
__device__ __forceinline__ void softmax(const SoftmaxParams& p) {
  __shared__ float max_smem[THREADS / WARP],
      sum_smem[THREADS / WARP];  // separate, so that none is reused
  const T* x = static_cast<const T*>(p.x) + static_cast<int64_t>(blockIdx.x) * p.n;  // [n]
  T* y = static_cast<T*>(p.y) + static_cast<int64_t>(blockIdx.x) * p.n;              // [n]
  const int first = threadIdx.x * SIZE, stride = THREADS * SIZE;

  float max = -CUDART_INF_F;
  for (int64_t i = first; i < p.n; i += stride) {
    const auto pack = load<SIZE>(x + i);
#pragma unroll
    for (int j = 0; j < SIZE; ++j) max = fmaxf(max, to_float(pack.e[j]));
  }
  max = block_reduce<THREADS>(max, max_smem, [](float a, float b) { return fmaxf(a, b); });

  float sum = 0.0f;
  for (int64_t i = first; i < p.n; i += stride) {
    const auto pack = load<SIZE>(x + i);
#pragma unroll
    for (int j = 0; j < SIZE; ++j) sum += expf(to_float(pack.e[j]) - max);
  }
  sum = block_reduce<THREADS>(sum, sum_smem, [](float a, float b) { return a + b; });

  for (int64_t i = first; i < p.n; i += stride) {
    auto pack = load<SIZE>(x + i);
#pragma unroll
    for (int j = 0; j < SIZE; ++j) {
      pack.e[j] = from_float<T>(expf(to_float(pack.e[j]) - max) / sum);
    }
    store(y + i, pack);
  }
}

#define SOFTMAX(NAME, T, SIZE, THREADS)                 \
  extern "C" __global__ void __launch_bounds__(THREADS) \
      NAME(const __grid_constant__ SoftmaxParams p) {   \
    softmax<T, SIZE, THREADS>(p);                       \
  }

SOFTMAX(softmax_f32_v4_t32, float, 4, 32)
SOFTMAX(softmax_f32_v1_t32, float, 1, 32)
SOFTMAX(softmax_f32_v4_t256, float, 4, 256)
SOFTMAX(softmax_f32_v1_t256, float, 1, 256)
SOFTMAX(softmax_f16_v8_t32, __half, 8, 32)
SOFTMAX(softmax_f16_v1_t32, __half, 1, 32)
SOFTMAX(softmax_f16_v8_t256, __half, 8, 256)
SOFTMAX(softmax_f16_v1_t256, __half, 1, 256)
SOFTMAX(softmax_bf16_v8_t32, __nv_bfloat16, 8, 32)
SOFTMAX(softmax_bf16_v1_t32, __nv_bfloat16, 1, 32)
SOFTMAX(softmax_bf16_v8_t256, __nv_bfloat16, 8, 256)
SOFTMAX(softmax_bf16_v1_t256, __nv_bfloat16, 1, 256)

}  // namespace vgg::smxx
