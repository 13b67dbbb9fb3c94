#include <cuda_runtime.h>

#include <algorithm>
#include <mutex>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>

#include "kernels/params.h"
#include "launch/cuda.h"

// Kernel entry points, which the files of kernels/ define.
#define KERNEL(NAME, PARAMS) extern "C" __global__ void NAME(const vgg::PARAMS);
#include "kernels/kernels.def"
#undef KERNEL

namespace vgg {

namespace {

// Kernels with more dynamic shared memory must opt in.
constexpr int DEFAULT_MAX_SMEM_BYTES = 48 * 1024;
constexpr int SYSTEM_SMEM_BYTES = 1024;  // of every block, beside its own

const void* find(const std::string& name) {
  static const std::unordered_map<std::string, const void*> ENTRIES = {
#define KERNEL(NAME, PARAMS) {#NAME, reinterpret_cast<const void*>(&NAME)},
#include "kernels/kernels.def"
#undef KERNEL
  };
  const auto found = ENTRIES.find(name);
  if (found == ENTRIES.end()) throw CudaError("this build has no kernel " + name);
  return found->second;
}

// Errors that are not plain CudaErrors, by the documentation of cudaError_t.
struct KnownError {
  cudaError_t error;
  bool
      lost;  // "leaves the process in an inconsistent state"; otherwise the launch alone is refused
};
constexpr cudaError_t CONTAINED = static_cast<cudaError_t>(226);  // not in the headers of CUDA 12.0
constexpr KnownError KNOWN_ERRORS[] = {
    {cudaErrorInvalidValue, false},               // an argument that the device does not accept
    {cudaErrorInvalidConfiguration, false},       // grid, block or shared memory
    {cudaErrorInvalidDeviceFunction, false},      // not compiled for this device
    {cudaErrorInvalidKernelImage, false},         // the binary cannot be loaded
    {cudaErrorNoKernelImageForDevice, false},     // no binary for this device
    {cudaErrorUnsupportedPtxVersion, false},      // only PTX that is newer than the driver
    {cudaErrorLaunchOutOfResources, false},       // too many registers or threads
    {cudaErrorCooperativeLaunchTooLarge, false},  // more blocks than fit at once
    {cudaErrorNotSupported, false},               // an attribute that the device lacks
    {cudaErrorInvalidClusterSize, false},         // no room for a cluster
    {cudaErrorECCUncorrectable, true},            // broken memory
    {cudaErrorNvlinkUncorrectable, true},         //
    {CONTAINED, true},                            // a contained hardware error
    {cudaErrorIllegalAddress, true},              // errors of a kernel that ran before
    {cudaErrorLaunchTimeout, true},               //
    {cudaErrorContextIsDestroyed, true},          //
    {cudaErrorAssert, true},                      //
    {cudaErrorHardwareStackError, true},          //
    {cudaErrorIllegalInstruction, true},          // also trap
    {cudaErrorMisalignedAddress, true},           //
    {cudaErrorInvalidAddressSpace, true},         //
    {cudaErrorInvalidPc, true},                   //
    {cudaErrorLaunchFailure, true},               //
    {cudaErrorMpsClientTerminated, true},         // the server ended this process's work
    {cudaErrorExternalDevice, true},              //
};

void check(cudaError_t error, const std::string& kernel) {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // clear the error, or the next checked call would report it
  const std::string text =
      kernel + ": " + cudaGetErrorName(error) + ": " + cudaGetErrorString(error);
  for (const KnownError& known : KNOWN_ERRORS) {
    if (known.error != error) continue;
    if (known.lost) throw DeviceLost(text);
    throw LaunchRefused(text);
  }
  throw CudaError(text);
}

void set(const void* entry, cudaFuncAttribute attribute, int value, const Launch& launch) {
  check(cudaFuncSetAttribute(entry, attribute, value), launch.kernel);
}

// Sets the kernel's limits of shared memory, once per kernel and device.
void set_limits(const void* entry, const Launch& launch) {
  static std::mutex mutex;
  static std::set<std::pair<const void*, int>> ready;
  int device = 0;
  check(cudaGetDevice(&device), launch.kernel);
  const std::lock_guard<std::mutex> lock(mutex);
  if (ready.count({entry, device})) return;
  set(entry, cudaFuncAttributeMaxDynamicSharedMemorySize, launch.smem_bytes, launch);
  // The driver sets as much apart as one block needs, and the rest is L1 cache.
  if (launch.blocks_per_sm > 1) {
    int per_sm = 0;
    check(cudaDeviceGetAttribute(&per_sm, cudaDevAttrMaxSharedMemoryPerMultiprocessor, device),
          launch.kernel);
    const int wanted = launch.blocks_per_sm * (launch.smem_bytes + SYSTEM_SMEM_BYTES);
    set(entry, cudaFuncAttributePreferredSharedMemoryCarveout,
        std::min(100, (100 * wanted + per_sm - 1) / per_sm), launch);
  }
  ready.emplace(entry, device);
}

}  // namespace

void CudaExecutor::launch(const Launch& launch, const void* params, size_t,
                          std::initializer_list<Buffer>) {
  const void* entry = find(launch.kernel);
  if (launch.smem_bytes > DEFAULT_MAX_SMEM_BYTES) set_limits(entry, launch);
  if (dry_) {
    cudaFuncAttributes attributes;  // whose query loads the kernel
    return check(cudaFuncGetAttributes(&attributes, entry), launch.kernel);
  }
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(launch.grid.x, launch.grid.y, launch.grid.z);
  config.blockDim = dim3(launch.block.x, launch.block.y, launch.block.z);
  config.dynamicSmemBytes = static_cast<size_t>(launch.smem_bytes);
  config.stream = stream_;
  cudaLaunchAttribute attributes[2];
  config.attrs = attributes;
  if (launch.cluster.x * launch.cluster.y * launch.cluster.z > 1) {
    cudaLaunchAttribute& cluster = attributes[config.numAttrs++];
    cluster.id = cudaLaunchAttributeClusterDimension;
    cluster.val.clusterDim = {launch.cluster.x, launch.cluster.y, launch.cluster.z};
  }
  if (launch.early && early_) {
    cudaLaunchAttribute& early = attributes[config.numAttrs++];
    // In a captured graph this attribute becomes a programmatic edge; graphs need nothing else.
    early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    early.val.programmaticStreamSerializationAllowed = 1;
  }
  void* arguments[] = {const_cast<void*>(params)};
  check(cudaLaunchKernelExC(&config, entry, arguments), launch.kernel);
}

}  // namespace vgg
