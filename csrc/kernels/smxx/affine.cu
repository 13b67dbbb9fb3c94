// Scale and shift per channel: y = x scale + shift, in float32, rounded once.
//
// A thread takes PACKS packs of SIZE neighbouring channels, THREADS packs apart, and a block the
// next PACKS * THREADS packs, so that a warp reads and writes whole lines. Scales and shifts come
// from the caches: all pixels share them. Threads share nothing. A thread stores only to elements
// that it alone has loaded, so that y may be x.

#include "kernels/fast_divmod.cuh"
#include "kernels/params.h"
#include "kernels/smxx/element.cuh"

namespace vgg::smxx {

// Loads SIZE floats in accesses of 16 bytes, or one float.
template <int SIZE>
__device__ __forceinline__ void load_floats(const float* from, float (&to)[SIZE]) {
  constexpr int STEP = SIZE < VECTOR<float> ? SIZE : VECTOR<float>;
#pragma unroll
  for (int i = 0; i < SIZE; i += STEP) {
    const auto part = load<STEP>(from + i);
#pragma unroll
    for (int j = 0; j < STEP; ++j) to[i + j] = part.e[j];
  }
}

template <class T, int SIZE>
__device__ __forceinline__ void affine(const AffineParams& p) {
  constexpr int THREADS = AffineParams::THREADS, PACKS = AffineParams::PACKS;
  const T* x = static_cast<const T*>(p.x);  // [packs, SIZE]
  T* y = static_cast<T*>(p.y);              // [packs, SIZE]
  const int first = blockIdx.x * PACKS * THREADS + threadIdx.x;
  Pack<T, SIZE> packs[PACKS];
#pragma unroll
  for (int i = 0; i < PACKS; ++i) {  // all loads of x before the first store, to overlap them
    const int pack = first + i * THREADS;
    if (pack < p.packs) packs[i] = load<SIZE>(x + static_cast<int64_t>(pack) * SIZE);
  }
#pragma unroll
  for (int i = 0; i < PACKS; ++i) {
    const int pack = first + i * THREADS;
    if (pack >= p.packs) break;  // @affine_packs
    int c;
    divide(pack, p.pixel_packs, c);
    float scale[SIZE], shift[SIZE];
    load_floats(p.scale + c * SIZE, scale);
    load_floats(p.shift + c * SIZE, shift);
#pragma unroll
    for (int j = 0; j < SIZE; ++j) {
      const float y_j = fmaf(to_float(packs[i].e[j]), scale[j], shift[j]);  // @affine_fma
      packs[i].e[j] = from_float<T>(y_j);
    }
    store(y + static_cast<int64_t>(pack) * SIZE, packs[i]);
  }
}

#define AFFINE(NAME, T, SIZE)                                         \
  extern "C" __global__ void __launch_bounds__(AffineParams::THREADS) \
      NAME(const __grid_constant__ AffineParams p) {                  \
    affine<T, SIZE>(p);                                               \
  }

AFFINE(affine_f32_v4, float, 4)
AFFINE(affine_f32_v1, float, 1)
AFFINE(affine_f16_v8, __half, 8)
AFFINE(affine_f16_v1, __half, 1)
AFFINE(affine_bf16_v8, __nv_bfloat16, 8)
AFFINE(affine_bf16_v1, __nv_bfloat16, 1)

}  // namespace vgg::smxx
