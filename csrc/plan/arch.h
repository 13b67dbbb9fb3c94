// Properties of a GPU that plans depend on.

#pragma once

#include <string>
#include <vector>

#include "plan/rates.h"

namespace vgg {

// A group of kernels. Each family but `portable` can be switched off, because the portable kernels
// compute the same operations.
enum class Family { portable, halo, swap_ab, dense, fused_conv1_block };

std::string name(Family family);
std::vector<Family> switchable_families();  // all but `portable`

struct ArchSpec {
  std::string name;          // "sm_80"
  int sm_count;              // of the device, or of the largest GPU with that name
  int smem_per_block_bytes;  // most shared memory that one block may request
  int smem_per_sm_bytes;
  int threads_per_sm;
  std::vector<Family> families = {};  // that plans may use beside the portable kernels
  Rates rates = {};

  bool has(Family family) const;
};

// Returns the spec of "sm_80" etc. with the SM count of its largest GPU. Throws
// std::invalid_argument with the known names for any other name.
ArchSpec arch_spec(const std::string& name);
std::vector<std::string> arch_names();

// Returns the spec of a device. An unknown GPU gets the spec of the newest known GPU that is not
// newer. Throws std::invalid_argument for a GPU older than sm_80.
ArchSpec device_arch(int major, int minor, int sm_count);

// Returns a copy without the named families. Throws std::invalid_argument with the names of the
// families that can be switched off for any other name.
ArchSpec without(const ArchSpec& arch, const std::vector<std::string>& families);

// Whether a device of that compute capability can run plans for `arch`.
bool can_run(const ArchSpec& arch, int major, int minor);

}  // namespace vgg
