// Arithmetic without a C++ operator.

#pragma once

namespace vgg::ptx {

// PTX ISA, 9.7.3.12: max. Returns NaN if an operand is NaN, unlike fmaxf.
__device__ __forceinline__ float max_nan(float a, float b) {
  float result;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(result) : "f"(a), "f"(b));
  return result;
}

// Returns `value`. The compiler cannot see through the empty asm, and therefore keeps the value in
// a register instead of recomputing it in every iteration of a loop.
__device__ __forceinline__ int kept(int value) {
  asm volatile("" : "+r"(value));
  return value;
}

}  // namespace vgg::ptx
