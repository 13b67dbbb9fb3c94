// Conversion of layout, NCHW <-> NHWC, and of dtype.
//
// convert: one block transposes one tile of TILE elements of one matrix x[n]. The tile is 32 x 32,
// or longer and narrower if x has few rows or columns (3 colour channels), so that a warp loads and
// stores whole lines. All threads load in the order of x and store in the order of y, through
// shared memory, where the tile is float32 with its shorter axis first. The pitch of the shorter
// axis' lines is a multiple of 32 banks plus 32 / (number of lines), so that neither order has bank
// conflicts.
//
// cast: a thread converts ITEMS elements, THREADS apart; threads share nothing.

#include "kernels/fast_divmod.cuh"
#include "kernels/params.h"
#include "kernels/smxx/element.cuh"

namespace vgg::smxx {

template <class X, class Y>
__device__ __forceinline__ void convert(const ConvertParams& p) {
  constexpr int THREADS = ConvertParams::THREADS, TILE = ConvertParams::TILE, BANKS = 32;
  __shared__ float tile_smem[TILE + BANKS];  // [shorter, longer + BANKS / shorter]
  const int log2_tile_rows = p.log2_tile_rows;
  const int log2_tile_columns = ConvertParams::LOG2_TILE - log2_tile_rows;
  const int tile_rows = 1 << log2_tile_rows, tile_columns = 1 << log2_tile_columns;
  const bool rows_first = tile_rows <= tile_columns;
  const int row_pitch = rows_first ? tile_columns + (BANKS >> log2_tile_rows) : 1;
  const int column_pitch = rows_first ? 1 : tile_rows + (BANKS >> log2_tile_columns);

  int row, column;  // of the tile in x[n]
  const int64_t n = divide(divide(blockIdx.x, p.column_tiles, column), p.row_tiles, row);
  row *= tile_rows;
  column *= tile_columns;
  const int rows = min(tile_rows, p.rows - row), columns = min(tile_columns, p.columns - column);
  const X* x = static_cast<const X*>(p.x) + n * p.rows * p.columns;  // [rows, columns]
  Y* y = static_cast<Y*>(p.y) + n * p.rows * p.columns;              // [columns, rows]
  x += static_cast<int64_t>(row) * p.columns + column;
  y += static_cast<int64_t>(column) * p.rows + row;

#pragma unroll
  for (int e = threadIdx.x; e < TILE; e += THREADS) {
    const int i = e >> log2_tile_columns, j = e & (tile_columns - 1);
    if (i < rows && j < columns) {
      tile_smem[i * row_pitch + j * column_pitch] =
          to_float(x[static_cast<int64_t>(i) * p.columns + j]);
    }
  }
  __syncthreads();  // @convert_barrier: the tile is written before it is read
#pragma unroll
  for (int e = threadIdx.x; e < TILE; e += THREADS) {
    const int i = e & (tile_rows - 1), j = e >> log2_tile_rows;
    if (i < rows && j < columns) {
      y[static_cast<int64_t>(j) * p.rows + i] =
          from_float<Y>(tile_smem[i * row_pitch + j * column_pitch]);
    }
  }
}

template <class X, class Y>
__device__ __forceinline__ void cast(const CastParams& p) {
  constexpr int THREADS = CastParams::THREADS, ITEMS = CastParams::ITEMS;
  const X* x = static_cast<const X*>(p.x);  // [size]
  Y* y = static_cast<Y*>(p.y);              // [size]
  const int64_t first = static_cast<int64_t>(blockIdx.x) * ITEMS * THREADS + threadIdx.x;
  X items[ITEMS];
#pragma unroll
  for (int i = 0; i < ITEMS; ++i) {  // all loads before the first store, to overlap them
    const int64_t at = first + i * THREADS;
    if (at < p.size) items[i] = x[at];
  }
#pragma unroll
  for (int i = 0; i < ITEMS; ++i) {
    const int64_t at = first + i * THREADS;
    if (at < p.size) y[at] = from_float<Y>(to_float(items[i]));
  }
}

#define CONVERT_AND_CAST(X_NAME, X, Y_NAME, Y)                               \
  extern "C" __global__ void __launch_bounds__(ConvertParams::THREADS)       \
      convert_##X_NAME##_##Y_NAME(const __grid_constant__ ConvertParams p) { \
    convert<X, Y>(p);                                                        \
  }                                                                          \
  extern "C" __global__ void __launch_bounds__(CastParams::THREADS)          \
      cast_##X_NAME##_##Y_NAME(const __grid_constant__ CastParams p) {       \
    cast<X, Y>(p);                                                           \
  }

CONVERT_AND_CAST(u8, uint8_t, f32, float)
CONVERT_AND_CAST(u8, uint8_t, f16, __half)
CONVERT_AND_CAST(u8, uint8_t, bf16, __nv_bfloat16)
CONVERT_AND_CAST(f32, float, f32, float)
CONVERT_AND_CAST(f32, float, f16, __half)
CONVERT_AND_CAST(f32, float, bf16, __nv_bfloat16)
CONVERT_AND_CAST(f16, __half, f32, float)
CONVERT_AND_CAST(f16, __half, f16, __half)
CONVERT_AND_CAST(f16, __half, bf16, __nv_bfloat16)
CONVERT_AND_CAST(bf16, __nv_bfloat16, f32, float)
CONVERT_AND_CAST(bf16, __nv_bfloat16, f16, __half)
CONVERT_AND_CAST(bf16, __nv_bfloat16, bf16, __nv_bfloat16)

}  // namespace vgg::smxx
