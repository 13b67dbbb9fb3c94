#include "plan/hopper.h"

#include <algorithm>
#include <limits>
#include <stdexcept>

namespace vgg {

namespace {

constexpr double LAUNCH_CYCLES = 4000;  // of the second launch that adds splits; rough

constexpr const HopperFamily* FAMILIES[] = {&HALO, &SWAP_AB};

const HopperFamily* family_of(const std::string& variant) {
  for (const HopperFamily* family : FAMILIES) {
    if (variant.rfind(std::string(family->name) + '_', 0) == 0) return family;
  }
  return nullptr;
}

}  // namespace

bool has_hopper(const Conv3x3& op, const ArchSpec& arch) {
  const bool dtype = op.dtype == DType::float16 || op.dtype == DType::bfloat16;
  return arch.name == "sm_90a" && dtype && op.x_dtype == op.dtype && op.aligned && op.C % 64 == 0 &&
         op.K % 64 == 0;
}

std::vector<Option> hopper_options(const Conv3x3& op, const ArchSpec& arch) {
  std::vector<Option> all;
  for (const HopperFamily* family : FAMILIES) {
    for (Option& option : family->options(op, arch)) all.push_back(std::move(option));
  }
  return all;
}

Plan plan_hopper(const Conv3x3& op, const ArchSpec& arch, const std::string& variant) {
  std::string best = variant;
  double least = std::numeric_limits<double>::infinity();
  for (const Option& option : hopper_options(op, arch)) {
    if (!variant.empty() || !option.obstacle.empty() || option.cycles >= least) continue;
    least = option.cycles;
    best = option.variant;
  }
  return family_of(best)->plan(op, arch, best);
}

void run_hopper(const Conv3x3& op, const Plan& plan, const Conv3x3Arrays& arrays,
                Executor& executor) {
  family_of(plan.variant)->run(op, plan, arrays, executor);
}

bool is_hopper(const std::string& variant) { return family_of(variant) != nullptr; }

double hopper_cycles(double wgmma_macs, int n, double shared_bytes, double l2_bytes) {
  const double products = wgmma_macs / HOPPER_MACS;
  const double port = (products * (64.0 + 4096.0 / n) + shared_bytes) / HOPPER_PORT_BYTES;
  return std::max({products, port, l2_bytes / HOPPER_L2_BYTES});
}

std::vector<int> hopper_splits(const Conv3x3& op) {
  std::vector<int> splits = {1};
  // The second launch counts elements in int32.
  if (int64_t{op.N} * op.H * op.W * op.K > std::numeric_limits<int32_t>::max() / 2) return splits;
  const int chunks = op.C / 64;
  for (int split = 2; split <= chunks; ++split) {
    if (ceil_div(chunks, ceil_div(chunks, split)) == split) splits.push_back(split);
  }
  return splits;
}

double hopper_split_cycles(const Conv3x3& op, int split_k, const ArchSpec& arch) {
  if (split_k == 1) return 0;
  const double sums = 1.0 * split_k * op.N * op.H * op.W * op.K;
  return LAUNCH_CYCLES + 2 * sums * sizeof(float) / arch.sm_count / HOPPER_L2_BYTES;
}

}  // namespace vgg
