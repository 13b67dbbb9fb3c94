// Second launch of a split matrix product: y = relu(pool(sum over splits) + bias).
//
// A thread computes WIDTH neighbouring channels of one row of y (with pool: the greatest of four
// sums for each channel); neighbouring threads take neighbouring channels. Splits are added in
// order, so that the same input gives the same bits.

#include <math_constants.h>

#include "kernels/fast_divmod.cuh"
#include "kernels/params.h"
#include "kernels/smxx/element.cuh"

namespace vgg::sm80 {

// Returns the sums of WIDTH channels from element `at` of [rows, K].
template <int WIDTH>
__device__ __forceinline__ smxx::Pack<float, WIDTH> sum_of_splits(const ReduceParams& p,
                                                                  int64_t at) {
  smxx::Pack<float, WIDTH> sum{};
  for (int split = 0; split < p.split_k; ++split) {  // @splits_loop
    const auto partial = smxx::load<WIDTH>(p.partial + split * p.size + at);
#pragma unroll
    for (int e = 0; e < WIDTH; ++e) sum.e[e] += partial.e[e];
  }
  return sum;
}

template <class T, int WIDTH>
__device__ __forceinline__ void reduce(const ReduceParams& p) {
  const int i = blockIdx.x * ReduceParams::THREADS + threadIdx.x;
  if (i >= p.packs) return;
  int k;
  const int row = divide(i, p.row_packs, k);
  k *= WIDTH;
  smxx::Pack<float, WIDTH> sum;
  if (p.pool) {
    int p_row, q;
    const int n = divide(divide(row, p.Q, q), p.P, p_row);
    const int64_t right = p.K, below = static_cast<int64_t>(p.W) * p.K;
    const int64_t first = ((static_cast<int64_t>(n) * p.H + 2 * p_row) * p.W + 2 * q) * p.K + k;
    sum = smxx::max_nan(
        smxx::max_nan(sum_of_splits<WIDTH>(p, first), sum_of_splits<WIDTH>(p, first + right)),
        smxx::max_nan(sum_of_splits<WIDTH>(p, first + below),
                      sum_of_splits<WIDTH>(p, first + below + right)));
  } else {
    sum = sum_of_splits<WIDTH>(p, static_cast<int64_t>(row) * p.K + k);
  }
  const float relu_floor = p.relu ? 0.0f : -CUDART_INF_F;
  smxx::Pack<T, WIDTH> out;
#pragma unroll
  for (int e = 0; e < WIDTH; ++e) {
    out.e[e] = smxx::from_float<T>(smxx::max_nan(sum.e[e] + p.bias[k + e], relu_floor));
  }
  smxx::store(static_cast<T*>(p.y) + static_cast<int64_t>(row) * p.K + k, out);
}

#define REDUCE(NAME, T, WIDTH)                                        \
  extern "C" __global__ void __launch_bounds__(ReduceParams::THREADS) \
      NAME(const __grid_constant__ ReduceParams p) {                  \
    reduce<T, WIDTH>(p);                                              \
  }
#include "kernels/sm80/reduce.def"

}  // namespace vgg::sm80
