// 3x3 convolution, stride 1, padding 1, as an implicit GEMM; for every shape, on every GPU.
//
//     GEMM_M = N P Q pixels, GEMM_N = K, GEMM_K = 9 C in the order (r, s, c)
//
// One block computes 64 pixels x 64 output channels (gemm.cuh says who loads and who computes).
// The im2col matrix is never built: a thread that loads row m of it knows the pixel's address,
// and each of the nine taps is a constant offset from there, or zeros outside the image.
//
// With POOL, rows are numbered so that four neighbours are the 2x2 window of one pooled pixel,
// (0,0) (0,1) (1,0) (1,1). They are the four rows of one thread, so the maximum is taken of
// float32 accumulators in registers, before bias and ReLU: max(relu(v + b)) = relu(max(v) + b),
// to the bit, because addition, ReLU and rounding are monotone.

#include "gemm.cuh"

namespace vgg {
namespace smxx {

// Row m of the im2col matrix: the 3x3xC neighbourhood of one pixel.
template <class T>
struct PixelRow {
  static constexpr int TAPS = 9;
  const T* pixel;  // [C] at (n, p, q)
  int length;      // C
  int p, q, H, W;
  bool inside;  // GEMM_M

  __device__ bool is_zero(int tap) const {
    return !inside || static_cast<unsigned>(p + tap / 3 - 1) >= static_cast<unsigned>(H) ||
           static_cast<unsigned>(q + tap % 3 - 1) >= static_cast<unsigned>(W);
  }
  __device__ const T* segment(int tap) const {
    return pixel + (static_cast<int64_t>(tap / 3 - 1) * W + tap % 3 - 1) * length;
  }
};

template <class T, bool POOL>
__device__ PixelRow<T> pixel_row(const Conv3x3& op, int m, int gemm_m) {
  const int P = POOL ? op.H / 2 : op.H, Q = POOL ? op.W / 2 : op.W;
  const int out = POOL ? m / 4 : m;  // pixel of y
  int q = out % Q, p = out / Q % P;
  const int n = out / Q / P;
  if (POOL) {
    p = 2 * p + m % 4 / 2;
    q = 2 * q + m % 2;
  }
  const int64_t pixel = (static_cast<int64_t>(n) * op.H + p) * op.W + q;
  return {static_cast<const T*>(op.x) + pixel * op.C, op.C, p, q, op.H, op.W, m < gemm_m};
}

template <class T, bool POOL, bool ALIGNED>
__global__ void __launch_bounds__(GEMM_THREADS) conv3x3_kernel(const Conv3x3 op, int gemm_m) {
  __shared__ GemmSmem<T> smem;
  const int blocks_n = (op.K + BLOCK_N - 1) / BLOCK_N;
  const int block_m = blockIdx.x / blocks_n * BLOCK_M, block_n = blockIdx.x % blocks_n * BLOCK_N;
  const int gemm_k = 9 * op.C;

  float acc[THREAD_M][THREAD_N] = {};
  gemm_tile<T, ALIGNED>(smem, pixel_row<T, POOL>(op, block_m + threadIdx.x / 4, gemm_m),
                        dense_row<T>(op.w, block_n + threadIdx.x / 4, op.K, gemm_k), gemm_k, acc);

  const int m = block_m + threadIdx.x / 16 * THREAD_M;
  const int n = block_n + threadIdx.x % 16 * THREAD_N;
  T* y = static_cast<T*>(op.y);  // [N P Q, K]
  if constexpr (POOL) {
    if (m >= gemm_m) return;
#pragma unroll
    for (int j = 0; j < THREAD_N; ++j) {
      acc[0][j] = max_nan(max_nan(acc[0][j], acc[1][j]), max_nan(acc[2][j], acc[3][j]));
    }
    write_row(y + static_cast<int64_t>(m / 4) * op.K, op.bias, n, op.K, op.relu, acc[0]);
  } else {
#pragma unroll
    for (int i = 0; i < THREAD_M; ++i) {
      if (m + i >= gemm_m) return;
      write_row(y + static_cast<int64_t>(m + i) * op.K, op.bias, n, op.K, op.relu, acc[i]);
    }
  }
}

template <class T, bool POOL>
void launch(const Conv3x3& op, Stream stream) {
  const int gemm_m = POOL ? op.N * (op.H / 2) * (op.W / 2) * 4 : op.N * op.H * op.W;
  const int blocks = ceil_div(gemm_m, BLOCK_M) * ceil_div(op.K, BLOCK_N);
  if (vectorizable<T>(op.C, op.x, op.w)) {
    conv3x3_kernel<T, POOL, true><<<blocks, GEMM_THREADS, 0, stream>>>(op, gemm_m);
  } else {
    conv3x3_kernel<T, POOL, false><<<blocks, GEMM_THREADS, 0, stream>>>(op, gemm_m);
  }
}

}  // namespace smxx

void conv3x3(const Conv3x3& op, Stream stream) {
  smxx::with_type(op.dtype, [&](auto element) {
    using T = decltype(element);
    if (op.pool) {
      smxx::launch<T, true>(op, stream);
    } else {
      smxx::launch<T, false>(op, stream);
    }
  });
  smxx::check_launch("conv3x3");
}

}  // namespace vgg
