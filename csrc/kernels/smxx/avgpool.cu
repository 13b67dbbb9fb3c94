// Adaptive average pooling to grid x grid. Sums are float32, in the order of bins.cuh, and are
// rounded once, after the division.

#include "kernels/smxx/bins.cuh"

namespace vgg::smxx {

template <class T, int SIZE>
struct Average {
  float sum[SIZE] = {};

  __device__ __forceinline__ void add(const Pack<T, SIZE>& pixel) {
#pragma unroll
    for (int k = 0; k < SIZE; ++k) sum[k] += to_float(pixel.e[k]);
  }

  __device__ __forceinline__ Pack<T, SIZE> result(int rows, int columns) const {
    const float count = static_cast<float>(rows) * static_cast<float>(columns);
    Pack<T, SIZE> out;
#pragma unroll
    for (int k = 0; k < SIZE; ++k) out.e[k] = from_float<T>(sum[k] / count);
    return out;
  }
};

POOL_BINS(avgpool_f32_v4, Average, float, 4)
POOL_BINS(avgpool_f32_v1, Average, float, 1)
POOL_BINS(avgpool_f16_v8, Average, __half, 8)
POOL_BINS(avgpool_f16_v1, Average, __half, 1)
POOL_BINS(avgpool_bf16_v8, Average, __nv_bfloat16, 8)
POOL_BINS(avgpool_bf16_v1, Average, __nv_bfloat16, 1)

}  // namespace vgg::smxx
