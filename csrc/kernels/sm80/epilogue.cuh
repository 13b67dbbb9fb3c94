// Epilogue, from sums in registers to y: pool, bias, ReLU, rounding, stores. It uses no shared
// memory and no barrier.

#pragma once

#include <math_constants.h>

#include "kernels/params.h"
#include "kernels/sm80/products.cuh"
#include "kernels/smxx/element.cuh"
#include "ptx/arithmetic.cuh"

namespace vgg::sm80 {

// Stores WIDTH neighbouring elements of a row that starts at `row`; elements beyond K are left out.
template <int WIDTH, class T>
__device__ __forceinline__ void store_row(T* row /* [K] */, int channel, int K, bool vector,
                                          const float (&v)[WIDTH]) {
  constexpr int ACCESS = WIDTH * sizeof(T) < 16 ? WIDTH : 16 / sizeof(T);
#pragma unroll
  for (int part = 0; part < WIDTH; part += ACCESS) {
    smxx::Pack<T, ACCESS> pack;
#pragma unroll
    for (int e = 0; e < ACCESS; ++e) pack.e[e] = smxx::from_float<T>(v[part + e]);
    if (vector) {  // K is a multiple of WIDTH
      smxx::store(row + channel + part, pack);
    } else {
#pragma unroll
      for (int e = 0; e < ACCESS; ++e) {
        if (channel + part + e < K) row[channel + part + e] = pack.e[e];
      }
    }
  }
}

template <int WIDTH>
__device__ __forceinline__ void add_bias(float (&v)[WIDTH], const float (&bias)[WIDTH], int relu) {
  const float relu_floor = relu ? 0.0f : -CUDART_INF_F;
#pragma unroll
  for (int e = 0; e < WIDTH; ++e) v[e] = ptx::max_nan(v[e] + bias[e], relu_floor);  // @relu
}

// Writes a tile of y. max(relu(v + bias)) over a window is relu(max(v) + bias), so that sums are
// pooled first, before rounding; a quarter of the work is left.
template <class Tile, bool POOL, class Params>
__device__ __forceinline__ void write_tile(const Params& p, int m0, int n0,
                                           const Product<Tile>& product) {
  using T = typename Tile::T;
  using P = Product<Tile>;
  constexpr int WIDTH = POOL ? P::POOLED_WIDTH : P::WIDTH;
  const int first_row = POOL ? m0 / 4 : m0, rows = POOL ? p.gemm_m / 4 : p.gemm_m;
#pragma unroll
  for (int group = 0; group < P::GROUPS; ++group) {
    const int channel = n0 + (POOL ? product.pooled_channel(group) : product.channel(group));
    float bias[WIDTH];
#pragma unroll
    for (int e = 0; e < WIDTH; e += 4) {  // the bias is padded to a multiple of 8
      const auto four =
          // @bias_load
          channel < p.K ? smxx::load<4>(p.bias + channel + e) : smxx::Pack<float, 4>{};
#pragma unroll
      for (int i = 0; i < 4; ++i) bias[e + i] = four.e[i];
    }
#pragma unroll
    for (int r = 0; r < (POOL ? P::POOLED_ROWS : P::ROWS); ++r) {
      float v[WIDTH];
      int row = first_row;
      if constexpr (POOL) {
        product.pooled_values(group, r, v);
        row += product.pooled_row(r);
      } else {
        product.values(group, r, v);
        row += product.row(r);
      }
      add_bias(v, bias, p.relu);
      if (row < rows && channel < p.K) {  // @store_test
        store_row<WIDTH>(static_cast<T*>(p.y) + static_cast<int64_t>(row) * p.K, channel, p.K,
                         p.vector_y, v);
      }
    }
  }
}

// Writes the sums of one split, which the second launch adds.
template <class Tile>
__device__ __forceinline__ void write_partial(const GemmParams& p, int m0, int n0, int split,
                                              const Product<Tile>& product) {
  using P = Product<Tile>;
  // @split_offset
  float* partial = p.partial + static_cast<int64_t>(split) * p.gemm_m * p.K;  // [GEMM_M, K]
#pragma unroll
  for (int group = 0; group < P::GROUPS; ++group) {
    const int channel = n0 + product.channel(group);
#pragma unroll
    for (int r = 0; r < P::ROWS; ++r) {
      const int row = m0 + product.row(r);
      float v[P::WIDTH];
      product.values(group, r, v);
      if (row < p.gemm_m && channel < p.K) {
        store_row<P::WIDTH>(partial + static_cast<int64_t>(row) * p.K, channel, p.K,
                            p.K % P::WIDTH == 0, v);
      }
    }
  }
}

}  // namespace vgg::sm80
