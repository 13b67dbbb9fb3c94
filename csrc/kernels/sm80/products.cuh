// Products of a warp: WARP_M rows of A by WARP_N rows of B, both in shared memory (tile.cuh), one
// BLOCK_K at a time, with float32 sums in registers.
//
// A product also tells the rows and channels of a thread's sums. Channels are ordered so that a
// thread holds WIDTH neighbours, which are stored in 16-byte accesses: row r of the tile of B is
// channel channel_of_row(r). Pixels that are pooled are ordered so that one or two threads hold the
// four pixels of a window: row r of the tile of A is pixel window_pixel(r).

#pragma once

#include <cstdint>
#include <type_traits>

#include "kernels/sm80/tile.cuh"
#include "kernels/smxx/element.cuh"
#include "ptx/arithmetic.cuh"
#include "ptx/cp_async.cuh"
#include "ptx/mma.cuh"

namespace vgg::sm80 {

// A pixel of a 2x2 window; windows are numbered from the first of the tile.
struct WindowPixel {
  int window, dy, dx;
};

// Products of float16, bfloat16 and tf32 on tensor cores. A thread holds eight neighbours of every
// 32 channels, in row lane_id / 4 of every eight rows. Factors of tf32 are float32 in memory: B is
// already rounded, A is rounded here.
template <class Tile>
class TensorCoreProduct {
  using Operand = typename Tile::Operand;
  static constexpr int MMA_M = 16, MMA_N = 8, MMA_K = 32 / sizeof(typename Tile::T);
  static constexpr int M = Tile::WARP_M / MMA_M, N = Tile::WARP_N / MMA_N;
  static_assert(Tile::WARP_M % MMA_M == 0 && Tile::WARP_N % 32 == 0);

 public:
  static constexpr int PARTIAL_SUM = 0;
  static constexpr int GROUPS = N / 4, ROWS = 2 * M, WIDTH = 8;
  static constexpr int POOLED_ROWS = M, POOLED_WIDTH = 4;

  // Channel 8 t + 2 j + e of 32 is column 2 t + e of the j-th of four products, so that lane t of a
  // row holds channels 8 t .. 8 t + 7.
  __host__ __device__ static constexpr int channel_of_row(int row) {
    return row / 32 * 32 + row % 8 / 2 * 8 + row / 8 % 4 * 2 + row % 2;
  }

  // 16 rows are 8 x 2 pixels. Columns of a window are neighbouring rows, its lines are eight apart.
  __host__ __device__ static constexpr WindowPixel window_pixel(int row) {
    return {row / 16 * 4 + row % 8 / 2, row / 8 % 2, row % 2};
  }

  __device__ __forceinline__ TensorCoreProduct(const unsigned char* a_smem,
                                               const unsigned char* b_smem) {
    const int lane_id = threadIdx.x % 32;
#pragma unroll
    for (int k = 0; k < Tile::BLOCK_K / MMA_K; ++k) {
      // Lanes 0-15 address the first 16 bytes of the rows, lanes 16-31 the last 16 bytes.
      // @a_address
      a_[k] = ptx::kept(ptx::shared_address(a_smem) +
                        Tile::place(warp_m() + lane_id % 16, 2 * k + lane_id / 16));
      // Lanes 0-7 and 8-15 address the two halves of eight rows, lanes 16-31 the next eight rows.
      // @b_address
      b_[k] = ptx::kept(
          ptx::shared_address(b_smem) +
          Tile::place(warp_n() + lane_id % 8 + lane_id / 16 * 8, 2 * k + lane_id / 8 % 2));
    }
  }

