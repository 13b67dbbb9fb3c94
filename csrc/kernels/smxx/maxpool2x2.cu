// Max-pooling, 2x2, stride 2.
//
// A thread computes SIZE neighbouring channels of one pixel of y, and a block the next THREADS such
// packs in the order of y, so that a warp reads and writes whole lines. Threads share nothing: each
// loads the four inputs of its outputs, and every input is loaded once. If H or W is odd, the last
// row or column is left out. There is no loop.

#include "kernels/fast_divmod.cuh"
#include "kernels/params.h"
#include "kernels/smxx/element.cuh"

namespace vgg::smxx {

template <class T, int SIZE>
__device__ __forceinline__ void maxpool2x2(const MaxPool2x2Params& p) {
  const int pack = blockIdx.x * MaxPool2x2Params::THREADS + threadIdx.x;
  if (pack >= p.packs) return;
  int c, h, w;  // of y
  const int pixel = divide(pack, p.pixel_packs, c);
  const int64_t n = divide(divide(pixel, p.Q, w), p.P, h);
  c *= SIZE;

  const int64_t row = static_cast<int64_t>(p.W) * p.C;  // elements
  const T* x = static_cast<const T*>(p.x) +             // [2, 2, SIZE] of [N, H, W, C]
               (n * p.H + 2 * h) * row + static_cast<int64_t>(2 * w) * p.C + c;
  T* y = static_cast<T*>(p.y) + static_cast<int64_t>(pack) * SIZE;  // [SIZE]
  const auto top = max_nan(load<SIZE>(x), load<SIZE>(x + p.C));
  const auto bottom = max_nan(load<SIZE>(x + row), load<SIZE>(x + row + p.C));
  store(y, max_nan(top, bottom));
}

#define MAXPOOL2X2(NAME, T, SIZE)                                         \
  extern "C" __global__ void __launch_bounds__(MaxPool2x2Params::THREADS) \
      NAME(const __grid_constant__ MaxPool2x2Params p) {                  \
    maxpool2x2<T, SIZE>(p);                                               \
  }

MAXPOOL2X2(maxpool2x2_f32_v4, float, 4)
MAXPOOL2X2(maxpool2x2_f32_v1, float, 1)
MAXPOOL2X2(maxpool2x2_f16_v8, __half, 8)
MAXPOOL2X2(maxpool2x2_f16_v1, __half, 1)
MAXPOOL2X2(maxpool2x2_bf16_v8, __nv_bfloat16, 8)
MAXPOOL2X2(maxpool2x2_bf16_v1, __nv_bfloat16, 1)

}  // namespace vgg::smxx
