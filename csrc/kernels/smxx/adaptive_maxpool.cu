// Adaptive max-pooling to grid x grid, in the dtype of x: a maximum is one of the values, and
// exact. NaN propagates. With grid 1 the result is the maximum of all pixels.

#include <math_constants.h>

#include "kernels/smxx/bins.cuh"

namespace vgg::smxx {

template <class T, int SIZE>
struct Maximum {
  Pack<T, SIZE> max;

  __device__ __forceinline__ Maximum() {
#pragma unroll
    for (int k = 0; k < SIZE; ++k) max.e[k] = from_float<T>(-CUDART_INF_F);  // @maximum_start
  }

  __device__ __forceinline__ void add(const Pack<T, SIZE>& pixel) { max = max_nan(max, pixel); }

  __device__ __forceinline__ Pack<T, SIZE> result(int, int) const { return max; }
};

POOL_BINS(adaptive_maxpool_f32_v4, Maximum, float, 4)
POOL_BINS(adaptive_maxpool_f32_v1, Maximum, float, 1)
POOL_BINS(adaptive_maxpool_f16_v8, Maximum, __half, 8)
POOL_BINS(adaptive_maxpool_f16_v1, Maximum, __half, 1)
POOL_BINS(adaptive_maxpool_bf16_v8, Maximum, __nv_bfloat16, 8)
POOL_BINS(adaptive_maxpool_bf16_v1, Maximum, __nv_bfloat16, 1)

}  // namespace vgg::smxx
