// Device query. Creates no CUDA context.

#include <cuda_runtime.h>

#include "device.h"

namespace vgg {

namespace {

// CUDA numbers a version as 1000 * major + 10 * minor.
std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

// Oldest driver that runs binaries of this toolkit's major version.
std::string requirement() {
  constexpr int MAJOR = CUDART_VERSION / 1000;
  const char* driver = MAJOR == 12 ? " (driver >= 525)" : MAJOR == 13 ? " (driver >= 580)" : "";
  return std::to_string(MAJOR) + ".0" + driver;
}

std::string reason_for(cudaError_t error, int driver_version) {
  if (driver_version == 0) return "no NVIDIA driver";
  if (error == cudaErrorInsufficientDriver) {
    return "NVIDIA driver supports CUDA " + version_text(driver_version) + "; this build needs " +
           requirement();
  }
  if (error == cudaErrorNoDevice) return "no CUDA device is visible";
  return std::string(cudaGetErrorName(error)) + ": " + cudaGetErrorString(error);
}

}  // namespace

DeviceInfo device_info() {
  DeviceInfo info{};
  int driver_version = 0;
  if (cudaDriverGetVersion(&driver_version) != cudaSuccess) driver_version = 0;
  if (driver_version > 0) info.driver = version_text(driver_version);

  int count = 0;
  cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaSuccess && count == 0) error = cudaErrorNoDevice;
  for (int index = 0; error == cudaSuccess && index < count; ++index) {
    cudaDeviceProp prop;
    error = cudaGetDeviceProperties(&prop, index);
    if (error != cudaSuccess) break;
    info.devices.push_back({index, prop.name, prop.major, prop.minor,
                            static_cast<int64_t>(prop.totalGlobalMem), prop.multiProcessorCount});
  }
  info.available = error == cudaSuccess;
  if (!info.available) {
    info.reason = reason_for(error, driver_version);
    info.devices.clear();
    cudaGetLastError();  // clear the error, or the next checked launch would report it
  }
  return info;
}

bool built_with_cuda() { return true; }

const char* cuda_version() {
  static const std::string text = version_text(CUDART_VERSION);
  return text.c_str();
}

const char* architectures() { return VGG_CUDA_ARCHITECTURES; }

}  // namespace vgg
