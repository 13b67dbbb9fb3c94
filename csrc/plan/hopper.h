// Convolutions by the kernels of sm90/: what variants there are, and the choice among them.

#pragma once

#include <string>
#include <vector>

#include "ops.h"

namespace vgg {

// A way to launch a convolution.
struct Option {
  std::string variant;   // "halo_m256n128_c2"
  std::string obstacle;  // what it needs that the convolution lacks; empty where it can be used
  double cycles;         // of the busiest SM, estimated
};

// Those of one kernel; `name` is what the names of its variants begin with.
struct HopperFamily {
  const char* name;
  std::vector<Option> (*options)(const Conv3x3& op, const ArchSpec& arch);
  Plan (*plan)(const Conv3x3& op, const ArchSpec& arch, const std::string& variant);
  void (*run)(const Conv3x3& op, const Plan& plan, const Conv3x3Arrays& arrays, Executor& executor);
};
extern const HopperFamily HALO;     // kernels/sm90/halo.cuh
extern const HopperFamily SWAP_AB;  // kernels/sm90/swap_ab.cuh

// Is there a kernel for it? C and K must be multiples of 64.
bool has_hopper(const Conv3x3& op, const ArchSpec& arch);

std::vector<Option> hopper_options(const Conv3x3& op, const ArchSpec& arch);

// The one whose estimate is least, or `variant`, which can be used.
Plan plan_hopper(const Conv3x3& op, const ArchSpec& arch, const std::string& variant);

void run_hopper(const Conv3x3& op, const Plan& plan, const Conv3x3Arrays& arrays,
                Executor& executor);

// Is that the name of one of these variants?
bool is_hopper(const std::string& variant);

// What an SM does in a clock cycle: multiply-adds, bytes of shared memory that are read or written,
// bytes that come from the L2 cache while all SMs load. From data sheets and what is published: no
// GPU was timed for them.
constexpr double HOPPER_MACS = 2048, HOPPER_PORT_BYTES = 128, HOPPER_L2_BYTES = 26;

// Cycles of `wgmma_macs` by wgmma of n columns, n >= 64, beside which `shared_bytes` are written to
// shared memory and `l2_bytes` come: the slowest of the three that work at the same time.
double hopper_cycles(double wgmma_macs, int n, double shared_bytes, double l2_bytes);

// Into how many parts C may be split, each of whole 64 channels: 1, and where a second launch can
// count the sums those with no empty part.
std::vector<int> hopper_splits(const Conv3x3& op);
// Cycles of that launch, and of the sums on their way to it; none of one part.
double hopper_split_cycles(const Conv3x3& op, int split_k, const ArchSpec& arch);

}  // namespace vgg
