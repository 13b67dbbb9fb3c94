// Elements and vectors of them: the three dtypes behind one interface, arithmetic in float32.

#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

namespace vgg::smxx {

__device__ inline float to_float(float v) { return v; }
__device__ inline float to_float(__half v) { return __half2float(v); }
__device__ inline float to_float(__nv_bfloat16 v) { return __bfloat162float(v); }

// Round to nearest even; what is too large for float16 becomes infinity.
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

// Unlike fmaxf, these propagate NaN.
__device__ inline float max_nan(float a, float b) { return b > a || b != b ? b : a; }
__device__ inline float relu_nan(float v) { return v < 0.0f ? 0.0f : v; }

// Elements in one 16-byte access.
template <class T>
constexpr int VECTOR = 16 / sizeof(T);

// SIZE elements that are loaded and stored in one access.
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

}  // namespace vgg::smxx
