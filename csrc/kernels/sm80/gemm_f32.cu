// Matrix-product kernels of float32.

#include "kernels/sm80/gemm.cuh"

namespace vgg::sm80 {

// Blocks per SM for which registers are divided. Without this bound the compiler spills to fit a
// fourth small block.
__host__ __device__ constexpr int blocks_per_sm(int threads) { return threads == 256 ? 1 : 3; }

#define GEMM(OPERATION, VARIANT, M, N, ROW_BYTES, WARPS_M, WARPS_N, STAGES, ROWS, POOL) \
  extern "C" __global__ void __launch_bounds__(32 * WARPS_M * WARPS_N,                  \
                                               blocks_per_sm(32 * WARPS_M * WARPS_N))   \
      OPERATION##_f32_##VARIANT(const __grid_constant__ GemmParams p) {                 \
    gemm<Tile<float, M, N, ROW_BYTES, WARPS_M, WARPS_N, STAGES>, Rows::ROWS, POOL>(p);  \
  }
#include "kernels/sm80/gemm_ffma.def"

}  // namespace vgg::sm80
