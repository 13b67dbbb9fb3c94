// The first convolution: y = relu(pool(conv(x scale + shift, w)) + bias) for x of three channels,
// uint8 or floating-point.
//
// One block computes BLOCK_M pixels x BLOCK_N channels in a single step, since GEMM_K = 27 is
// shorter than BLOCK_K. Thread i builds row i of A: it reads the 27 values under the filter,
// normalises and rounds them, and stores them to shared memory. The weights are copied to shared
// memory at the same time. Most of the time goes into writing y.

#pragma once

#include "kernels/sm80/epilogue.cuh"
#include "kernels/sm80/loaders.cuh"
#include "kernels/sm80/products.cuh"

namespace vgg::sm80 {

// Builds row `row` of the tile of A, columns (3 r + s) 3 + c.
template <class Tile, class Source>
__device__ __forceinline__ void gather_row(const FirstParams& p, unsigned char* a_smem, int row,
                                           const Pixel& pixel) {
  using T = typename Tile::T;
  constexpr int CHANNELS = 3;
  smxx::Pack<T, Tile::CHUNK> chunks[Tile::ROW_CHUNKS] = {};
#pragma unroll
  for (int tap = 0; tap < 9; ++tap) {
    const int64_t index = pixel.index + static_cast<int64_t>(tap / 3 - 1) * p.W + tap % 3 - 1;
    const Source* from = static_cast<const Source*>(p.x) + index * CHANNELS;  // [3]
#pragma unroll
    for (int c = 0; c < CHANNELS; ++c) {
      T& to = chunks[(tap * CHANNELS + c) / Tile::CHUNK].e[(tap * CHANNELS + c) % Tile::CHUNK];
      to = smxx::from_float<T>(0.0f);  // padding is zero after normalisation, not before
      if (pixel.inside >> tap & 1) {
        const float value = smxx::to_float(from[p.reversed ? CHANNELS - 1 - c : c]);
        to = smxx::from_float<T>(fmaf(value, p.scale[c], p.shift[c]));
      }
    }
  }
#pragma unroll
  for (int chunk = 0; chunk < Tile::ROW_CHUNKS; ++chunk) {
    smxx::store(reinterpret_cast<T*>(a_smem + Tile::place(row, chunk)), chunks[chunk]);
  }
}

template <class Tile, bool POOL>
__device__ __forceinline__ void first_convolution(const FirstParams& p) {
  using Mma = Product<Tile>;
  static_assert(Tile::THREADS == Tile::BLOCK_M && Tile::BLOCK_K >= 27 && Tile::STAGES == 1);
  __shared__ __align__(128) unsigned char smem[Tile::A_BYTES + Tile::B_BYTES];

  int n_tile;
  const int m0 = divide(blockIdx.x, p.n_tiles, n_tile) * Tile::BLOCK_M;
  const int n0 = n_tile * Tile::BLOCK_N;

  DenseRows<Tile, Tile::BLOCK_N, Mma::channel_of_row>(p.w, smem + Tile::A_BYTES, n0, p.K,
                                                      p.w_stride, p.w_stride, 0)
      .fetch(0);
  ptx::cp_async_commit();

  const Pixel pixel = pixel_of_row<Mma, POOL>(p, m0, threadIdx.x);
  if (p.x_dtype == DType::uint8) {
    gather_row<Tile, uint8_t>(p, smem, threadIdx.x, pixel);
  } else if (p.x_dtype == DType::float32) {
    gather_row<Tile, float>(p, smem, threadIdx.x, pixel);
  } else {
    gather_row<Tile, typename Tile::T>(p, smem, threadIdx.x, pixel);
  }
  ptx::cp_async_wait<0>();  // @first_wait
  __syncthreads();          // @first_barrier: both tiles are written before they are read

  Mma product(smem, smem + Tile::A_BYTES);
  product.multiply(0);
  product.add_partial_sums();
  write_tile<Tile, POOL>(p, m0, n0, product);
}

}  // namespace vgg::sm80
