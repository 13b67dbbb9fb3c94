#include "plan/arch.h"

#include <algorithm>
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
  ArchSpec arch{known.name, sm_count, per_sm - 1024, per_sm, known.threads_per_sm};
  if (arch.name == "sm_90a") arch.families = switchable_families();
  return arch;
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

std::string name(Family family) {
  switch (family) {
    case Family::portable:
      return "portable";
    case Family::halo:
      return "halo";
    case Family::swap_ab:
      return "swap_ab";
    case Family::dense:
      return "dense";
    case Family::fused_conv1_block:
      return "fused_conv1_block";
  }
  throw std::logic_error("family without a name");
}

std::vector<Family> switchable_families() {
  return {Family::halo, Family::swap_ab, Family::dense, Family::fused_conv1_block};
}

bool ArchSpec::has(Family family) const {
  return std::find(families.begin(), families.end(), family) != families.end();
}

ArchSpec without(const ArchSpec& arch, const std::vector<std::string>& families) {
  ArchSpec rest = arch;
  for (const std::string& off : families) {
    std::string expected;
    bool known = false;
    for (const Family family : switchable_families()) {
      known = known || off == name(family);
      expected += (expected.empty() ? "" : ", ") + name(family);
    }
    if (!known) {
      throw std::invalid_argument("families: expected some of " + expected + ", got '" + off + "'");
    }
    const auto is_off = [&](Family family) { return name(family) == off; };
    rest.families.erase(std::remove_if(rest.families.begin(), rest.families.end(), is_off),
                        rest.families.end());
  }
  return rest;
}

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