  // acc += A B^T over the BLOCK_K columns of the stage `offset` bytes after stage 0.
  __device__ __forceinline__ void multiply(int offset) {
#pragma unroll
    for (int k = 0; k < Tile::BLOCK_K / MMA_K; ++k) {
      uint32_t a_frag[M][4], b_frag[N / 2][4];
#pragma unroll
      for (int i = 0; i < M; ++i) {
        ptx::ldmatrix_x4(a_frag[i], a_[k] + offset + i * MMA_M * Tile::ROW_BYTES);
        if constexpr (std::is_same_v<Operand, ptx::Tf32>) {
#pragma unroll
          for (uint32_t& x : a_frag[i]) x = ptx::round_to_tf32(x);
        }
      }
#pragma unroll
      for (int j = 0; j < N / 2; ++j) {
        ptx::ldmatrix_x4(b_frag[j], b_[k] + offset + j * 2 * MMA_N * Tile::ROW_BYTES);
      }
#pragma unroll
      for (int i = 0; i < M; ++i) {
#pragma unroll
        for (int j = 0; j < N; ++j) {
          ptx::mma<Operand>(acc_[i][j], a_frag[i], b_frag[j / 2][j % 2 * 2],
                            b_frag[j / 2][j % 2 * 2 + 1]);
        }
      }
    }
  }

  __device__ __forceinline__ void add_partial_sums() {}

  // Channels [channel(group), + WIDTH) of row(r) of the tile.
  __device__ __forceinline__ int channel(int group) const {
    return warp_n() + 32 * group + threadIdx.x % 4 * 8;
  }
  __device__ __forceinline__ int row(int r) const {
    return warp_m() + r / 2 * MMA_M + r % 2 * 8 + threadIdx.x % 32 / 4;
  }
  __device__ __forceinline__ void values(int group, int r, float (&v)[WIDTH]) const {
#pragma unroll
    for (int e = 0; e < WIDTH; ++e) v[e] = acc_[r / 2][4 * group + e / 2][r % 2 * 2 + e % 2];
  }

  // Channels [pooled_channel(group), + POOLED_WIDTH) of window pooled_row(r) of the tile.
  __device__ __forceinline__ int pooled_channel(int group) const {
    return channel(group) + (right() ? POOLED_WIDTH : 0);
  }
  __device__ __forceinline__ int pooled_row(int r) const {
    return (warp_m() + r * MMA_M) / 4 + threadIdx.x % 32 / 8;
  }
  // The two columns of a window are in neighbouring rows, of lanes that differ by 4. Each lane
  // keeps half of the channels, and gets the other lane's maxima of these channels.
  __device__ __forceinline__ void pooled_values(int group, int r, float (&v)[POOLED_WIDTH]) const {
    float upper[WIDTH], lower[WIDTH];
    values(group, 2 * r, upper);
    values(group, 2 * r + 1, lower);
#pragma unroll
    for (int e = 0; e < POOLED_WIDTH; ++e) {
      const float first = ptx::max_nan(upper[e], lower[e]);
      const float last = ptx::max_nan(upper[e + POOLED_WIDTH], lower[e + POOLED_WIDTH]);
      const float got = __shfl_xor_sync(0xffffffffu, right() ? first : last, 4);  // @pool_shuffle
      v[e] = ptx::max_nan(right() ? last : first, got);
    }
  }

 private:
  __device__ __forceinline__ static int warp_m() {
    return threadIdx.x / 32 / Tile::WARPS_N * Tile::WARP_M;
  }
  __device__ __forceinline__ static int warp_n() {
    return threadIdx.x / 32 % Tile::WARPS_N * Tile::WARP_N;
  }
  __device__ __forceinline__ static bool right() { return threadIdx.x & 4; }

  uint32_t a_[Tile::BLOCK_K / MMA_K], b_[Tile::BLOCK_K / MMA_K];  // this lane's rows in stage 0
  float acc_[M][N][4] = {};
};

// Products of float32 on CUDA cores. A warp is 4 x 8 threads; each thread holds eight rows, four
// apart, and WARP_N / 8 neighbouring channels. After every PARTIAL_SUM products the partial sums
// are added to the total, because long chains of additions lose bits.
template <class Tile>
class FfmaProduct {
  static constexpr int THREAD_M = 8, THREAD_N = Tile::WARP_N / 8;
  static_assert(Tile::WARP_M == 32 && (THREAD_N == 4 || THREAD_N == 8));

 public:
  static constexpr int PARTIAL_SUM = 64;
  static constexpr int GROUPS = 1, ROWS = THREAD_M, WIDTH = THREAD_N;
  static constexpr int POOLED_ROWS = 2, POOLED_WIDTH = THREAD_N;

  __host__ __device__ static constexpr int channel_of_row(int row) {
    return row / Tile::WARP_N * Tile::WARP_N + row % 8 * THREAD_N + row % Tile::WARP_N / 8;
  }

