// Adaptive average pooling to grid x grid.
//
// A thread averages SIZE neighbouring channels of one bin (n, i, j), and a block the next THREADS
// of such packs in y's order, so that a warp reads and writes whole lines. Nothing is shared.
// Loop invariant: `sum` holds the float32 sum of the pixels of the bin visited so far, row by row,
// so that the order of additions is fixed.

#include "kernels/fast_divmod.cuh"
#include "kernels/params.h"
#include "kernels/smxx/element.cuh"

namespace vgg::smxx {

struct Bin {
  int begin, end;  // [floor(i length / grid), ceil((i + 1) length / grid))
  __device__ __forceinline__ Bin(int i, int length, const FastDivmod& grid)
      : begin(divide(i * length, grid)), end(divide((i + 1) * length - 1, grid) + 1) {}
};

template <class T, int SIZE>
__device__ __forceinline__ void avgpool(const AvgPoolParams& p) {
  const int pack = blockIdx.x * AvgPoolParams::THREADS + threadIdx.x;
  if (pack >= p.packs) return;
  int c, i, j;
  const int bin = divide(pack, p.pixel_packs, c);
  const int64_t n = divide(divide(bin, p.grid, j), p.grid, i);
  const Bin rows(i, p.H, p.grid), columns(j, p.W, p.grid);

  const T* x = static_cast<const T*>(p.x) + n * p.H * p.W * p.C + c * SIZE;  // [H, W, C]
  T* y = static_cast<T*>(p.y) + static_cast<int64_t>(pack) * SIZE;           // [SIZE]
  float sum[SIZE] = {};
  for (int h = rows.begin; h < rows.end; ++h) {
    for (int w = columns.begin; w < columns.end; ++w) {
      const auto pixel = load<SIZE>(x + (static_cast<int64_t>(h) * p.W + w) * p.C);
#pragma unroll
      for (int k = 0; k < SIZE; ++k) sum[k] += to_float(pixel.e[k]);
    }
  }

  const float count =
      static_cast<float>(rows.end - rows.begin) * static_cast<float>(columns.end - columns.begin);
  Pack<T, SIZE> out;
#pragma unroll
  for (int k = 0; k < SIZE; ++k) out.e[k] = from_float<T>(sum[k] / count);
  store(y, out);
}

#define AVGPOOL(NAME, T, SIZE)                                         \
  extern "C" __global__ void __launch_bounds__(AvgPoolParams::THREADS) \
      NAME(const __grid_constant__ AvgPoolParams p) {                  \
    avgpool<T, SIZE>(p);                                               \
  }

AVGPOOL(avgpool_f32_v4, float, 4)
AVGPOOL(avgpool_f32_v1, float, 1)
AVGPOOL(avgpool_f16_v8, __half, 8)
AVGPOOL(avgpool_f16_v1, __half, 1)
AVGPOOL(avgpool_bf16_v8, __nv_bfloat16, 8)
AVGPOOL(avgpool_bf16_v1, __nv_bfloat16, 1)

}  // namespace vgg::smxx
