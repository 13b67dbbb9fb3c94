// Variants of the kernels of sm90/persistent_conv.cuh for a convolution, and their estimates.

#pragma once

#include <string>
#include <vector>

#include "ops.h"
#include "plan/hopper_kernels.h"

namespace vgg {

// A kernel and the number of splits, blocks beside each other that add the channels of x.
struct HopperVariant {
  static constexpr int CHANNELS = 64;  // of a step

  const HopperKernel* kernel;
  int split_k;

  std::string name() const;  // "halo_m128n64_split2", "swap_ab_rows2_c2_split3"

  // Steps of 64 channels that a split walks; the last split may walk fewer.
  int chunks(const Conv3x3& op) const {
    return static_cast<int>(ceil_div(op.C / CHANNELS, split_k));
  }
};

// All variants that have a name, usable or not. A second launch pools split sums.
std::vector<HopperVariant> hopper_variants(const Conv3x3& op);

HopperVariant hopper_variant(const Conv3x3& op, const std::string& name);

// Returns the variant's need that the convolution or the GPU does not meet; empty: it can be used.
std::string obstacle(const Conv3x3& op, const HopperVariant& variant, const ArchSpec& arch);

// How images are cut: units of work, of each split, and the clusters that take them.
struct HopperCut {
  int64_t units, clusters;
};
HopperCut cut(const Conv3x3& op, const HopperVariant& variant, const ArchSpec& arch);

// Bytes that a cluster loads for 64 channels of a unit.
int chunk_bytes(const HopperKernel& kernel);

Estimate estimate(const Conv3x3& op, const HopperVariant& variant, const ArchSpec& arch);

}  // namespace vgg
