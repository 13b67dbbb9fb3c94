// Sums of wgmma in registers: their places in a tile, and their conversion to elements of y.

#pragma once

#include <cstdint>

#include "kernels/smxx/element.cuh"

namespace vgg::sm90 {

// A thread's place in an accumulator [64, N] of its warpgroup: v[4 j + 2 h + e] is in row
// row() + 8 h and column column() + 8 j + e. PTX ISA, 9.7.15.5.1, "Accumulator D".
struct AccumulatorCoord {
  int lane_id = threadIdx.x % 32, warp_id = threadIdx.x / 32 % 4;  // warp_id: in the warpgroup

  __device__ __forceinline__ int row() const { return 16 * warp_id + lane_id / 4; }
  __device__ __forceinline__ int column() const { return lane_id % 4 * 2; }
  __device__ __forceinline__ static constexpr int index(int j, int h, int e) {
    return 4 * j + 2 * h + e;
  }
};

// relu(first + bias.x) and relu(second + bias.y), rounded, in one register.
template <class T>
__device__ __forceinline__ uint32_t pair(float first, float second, float2 bias, float relu_floor) {
  const smxx::Pack<T, 2> both{
      smxx::from_float<T>(smxx::max_nan(first + bias.x, relu_floor)),  // @relu
      smxx::from_float<T>(smxx::max_nan(second + bias.y, relu_floor))};
  return reinterpret_cast<const uint32_t&>(both);
}

}  // namespace vgg::sm90
