// What a plan knows of a GPU.

#pragma once

#include <string>
#include <vector>

namespace vgg {

struct ArchSpec {
  std::string name;          // "sm_80"
  int sm_count;              // of the device, or of the largest GPU of that name
  int smem_per_block_bytes;  // most shared memory that one block may ask for
  int smem_per_sm_bytes;
  int threads_per_sm;
};

// "sm_80" ... with the SM count of its largest GPU. Throws std::invalid_argument, naming those
// that are known, for another name.
ArchSpec arch_spec(const std::string& name);
std::vector<std::string> arch_names();

// The spec of a device. Throws std::invalid_argument for one older than sm_80; an unknown newer
// one is planned for like the newest known that is not newer than it.
ArchSpec device_arch(int major, int minor, int sm_count);

// May a device of that compute capability run what is planned for `arch`?
bool can_run(const ArchSpec& arch, int major, int minor);

}  // namespace vgg
