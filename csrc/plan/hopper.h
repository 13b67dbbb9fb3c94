// Convolutions by kernels/sm90/persistent_conv.cuh: the variants, and the choice among them.

#pragma once

#include <string>
#include <vector>

#include "ops.h"

namespace vgg {

// A way to launch a convolution.
struct Option {
  std::string variant;   // "halo_m256n128_c2"
  std::string obstacle;  // what the variant needs and the convolution lacks; empty: it can be used
  double cycles;         // of the busiest SM, estimated
};

// All variants that have a name; none if these kernels cannot compute the convolution on any GPU:
// C and K must be multiples of 64.
std::vector<Option> hopper_options(const Conv3x3& op, const ArchSpec& arch);

// The usable variant with the least estimate; empty if none is usable.
std::string fastest(const std::vector<Option>& options);

// Plans `variant`, which must be usable.
Plan plan_hopper(const Conv3x3& op, const ArchSpec& arch, const std::string& variant);

void run_hopper(const Conv3x3& op, const Plan& plan, const Conv3x3Arrays& arrays,
                Executor& executor);

// Whether this is the name of a variant of these kernels.
bool is_hopper(const std::string& variant);

}  // namespace vgg