  // The pixels of a window are four rows apart, all in one thread.
  __host__ __device__ static constexpr WindowPixel window_pixel(int row) {
    return {row / 32 * 8 + row / 16 % 2 * 4 + row % 4, row / 8 % 2, row / 4 % 2};
  }

  __device__ __forceinline__ FfmaProduct(const unsigned char* a_smem, const unsigned char* b_smem)
      : a_(a_smem), b_(b_smem) {}

  // partial += A B^T over the BLOCK_K columns of the stage `offset` bytes after stage 0.
  __device__ __forceinline__ void multiply(int offset) {
    using Chunk = smxx::Pack<float, 4>;
    const auto chunk_of = [&](const unsigned char* tile_smem, int row, int chunk, int rows_below) {
      return *reinterpret_cast<const Chunk*>(tile_smem + offset + Tile::place(row, chunk) +
                                             rows_below * Tile::ROW_BYTES);
    };
#pragma unroll
    for (int chunk = 0; chunk < Tile::ROW_CHUNKS; ++chunk) {
      Chunk b_frag[THREAD_N];
#pragma unroll
      for (int j = 0; j < THREAD_N; ++j) {
        b_frag[j] = chunk_of(b_, warp_n() + lane_n(), chunk, 8 * j);
      }
#pragma unroll
      for (int i = 0; i < THREAD_M; ++i) {
        // The swizzle differs after four rows and repeats after eight.
        const Chunk a_frag = chunk_of(a_, warp_m() + lane_m() + i % 2 * 4, chunk, i / 2 * 8);
#pragma unroll
        for (int k = 0; k < 4; ++k) {
#pragma unroll
          for (int j = 0; j < THREAD_N; ++j) {
            partial_[i][j] = fmaf(a_frag.e[k], b_frag[j].e[k], partial_[i][j]);
          }
        }
      }
    }
  }

  __device__ __forceinline__ void add_partial_sums() {
#pragma unroll
    for (int i = 0; i < THREAD_M; ++i) {
#pragma unroll
      for (int j = 0; j < THREAD_N; ++j) {
        sum_[i][j] += partial_[i][j];
        partial_[i][j] = 0.0f;
      }
    }
  }

  __device__ __forceinline__ int channel(int) const { return warp_n() + lane_n() * THREAD_N; }
  __device__ __forceinline__ int row(int r) const { return warp_m() + lane_m() + 4 * r; }
  __device__ __forceinline__ void values(int, int r, float (&v)[WIDTH]) const {
#pragma unroll
    for (int e = 0; e < WIDTH; ++e) v[e] = sum_[r][e];
  }

  __device__ __forceinline__ int pooled_channel(int group) const { return channel(group); }
  __device__ __forceinline__ int pooled_row(int r) const { return warp_m() / 4 + 4 * r + lane_m(); }
  __device__ __forceinline__ void pooled_values(int, int r, float (&v)[POOLED_WIDTH]) const {
#pragma unroll
    for (int e = 0; e < WIDTH; ++e) {
      v[e] = ptx::max_nan(ptx::max_nan(sum_[4 * r][e], sum_[4 * r + 1][e]),
                          ptx::max_nan(sum_[4 * r + 2][e], sum_[4 * r + 3][e]));
    }
  }

 private:
  __device__ __forceinline__ static int warp_m() {
    return threadIdx.x / 32 / Tile::WARPS_N * Tile::WARP_M;
  }
  __device__ __forceinline__ static int warp_n() {
    return threadIdx.x / 32 % Tile::WARPS_N * Tile::WARP_N;
  }
  __device__ __forceinline__ static int lane_m() { return threadIdx.x % 32 / 8; }
  __device__ __forceinline__ static int lane_n() { return threadIdx.x % 8; }

  const unsigned char *a_, *b_;  // the tiles in stage 0
  float sum_[THREAD_M][THREAD_N] = {}, partial_[THREAD_M][THREAD_N] = {};
};

template <class Tile>
using Product = std::conditional_t<std::is_same_v<typename Tile::Operand, float>, FfmaProduct<Tile>,
                                   TensorCoreProduct<Tile>>;

}  // namespace vgg::sm80
