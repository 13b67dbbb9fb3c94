// Matrix-product kernels of float16.

#include "kernels/sm80/gemm.cuh"

namespace vgg::sm80 {

#define GEMM(OPERATION, VARIANT, M, N, ROW_BYTES, WARPS_M, WARPS_N, STAGES, ROWS, POOL) \
  extern "C" __global__ void __launch_bounds__(32 * WARPS_M * WARPS_N)                  \
      OPERATION##_f16_##VARIANT(const __grid_constant__ GemmParams p) {                 \
    gemm<Tile<__half, M, N, ROW_BYTES, WARPS_M, WARPS_N, STAGES>, Rows::ROWS, POOL>(p); \
  }
#include "kernels/sm80/gemm_tensor_core.def"

}  // namespace vgg::sm80
