// Softmax over the rows of a matrix.
//
// One block of THREADS threads normalises one row: a single warp for short rows, eight for long
// ones. Each thread visits every THREADS-th pack of SIZE elements, three times: maximum, sum,
// result; the second and third visits hit the cache. Only the two reductions are shared. exp is
// taken of values <= 0, so it cannot overflow; a row of nothing but -inf, or with a NaN or +inf
// in it, gives NaN, as in PyTorch.

#include <math_constants.h>

#include "launch.cuh"

namespace vgg {
namespace smxx {

constexpr int WARP = 32;
constexpr int SHORT_ROW = 256;  // elements up to which a warp is enough

// The reduction of `value` over the block, in every thread, always in the same order.
template <int THREADS, class Reduce>
__device__ float block_reduce(float value, float* warp_smem /* [THREADS / WARP] */, Reduce reduce) {
#pragma unroll
  for (int lanes = WARP / 2; lanes > 0; lanes /= 2) {
    value = reduce(value, __shfl_xor_sync(0xffffffffu, value, lanes));
  }
  if constexpr (THREADS > WARP) {
    if (threadIdx.x % WARP == 0) warp_smem[threadIdx.x / WARP] = value;
    __syncthreads();  // every warp's value is written before anyone reads it
    value = warp_smem[0];
#pragma unroll
    for (int warp_id = 1; warp_id < THREADS / WARP; ++warp_id) {
      value = reduce(value, warp_smem[warp_id]);
    }
  }
  return value;
}

template <class T, int SIZE, int THREADS>
__global__ void __launch_bounds__(THREADS) softmax_kernel(const Softmax op) {
  __shared__ float max_smem[THREADS / WARP], sum_smem[THREADS / WARP];  // one each: no reuse
  const T* x = static_cast<const T*>(op.x) + static_cast<int64_t>(blockIdx.x) * op.n;  // [n]
  T* y = static_cast<T*>(op.y) + static_cast<int64_t>(blockIdx.x) * op.n;              // [n]
  const int first = threadIdx.x * SIZE, stride = THREADS * SIZE;

  float max = -CUDART_INF_F;
  for (int64_t i = first; i < op.n; i += stride) {
    const auto pack = load<SIZE>(x + i);
#pragma unroll
    for (int j = 0; j < SIZE; ++j) max = fmaxf(max, to_float(pack.e[j]));
  }
  max = block_reduce<THREADS>(max, max_smem, [](float a, float b) { return fmaxf(a, b); });

  float sum = 0.0f;
  for (int64_t i = first; i < op.n; i += stride) {
    const auto pack = load<SIZE>(x + i);
#pragma unroll
    for (int j = 0; j < SIZE; ++j) sum += expf(to_float(pack.e[j]) - max);
  }
  sum = block_reduce<THREADS>(sum, sum_smem, [](float a, float b) { return a + b; });

  for (int64_t i = first; i < op.n; i += stride) {
    auto pack = load<SIZE>(x + i);
#pragma unroll
    for (int j = 0; j < SIZE; ++j) {
      pack.e[j] = from_float<T>(expf(to_float(pack.e[j]) - max) / sum);
    }
    store(y + i, pack);
  }
}

}  // namespace smxx

void softmax(const Softmax& op, Stream stream) {
  smxx::with_type(op.dtype, [&](auto element) {
    using T = decltype(element);
    smxx::with_vector<T>(smxx::vectorizable<T>(op.n, op.x, op.y), [&](auto size) {
      constexpr int SIZE = decltype(size)::value;
      if (op.n <= smxx::SHORT_ROW) {
        smxx::softmax_kernel<T, SIZE, 32><<<op.rows, 32, 0, stream>>>(op);
      } else {
        smxx::softmax_kernel<T, SIZE, 256><<<op.rows, 256, 0, stream>>>(op);
      }
    });
  });
  smxx::check_launch("softmax");
}

}  // namespace vgg
