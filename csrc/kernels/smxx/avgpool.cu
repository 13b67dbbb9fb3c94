// Adaptive average pooling to grid x grid.
//
// One block averages one bin (n, i, j); a thread takes SIZE neighbouring channels at a time and
// strides over C. Loop invariant: `sum` holds the float32 sum of the pixels of the bin visited so
// far, row by row, so that the order of additions is fixed.

#include "launch.cuh"

namespace vgg {
namespace smxx {

constexpr int THREADS = 128;

struct Bin {
  int begin, end;  // [floor(i length / grid), ceil((i + 1) length / grid))
  __device__ Bin(int i, int length, int grid)
      : begin(static_cast<int>(static_cast<int64_t>(i) * length / grid)),
        end(static_cast<int>((static_cast<int64_t>(i + 1) * length + grid - 1) / grid)) {}
};

template <class T, int SIZE>
__global__ void __launch_bounds__(THREADS) avgpool_kernel(const AvgPool op) {
  const int j = blockIdx.x % op.grid, i = blockIdx.x / op.grid % op.grid;
  const int64_t n = blockIdx.x / op.grid / op.grid;
  const Bin rows(i, op.H, op.grid), columns(j, op.W, op.grid);
  const float count =
      static_cast<float>(rows.end - rows.begin) * static_cast<float>(columns.end - columns.begin);
  const T* x = static_cast<const T*>(op.x) + n * op.H * op.W * op.C;       // [H, W, C]
  T* y = static_cast<T*>(op.y) + static_cast<int64_t>(blockIdx.x) * op.C;  // [C]

  for (int c = threadIdx.x * SIZE; c < op.C; c += THREADS * SIZE) {
    float sum[SIZE] = {};
    for (int h = rows.begin; h < rows.end; ++h) {
      for (int w = columns.begin; w < columns.end; ++w) {
        const auto pixel = load<SIZE>(x + (static_cast<int64_t>(h) * op.W + w) * op.C + c);
#pragma unroll
        for (int k = 0; k < SIZE; ++k) sum[k] += to_float(pixel.e[k]);
      }
    }
    Pack<T, SIZE> out;
#pragma unroll
    for (int k = 0; k < SIZE; ++k) out.e[k] = from_float<T>(sum[k] / count);
    store(y + c, out);
  }
}

}  // namespace smxx

void avgpool(const AvgPool& op, Stream stream) {
  smxx::with_type(op.dtype, [&](auto element) {
    using T = decltype(element);
    smxx::with_vector<T>(smxx::vectorizable<T>(op.C, op.x, op.y), [&](auto size) {
      constexpr int SIZE = decltype(size)::value;
      const int bins = op.N * op.grid * op.grid;
      smxx::avgpool_kernel<T, SIZE><<<bins, smxx::THREADS, 0, stream>>>(op);
    });
  });
  smxx::check_launch("avgpool");
}

}  // namespace vgg
