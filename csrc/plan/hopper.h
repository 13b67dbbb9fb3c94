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

// Whether there is a kernel for the convolution. C and K must be multiples of 64.
bool has_hopper(const Conv3x3& op, const ArchSpec& arch);

std::vector<Option> hopper_options(const Conv3x3& op, const ArchSpec& arch);

// Plans `variant`, which must be usable; if it is empty, the usable variant with the least
// estimate.
Plan plan_hopper(const Conv3x3& op, const ArchSpec& arch, const std::string& variant);

void run_hopper(const Conv3x3& op, const Plan& plan, const Conv3x3Arrays& arrays,
                Executor& executor);

// Whether this is the name of a variant of these kernels.
bool is_hopper(const std::string& variant);

// Rates of an SM per clock cycle: multiply-adds, bytes read from or written to shared memory, bytes
// from the L2 cache while all SMs load. They come from data sheets and publications: no GPU was
// timed for them.
constexpr double HOPPER_MACS = 2048, HOPPER_PORT_BYTES = 128, HOPPER_L2_BYTES = 26;

}  // namespace vgg
