// Kernels of dense layers.

#include "kernels/sm90/dense.cuh"

namespace vgg::sm90 {

#define DENSE_OF(DTYPE, T, VARIANT, BLOCK_M)                                \
  extern "C" __global__ void __launch_bounds__(DenseTile<BLOCK_M>::THREADS, \
                                               DenseTile<BLOCK_M>::BLOCKS)  \
      linear_##DTYPE##_##VARIANT(const __grid_constant__ DenseParams p) {   \
    dense<T, DenseTile<BLOCK_M>>(p, "linear_" #DTYPE "_" #VARIANT);         \
  }
#define DENSE(VARIANT, BLOCK_M)           \
  DENSE_OF(f16, __half, VARIANT, BLOCK_M) \
  DENSE_OF(bf16, __nv_bfloat16, VARIANT, BLOCK_M)
#include "kernels/sm90/dense.def"

}  // namespace vgg::sm90
