// Properties of a GPU that plans depend on.

#pragma once

#include <string>
#include <vector>

namespace vgg {

struct ArchSpec {
  std::string name;          // "sm_80"
  int sm_count;              // of the device, or of the largest GPU with that name
  int smem_per_block_bytes;  // most shared memory that one block may request
  int smem_per_sm_bytes;
  int threads_per_sm;
};

// Returns the spec of "sm_80" etc. with the SM count of its largest GPU. Throws
// std::invalid_argument with the known names for any other name.
ArchSpec arch_spec(const std::string& name);
std::vector<std::string> arch_names();

// Returns the spec of a device. An unknown GPU gets the spec of the newest known GPU that is not
// newer. Throws std::invalid_argument for a GPU older than sm_80.
ArchSpec device_arch(int major, int minor, int sm_count);

// Whether a device of that compute capability can run plans for `arch`.
bool can_run(const ArchSpec& arch, int major, int minor);

}  // namespace vgg
