// What the build contains and what the machine offers.

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
  std::string reason;  // why not, in words for a user; empty where available
  std::string driver;  // newest CUDA that the driver supports, "13.0"; empty without a driver
  std::vector<Device> devices;
};

// Never throws: a machine without a driver, or with one too old, is an answer.
DeviceInfo device_info();

bool built_with_cuda();
const char* cuda_version();   // of the toolkit, "13.0"; "" without CUDA
const char* architectures();  // in the binary, "sm_80,...,compute_80"; "" without CUDA
const char* commit();         // of the sources; defined in a file that the build generates

}  // namespace vgg
