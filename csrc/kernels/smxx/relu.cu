// ReLU of an array of any shape.
//
// A thread takes SIZE neighbouring elements at a time and strides over the array; nothing is
// shared. The result may be written over the input.

#include "launch.cuh"

namespace vgg {
namespace smxx {

constexpr int THREADS = 256;
constexpr int64_t MAX_BLOCKS = 1 << 16;

template <class T, int SIZE>
__global__ void __launch_bounds__(THREADS) relu_kernel(const Relu op) {
  const T* x = static_cast<const T*>(op.x);  // [size]
  T* y = static_cast<T*>(op.y);              // [size]
  const int64_t stride = static_cast<int64_t>(gridDim.x) * THREADS * SIZE;
  int64_t i = (static_cast<int64_t>(blockIdx.x) * THREADS + threadIdx.x) * SIZE;
  for (; i < op.size; i += stride) {
    auto pack = load<SIZE>(x + i);
#pragma unroll
    for (int j = 0; j < SIZE; ++j) pack.e[j] = from_float<T>(relu_nan(to_float(pack.e[j])));
    store(y + i, pack);
  }
}

}  // namespace smxx

void relu(const Relu& op, Stream stream) {
  smxx::with_type(op.dtype, [&](auto element) {
    using T = decltype(element);
    smxx::with_vector<T>(smxx::vectorizable<T>(op.size, op.x, op.y), [&](auto size) {
      constexpr int SIZE = decltype(size)::value;
      const int64_t blocks = (op.size / SIZE + smxx::THREADS - 1) / smxx::THREADS;
      const int grid = static_cast<int>(blocks < smxx::MAX_BLOCKS ? blocks : smxx::MAX_BLOCKS);
      smxx::relu_kernel<T, SIZE><<<grid, smxx::THREADS, 0, stream>>>(op);
    });
  });
  smxx::check_launch("relu");
}

}  // namespace vgg
