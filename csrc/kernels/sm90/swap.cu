// The swapped convolution's kernels.

#include "kernels/sm90/swap.cuh"

namespace vgg::sm90 {

#define SWAP_OF(DTYPE, T, VARIANT, ...)                                           \
  extern "C" __global__ void __launch_bounds__(SwapTile<__VA_ARGS__>::THREADS, 1) \
      conv3x3_##DTYPE##_##VARIANT(const __grid_constant__ SwapParams p) {         \
    swap_convolution<T, SwapTile<__VA_ARGS__>>(p);                                \
  }
#define SWAP(VARIANT, ...)                   \
  SWAP_OF(f16, __half, VARIANT, __VA_ARGS__) \
  SWAP_OF(bf16, __nv_bfloat16, VARIANT, __VA_ARGS__)
#include "kernels/sm90/swap.def"

}  // namespace vgg::sm90
