// Convolutions by kernels/sm90/halo.cuh.

#pragma once

#include "ops.h"

namespace vgg {

// Is there a kernel for it? C and K must be multiples of 64.
bool has_halo(const Conv3x3& op, const ArchSpec& arch);

Plan plan_halo(const Conv3x3& op, const ArchSpec& arch);
void run_halo(const Conv3x3& op, const Plan& plan, const Conv3x3Arrays& arrays, Executor& executor);

}  // namespace vgg
