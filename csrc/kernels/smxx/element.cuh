// Elements and vectors of elements: one interface for all dtypes, with arithmetic in float32.

#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <type_traits>

#include "ptx/arithmetic.cuh"

namespace vgg::smxx {

__device__ inline float to_float(uint8_t v) { return v; }
__device__ inline float to_float(float v) { return v; }
__device__ inline float to_float(__half v) { return __half2float(v); }
__device__ inline float to_float(__nv_bfloat16 v) { return __bfloat162float(v); }

// Rounds to nearest even; values too large for float16 become infinity.
template <class T>
__device__ T from_float(float v);
template <>
__device__ inline float from_float<float>(float v) {
  return v;
}
template <>
__device__ inline __half from_float<__half>(float v) {
  return __float2half_rn(v);
}
template <>
__device__ inline __nv_bfloat16 from_float<__nv_bfloat16>(float v) {
  return __float2bfloat16_rn(v);
}

// Elements in one 16-byte access.
template <class T>
constexpr int VECTOR = 16 / sizeof(T);

// SIZE elements, loaded and stored in one access.
template <class T, int SIZE>
struct alignas(SIZE * sizeof(T)) Pack {
  T e[SIZE];
};

template <int SIZE, class T>
__device__ Pack<T, SIZE> load(const T* from) {
  return *reinterpret_cast<const Pack<T, SIZE>*>(from);
}

template <int SIZE, class T>
__device__ void store(T* to, const Pack<T, SIZE>& pack) {
  *reinterpret_cast<Pack<T, SIZE>*>(to) = pack;
}

// The greater value, in one instruction. Unlike fmaxf, the result is NaN if a or b is NaN.
__device__ inline float max_nan(float a, float b) { return ptx::max_nan(a, b); }
__device__ inline __half max_nan(__half a, __half b) { return __hmax_nan(a, b); }
__device__ inline __half2 max_nan(__half2 a, __half2 b) { return __hmax2_nan(a, b); }
__device__ inline __nv_bfloat16 max_nan(__nv_bfloat16 a, __nv_bfloat16 b) {
  return __hmax_nan(a, b);
}
__device__ inline __nv_bfloat162 max_nan(__nv_bfloat162 a, __nv_bfloat162 b) {
  return __hmax2_nan(a, b);
}

// Element by element; two at once if a register holds two.
template <class T, int SIZE>
__device__ Pack<T, SIZE> max_nan(const Pack<T, SIZE>& a, const Pack<T, SIZE>& b) {
  using Two = std::conditional_t<std::is_same_v<T, __half>, __half2, __nv_bfloat162>;
  Pack<T, SIZE> out;
  if constexpr (sizeof(T) == 2 && SIZE % 2 == 0) {
#pragma unroll
    for (int i = 0; i < SIZE; i += 2) {
      const Two max = max_nan(Two(a.e[i], a.e[i + 1]), Two(b.e[i], b.e[i + 1]));
      out.e[i] = max.x;
      out.e[i + 1] = max.y;
    }
  } else {
#pragma unroll
    for (int i = 0; i < SIZE; ++i) out.e[i] = max_nan(a.e[i], b.e[i]);
  }
  return out;
}

}  // namespace vgg::smxx
