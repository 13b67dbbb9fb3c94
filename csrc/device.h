// Properties of the build and of the machine's GPUs.

#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace vgg {

struct Device {
  int index;
  std::string name;
  int major, minor;  // compute capability
  int64_t memory_bytes;
  int sm_count;
};

struct DeviceInfo {
  bool available;
  std::string reason;  // why no GPU is available, as text for users; empty if one is
  std::string driver;  // newest CUDA that the driver supports, "13.0"; empty without a driver
  std::vector<Device> devices;
};

// Queries the machine's GPUs. Never throws: a missing or outdated driver is reported in `reason`.
DeviceInfo device_info();

bool built_with_cuda();
const char* cuda_version();   // version of the toolkit, "13.0"; "" without CUDA
const char* architectures();  // compiled architectures, "sm_80,...,compute_80"; "" without CUDA
const char* commit();         // commit of the sources; the build generates the definition

}  // namespace vgg
