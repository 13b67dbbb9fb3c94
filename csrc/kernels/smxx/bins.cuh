// Adaptive pooling to grid x grid: the loop over the pixels of a bin, for any reduction.
//
// A thread reduces SIZE neighbouring channels of one bin (n, i, j), and a block the next THREADS
// such packs in the order of y, so that a warp reads and writes whole lines. Threads share nothing.
// Loop invariant: `bin` holds the pixels of the bin visited so far, row by row, so that the order
// of additions is fixed. No bin is empty; if the grid is finer than x, bins repeat pixels.

#pragma once

#include "kernels/fast_divmod.cuh"
#include "kernels/params.h"
#include "kernels/smxx/element.cuh"

namespace vgg::smxx {

struct Bounds {
  int begin, end;  // [floor(i length / grid), ceil((i + 1) length / grid))
  __device__ __forceinline__ Bounds(int i, int length, const FastDivmod& grid)
      : begin(divide(i * length, grid)), end(divide((i + 1) * length - 1, grid) + 1) {}  // @bin_end
  __device__ __forceinline__ int length() const { return end - begin; }
};

// Reduction has `add(pack)` for every pixel, and `result(rows, columns)` for a bin of that size.
template <class Reduction, class T, int SIZE>
__device__ __forceinline__ void reduce_bins(const AdaptivePoolParams& p) {
  const int pack = blockIdx.x * AdaptivePoolParams::THREADS + threadIdx.x;
  if (pack >= p.packs) return;  // @bins_guard
  int c, i, j;
  const int64_t n = divide(divide(divide(pack, p.pixel_packs, c), p.grid, j), p.grid, i);
  const Bounds rows(i, p.H, p.grid), columns(j, p.W, p.grid);

  const T* x = static_cast<const T*>(p.x) + n * p.H * p.W * p.C + c * SIZE;  // [H, W, C]
  T* y = static_cast<T*>(p.y) + static_cast<int64_t>(pack) * SIZE;           // [SIZE]
  Reduction bin;
  for (int h = rows.begin; h < rows.end; ++h) {
    for (int w = columns.begin; w < columns.end; ++w) {
      bin.add(load<SIZE>(x + (static_cast<int64_t>(h) * p.W + w) * p.C));
    }
  }
  store(y, bin.result(rows.length(), columns.length()));
}

// Defines kernel NAME: REDUCTION<T, SIZE> over every bin.
#define POOL_BINS(NAME, REDUCTION, T, SIZE)                                 \
  extern "C" __global__ void __launch_bounds__(AdaptivePoolParams::THREADS) \
      NAME(const __grid_constant__ AdaptivePoolParams p) {                  \
    reduce_bins<REDUCTION<T, SIZE>, T, SIZE>(p);                            \
  }

}  // namespace vgg::smxx
