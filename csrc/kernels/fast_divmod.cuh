// Division by a number that is known on the host; see params.h.

#pragma once

#include "kernels/params.h"

namespace vgg {

// 0 <= n < 2^31
__device__ __forceinline__ int divide(int n, const FastDivmod& by) {
  return by.divisor == 1
             ? n
             : static_cast<int>(__umulhi(static_cast<uint32_t>(n), by.multiplier) >> by.shift);
}

__device__ __forceinline__ int divide(int n, const FastDivmod& by, int& remainder) {
  const int quotient = divide(n, by);
  remainder = n - quotient * static_cast<int>(by.divisor);
  return quotient;
}

}  // namespace vgg
