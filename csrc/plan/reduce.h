// The second launch of a split matrix product, kernels/sm80/reduce.cu: y = relu(pool(sum over
// splits) + bias).

#pragma once

#include <cstdint>

#include "ops.h"

namespace vgg {

struct Reduce {
  DType dtype;   // of y
  int64_t size;  // of y
  int H, W, K;   // of the sums [N, H, W, K]
  bool relu, pool;
  bool aligned;  // whether y starts at a multiple of 16 bytes
};

Reduce reduce_of(const Conv3x3& op);
Reduce reduce_of(const Linear& op);

// Adds the launch and its workspace to a plan whose tiling has gemm_m, gemm_n and split_k.
void plan_reduce(const Reduce& op, Plan& plan);

// Runs the launch. workspace is [split_k, gemm_m, gemm_n] float32, bias [packed_bias(K)].
void run_reduce(const Reduce& op, const Plan& plan, const void* workspace, const float* bias,
                void* y, Executor& executor);

}  // namespace vgg
