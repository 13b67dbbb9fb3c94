// ReLU of an array of any shape.
//
// A thread takes PACKS packs of SIZE neighbouring elements, THREADS packs apart, and a block the
// next PACKS * THREADS packs, so that a warp reads and writes whole lines. Threads share nothing. A
// thread stores only to elements that it alone has loaded, so that y may be x.

#include "kernels/params.h"
#include "kernels/smxx/element.cuh"

namespace vgg::smxx {

template <class T, int SIZE>
__device__ __forceinline__ void relu(const ReluParams& p) {
  constexpr int THREADS = ReluParams::THREADS, PACKS = ReluParams::PACKS;
  const T* x = static_cast<const T*>(p.x);  // [size]
  T* y = static_cast<T*>(p.y);              // [size]
  const int64_t first = (static_cast<int64_t>(blockIdx.x) * PACKS * THREADS + threadIdx.x) * SIZE;
  Pack<T, SIZE> zeros, packs[PACKS];
#pragma unroll
  for (int i = 0; i < SIZE; ++i) zeros.e[i] = from_float<T>(0.0f);
#pragma unroll
  for (int i = 0; i < PACKS; ++i) {  // all loads before the first store, to overlap them
    const int64_t at = first + i * THREADS * SIZE;
    if (at < p.size) packs[i] = load<SIZE>(x + at);
  }
#pragma unroll
  for (int i = 0; i < PACKS; ++i) {
    const int64_t at = first + i * THREADS * SIZE;
    if (at < p.size) store(y + at, max_nan(packs[i], zeros));
  }
}

#define RELU(NAME, T, SIZE)                                         \
  extern "C" __global__ void __launch_bounds__(ReluParams::THREADS) \
      NAME(const __grid_constant__ ReluParams p) {                  \
    relu<T, SIZE>(p);                                               \
  }

RELU(relu_f32_v4, float, 4)
RELU(relu_f32_v1, float, 1)
RELU(relu_f16_v8, __half, 8)
RELU(relu_f16_v1, __half, 1)
RELU(relu_bf16_v8, __nv_bfloat16, 8)
RELU(relu_bf16_v1, __nv_bfloat16, 1)

}  // namespace vgg::smxx
