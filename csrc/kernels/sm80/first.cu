// Kernels of the first convolution.

#include "kernels/sm80/first.cuh"

namespace vgg::sm80 {

#define FIRST(NAME, OPERAND, M, N, ROW_BYTES, WARPS_M, WARPS_N, POOL)                \
  extern "C" __global__ void __launch_bounds__(32 * WARPS_M * WARPS_N)               \
      NAME(const __grid_constant__ FirstParams p) {                                  \
    first_convolution<Tile<OPERAND, M, N, ROW_BYTES, WARPS_M, WARPS_N, 1>, POOL>(p); \
  }
#include "kernels/sm80/first.def"

}  // namespace vgg::sm80
