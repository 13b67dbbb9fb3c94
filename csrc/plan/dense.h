// Dense layers with kernels/sm90/dense.cuh.

#pragma once

#include "ops.h"

namespace vgg {

// Whether there is a kernel for the layer. C must be a multiple of 8.
bool has_dense(const Linear& op, const ArchSpec& arch);

Plan plan_dense(const Linear& op, const ArchSpec& arch);
bool is_dense(const Plan& plan);
void run_dense(const Linear& op, const Plan& plan, const LinearArrays& arrays, Executor& executor);

}  // namespace vgg
