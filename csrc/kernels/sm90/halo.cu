// Kernels of the halo convolution.

#include "kernels/sm90/halo.cuh"

namespace vgg::sm90 {

#define HALO_OF(DTYPE, T, VARIANT, ...)                                                       \
  extern "C" __global__ void __launch_bounds__(HaloTile<__VA_ARGS__>::THREADS, 1)             \
      conv3x3_##DTYPE##_##VARIANT(const __grid_constant__ ConvParams p) {                     \
    persistent_conv<HaloPolicy<T, HaloTile<__VA_ARGS__>>>(p, "conv3x3_" #DTYPE "_" #VARIANT); \
  }
#define HALO(VARIANT, ...)                   \
  HALO_OF(f16, __half, VARIANT, __VA_ARGS__) \
  HALO_OF(bf16, __nv_bfloat16, VARIANT, __VA_ARGS__)
#include "kernels/sm90/halo.def"

}  // namespace vgg::sm90
