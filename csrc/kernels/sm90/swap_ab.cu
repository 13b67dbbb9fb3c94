// Kernels of the convolution with swapped operands.

#include "kernels/sm90/swap_ab.cuh"

namespace vgg::sm90 {

#define SWAP_AB_OF(DTYPE, T, VARIANT, ...)                                                        \
  extern "C" __global__ void __launch_bounds__(SwapAbTile<__VA_ARGS__>::THREADS, 1)               \
      conv3x3_##DTYPE##_##VARIANT(const __grid_constant__ ConvParams p) {                         \
    persistent_conv<SwapAbPolicy<T, SwapAbTile<__VA_ARGS__>>>(p, "conv3x3_" #DTYPE "_" #VARIANT); \
  }
#define SWAP_AB(VARIANT, ...)                   \
  SWAP_AB_OF(f16, __half, VARIANT, __VA_ARGS__) \
  SWAP_AB_OF(bf16, __nv_bfloat16, VARIANT, __VA_ARGS__)
#include "kernels/sm90/swap_ab.def"

}  // namespace vgg::sm90
