// y = relu(pool(x' w^T) + bias), where x' is x or its im2col form: 3x3 convolutions and dense
// layers.
//
// One block computes a tile of BLOCK_M pixels x BLOCK_N channels, over GEMM_K or one split of it.
// All threads load, with cp.async, into a ring of STAGES tiles of BLOCK_K columns, and all warps
// multiply. Loop invariant: on entry to step i, this thread has started its copies of steps up to
// i + STAGES - 2, one group for each step; stage i % STAGES is the next to be multiplied; and the
// product holds the sums over all columns before step i.

#pragma once

#include "kernels/sm80/epilogue.cuh"
#include "kernels/sm80/loaders.cuh"
#include "kernels/sm80/products.cuh"

namespace vgg::sm80 {

enum class Rows { dense, im2col, gathered };  // loaders of the rows of x', see loaders.cuh

__host__ __device__ constexpr int same_row(int row) { return row; }

template <class Tile, Rows ROWS, bool POOL>
__device__ __forceinline__ void gemm(const GemmParams& p) {
  using Mma = Product<Tile>;
  using Weights = DenseRows<Tile, Tile::BLOCK_N, Mma::channel_of_row>;
  constexpr int STAGES = Tile::STAGES, STAGE_BYTES = Tile::A_BYTES + Tile::B_BYTES;
  constexpr int COLUMNS = Tile::BLOCK_K;
  extern __shared__ __align__(128) unsigned char smem[];  // [STAGES][A, B]

  // Blocks with the same pixels and different channels are neighbours: they share x in the L2
  // cache.
  int n_tile;
  const int m0 = divide(blockIdx.x, p.n_tiles, n_tile) * Tile::BLOCK_M;
  const int n0 = n_tile * Tile::BLOCK_N;
  const int split = blockIdx.y, first_step = split * p.steps;
  const int steps = min(p.steps, (p.gemm_k + COLUMNS - 1) / COLUMNS - first_step);

  auto pixels = [&] {
    const int k0 = first_step * COLUMNS;
    if constexpr (ROWS == Rows::gathered) {
      return GatheredRows<Tile, Mma, POOL>(p, smem, m0, k0);
    } else if constexpr (ROWS == Rows::im2col) {
      return Im2colRows<Tile, Mma, POOL>(p, smem, m0, k0);
    } else {
      return DenseRows<Tile, Tile::BLOCK_M, same_row>(p.x, smem, m0, p.gemm_m, p.gemm_k, p.C, k0);
    }
  }();
  Weights weights(p.w, smem + Tile::A_BYTES, n0, p.K, p.w_stride, p.w_stride, first_step * COLUMNS);
  Mma product(smem, smem + Tile::A_BYTES);

  auto fetch_to_shared = [&](int offset) {
    pixels.fetch(offset);
    weights.fetch(offset);
  };

  for (int step = 0; step < STAGES - 1; ++step) {
    if (step < steps) fetch_to_shared(step * STAGE_BYTES);
    ptx::cp_async_commit();  // @gemm_first_commit: one group for each step, empty or not
  }

  // Offsets in bytes of the stage to multiply and of the stage to fill, which was multiplied
  // before.
  int multiplied = 0, filled = (STAGES - 1) * STAGE_BYTES;
  for (int step = 0; step < steps; ++step) {
    ptx::cp_async_wait<STAGES - 2>();  // @gemm_wait: this thread's copies of the step have arrived
    // The copies of all threads have arrived, and no warp still reads the stage that is filled
    // next.
    __syncthreads();  // @gemm_barrier
    if (step + STAGES - 1 < steps) fetch_to_shared(filled);
    ptx::cp_async_commit();  // @gemm_commit
    product.multiply(multiplied);
    if constexpr (Mma::PARTIAL_SUM > 0) {
      if ((step + 1) % (Mma::PARTIAL_SUM / COLUMNS) == 0) product.add_partial_sums();
    }
    filled = multiplied;
    // @gemm_next_stage
    multiplied = multiplied + STAGE_BYTES == STAGES * STAGE_BYTES ? 0 : multiplied + STAGE_BYTES;
  }
  ptx::cp_async_wait<0>();                                         // @gemm_last_wait
  if constexpr (Mma::PARTIAL_SUM > 0) product.add_partial_sums();  // @gemm_last_sums

  if constexpr (!POOL) {
    if (p.partial != nullptr) return write_partial<Tile>(p, m0, n0, split, product);
  }
  write_tile<Tile, POOL>(p, m0, n0, product);
}

}  // namespace vgg::sm80
