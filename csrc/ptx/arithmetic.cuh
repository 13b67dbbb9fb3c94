// Arithmetic that C++ has no operator for.

#pragma once

namespace vgg::ptx {

// PTX ISA, 9.7.3.12: max. NaN where one of them is NaN, unlike fmaxf.
__device__ __forceinline__ float max_nan(float a, float b) {
  float result;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(result) : "f"(a), "f"(b));
  return result;
}

// The value itself, through nothing. The compiler cannot see where it came from, and so keeps it in
// a register instead of computing it anew in every iteration of a loop.
__device__ __forceinline__ int kept(int value) {
  asm volatile("" : "+r"(value));
  return value;
}

}  // namespace vgg::ptx
