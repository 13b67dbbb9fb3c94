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
  bool aligned;  // does y start at a multiple of 16 bytes?
};

Reduce reduce_of(const Conv3x3& op);
Reduce reduce_of(const Linear& op);

// Adds it to a plan whose tiling says gemm_m, gemm_n and split_k, with the workspace that it needs.
void plan_reduce(const Reduce& op, Plan& plan);

// Runs it: workspace [split_k, gemm_m, gemm_n] float32, bias [packed_bias(K)].
void run_reduce(const Reduce& op, const Plan& plan, const void* workspace, const float* bias,
                void* y, Executor& executor);

}  // namespace vgg
