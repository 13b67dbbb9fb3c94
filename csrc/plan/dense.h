// Dense layers with kernels/sm90/dense.cuh.

#pragma once

#include <string>
#include <vector>

#include "ops.h"

namespace vgg {

// Whether there is a kernel for the layer. C must be a multiple of 8.
bool has_dense(const Linear& op, const ArchSpec& arch);

// Names of the variants, and whether a name is that of one; none without a kernel.
std::vector<std::string> dense_variants(const Linear& op, const ArchSpec& arch);
bool is_dense(const std::string& variant);

// Plans `variant`; if it is empty, the one with the least estimate.
Plan plan_dense(const Linear& op, const ArchSpec& arch, const std::string& variant);
void run_dense(const Linear& op, const Plan& plan, const LinearArrays& arrays, Executor& executor);

}  // namespace vgg
