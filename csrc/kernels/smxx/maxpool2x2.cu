// Max-pooling, 2x2, stride 2.
//
// One block reduces one output row (n, p), or where that row is long a part of it; a thread takes
// SIZE neighbouring channels of one output pixel at a time and strides over the row. Nothing is
// shared: all four inputs of an output are read by the thread that writes it, and an input is
// read once. A last row or column of odd length is left out.

#include "launch.cuh"

namespace vgg {
namespace smxx {

constexpr int THREADS = 256;

template <class T, int SIZE>
__global__ void __launch_bounds__(THREADS) maxpool2x2_kernel(const MaxPool2x2 op) {
  const int P = op.H / 2, Q = op.W / 2;
  const int n = blockIdx.x / P, p = blockIdx.x % P;
  const int packs = op.C / SIZE;                             // per pixel
  const int64_t row_in = static_cast<int64_t>(op.W) * op.C;  // elements
  const T* x = static_cast<const T*>(op.x) +                 // [2, W, C]: rows 2p, 2p + 1
               (static_cast<int64_t>(n) * op.H + 2 * p) * row_in;
  T* y = static_cast<T*>(op.y) + static_cast<int64_t>(blockIdx.x) * Q * op.C;  // [Q, C]

  const int stride = THREADS * gridDim.y;
  for (int i = blockIdx.y * THREADS + threadIdx.x; i < Q * packs; i += stride) {
    const int q = i / packs, c = i % packs * SIZE;
    const T* window = x + static_cast<int64_t>(2 * q) * op.C + c;
    const Pack<T, SIZE> top_left = load<SIZE>(window);
    const Pack<T, SIZE> top_right = load<SIZE>(window + op.C);
    const Pack<T, SIZE> bottom_left = load<SIZE>(window + row_in);
    const Pack<T, SIZE> bottom_right = load<SIZE>(window + row_in + op.C);
    Pack<T, SIZE> out;
#pragma unroll
    for (int j = 0; j < SIZE; ++j) {
      const float top = max_nan(to_float(top_left.e[j]), to_float(top_right.e[j]));
      const float bottom = max_nan(to_float(bottom_left.e[j]), to_float(bottom_right.e[j]));
      out.e[j] = from_float<T>(max_nan(top, bottom));
    }
    store(y + static_cast<int64_t>(q) * op.C + c, out);
  }
}

}  // namespace smxx

void maxpool2x2(const MaxPool2x2& op, Stream stream) {
  smxx::with_type(op.dtype, [&](auto element) {
    using T = decltype(element);
    smxx::with_vector<T>(smxx::vectorizable<T>(op.C, op.x, op.y), [&](auto size) {
      constexpr int SIZE = decltype(size)::value;
      const int parts = smxx::ceil_div(op.W / 2 * (op.C / SIZE), 4 * smxx::THREADS);
      const dim3 grid(op.N * (op.H / 2), parts < 65535 ? parts : 65535);
      smxx::maxpool2x2_kernel<T, SIZE><<<grid, smxx::THREADS, 0, stream>>>(op);
    });
  });
  smxx::check_launch("maxpool2x2");
}

}  // namespace vgg
