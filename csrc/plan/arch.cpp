#include "plan/arch.h"

#include <stdexcept>

namespace vgg {

namespace {

// CUDA C++ Programming Guide, "Technical Specifications per Compute Capability". A block may
// request 1 KB less than an SM has.
struct Known {
  int major, minor;
  bool exact;  // "a" targets, whose code runs on no other architecture
  const char* name;
  int sm_count, smem_per_sm_kib, threads_per_sm;
};
constexpr Known KNOWN[] = {
    {8, 0, false, "sm_80", 108, 164, 2048},    // A100
    {8, 6, false, "sm_86", 84, 100, 1536},     // A40, RTX 3090 Ti
    {8, 7, false, "sm_87", 16, 164, 1536},     // Jetson AGX Orin
    {8, 9, false, "sm_89", 142, 100, 1536},    // L40S, RTX 6000 Ada
    {9, 0, false, "sm_90", 132, 228, 2048},    // H100, H200
    {9, 0, true, "sm_90a", 132, 228, 2048},    //
    {10, 0, false, "sm_100", 148, 228, 2048},  // B200
    {10, 3, false, "sm_103", 160, 228, 2048},  // B300
    {12, 0, false, "sm_120", 188, 100, 1536},  // RTX PRO 6000
    {12, 1, false, "sm_121", 48, 100, 1536},   // GB10
};

ArchSpec spec(const Known& known, int sm_count) {
  const int per_sm = known.smem_per_sm_kib * 1024;
  return {known.name, sm_count, per_sm - 1024, per_sm, known.threads_per_sm};
}

const Known* find(const std::string& name) {
  for (const Known& known : KNOWN) {
    if (name == known.name) return &known;
  }
  return nullptr;
}

bool newer(const Known& known, int major, int minor) {
  return known.major > major || (known.major == major && known.minor > minor);
}

}  // namespace

std::vector<std::string> arch_names() {
  std::vector<std::string> names;
  for (const Known& known : KNOWN) names.emplace_back(known.name);
  return names;
}

ArchSpec arch_spec(const std::string& name) {
  if (const Known* known = find(name)) return spec(*known, known->sm_count);
  std::string expected;
  for (const std::string& each : arch_names()) expected += (expected.empty() ? "" : ", ") + each;
  throw std::invalid_argument("arch: expected one of " + expected + ", got '" + name + "'");
}

ArchSpec device_arch(int major, int minor, int sm_count) {
  const Known* best = nullptr;
  for (const Known& known : KNOWN) {
    if (newer(known, major, minor)) continue;
    if (known.exact && (known.major != major || known.minor != minor)) continue;
    best = &known;  // the table is in order, with exact targets after plain ones
  }
  if (best == nullptr) {
    throw std::invalid_argument("GPU of compute capability " + std::to_string(major) + "." +
                                std::to_string(minor) + " is not supported: expected 8.0 or later");
  }
  return spec(*best, sm_count);
}

bool can_run(const ArchSpec& arch, int major, int minor) {
  const Known* known = find(arch.name);
  if (known == nullptr) return false;
  if (known->exact) return known->major == major && known->minor == minor;
  if (newer(*known, major, minor)) return false;
  // An older GPU may have more shared memory than a newer one, such as sm_87 and sm_89.
  return arch.smem_per_block_bytes <= device_arch(major, minor, 1).smem_per_block_bytes;
}

}  // namespace vgg
