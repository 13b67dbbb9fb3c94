// Dense layer: GEMM_M = N images, GEMM_N = K features, GEMM_K = C.
//
// One block computes 64 images x 64 features (gemm.cuh says who loads and who computes).

#include "gemm.cuh"

namespace vgg {
namespace smxx {

template <class T, bool ALIGNED>
__global__ void __launch_bounds__(GEMM_THREADS) linear_kernel(const Linear op) {
  __shared__ GemmSmem<T> smem;
  const int blocks_n = (op.K + BLOCK_N - 1) / BLOCK_N;
  const int block_m = blockIdx.x / blocks_n * BLOCK_M, block_n = blockIdx.x % blocks_n * BLOCK_N;

  float acc[THREAD_M][THREAD_N] = {};
  gemm_tile<T, ALIGNED>(smem, dense_row<T>(op.x, block_m + threadIdx.x / 4, op.N, op.C),
                        dense_row<T>(op.w, block_n + threadIdx.x / 4, op.K, op.C), op.C, acc);

  const int m = block_m + threadIdx.x / 16 * THREAD_M;
  const int n = block_n + threadIdx.x % 16 * THREAD_N;
#pragma unroll
  for (int i = 0; i < THREAD_M; ++i) {
    if (m + i >= op.N) return;
    T* y = static_cast<T*>(op.y) + static_cast<int64_t>(m + i) * op.K;
    write_row(y, op.bias, n, op.K, op.relu, acc[i]);
  }
}

}  // namespace smxx

void linear(const Linear& op, Stream stream) {
  using smxx::BLOCK_M, smxx::BLOCK_N, smxx::GEMM_THREADS;
  smxx::with_type(op.dtype, [&](auto element) {
    using T = decltype(element);
    const int blocks = smxx::ceil_div(op.N, BLOCK_M) * smxx::ceil_div(op.K, BLOCK_N);
    if (smxx::vectorizable<T>(op.C, op.x, op.w)) {
      smxx::linear_kernel<T, true><<<blocks, GEMM_THREADS, 0, stream>>>(op);
    } else {
      smxx::linear_kernel<T, false><<<blocks, GEMM_THREADS, 0, stream>>>(op);
    }
  });
  smxx::check_launch("linear");
}

}  // namespace vgg
