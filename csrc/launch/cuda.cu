#include <cuda_runtime.h>

#include <algorithm>
#include <iterator>
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

// Errors by the documentation of cudaError_t; those in neither list are plain CudaErrors.

// A call or launch alone was refused.
constexpr cudaError_t REFUSED[] = {
    cudaErrorInvalidValue,            // an argument that the device does not accept
    cudaErrorInvalidConfiguration,    // grid, block or shared memory
    cudaErrorInvalidDeviceFunction,   // not compiled for this device
    cudaErrorInvalidKernelImage,      // the binary cannot be loaded
    cudaErrorNoKernelImageForDevice,  // no binary for this device
    cudaErrorUnsupportedPtxVersion,   // only PTX that is newer than the driver
    cudaErrorLaunchOutOfResources,    // too many registers or threads
    cudaErrorNotSupported,            // an attribute that the device lacks
    cudaErrorInvalidClusterSize,      // no room for a cluster
};

// All later calls of the process fail, too. Asynchronous: a call reports an error of earlier work.
// vgg_cuda/backends/errors.py has the numbers of these errors.
constexpr cudaError_t LOST[] = {
    cudaErrorDeviceUninitialized,  // no context, or a context that was destroyed
    cudaErrorECCUncorrectable,
    cudaErrorNvlinkUncorrectable,
    cudaErrorContained,  // an error of the hardware
    cudaErrorIllegalAddress,
    cudaErrorLaunchTimeout,
    cudaErrorContextIsDestroyed,
    cudaErrorAssert,
    cudaErrorHardwareStackError,
    cudaErrorIllegalInstruction,
    cudaErrorMisalignedAddress,
    cudaErrorInvalidAddressSpace,
    cudaErrorInvalidPc,
    cudaErrorLaunchFailure,
    cudaErrorTensorMemoryLeak,
    cudaErrorMpsClientTerminated,  // the server ended this process's work
    cudaErrorExternalDevice,
    cudaErrorUnknown,  // also a GPU that has disappeared
};

template <size_t SIZE>
bool is_in(const cudaError_t (&errors)[SIZE], cudaError_t error) {
  return std::find(std::begin(errors), std::end(errors), error) != std::end(errors);
}

void check(cudaError_t error, const std::string& kernel) {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // clear the error, or the next checked call would report it
  const std::string text = std::string(cudaGetErrorName(error)) + ": " + cudaGetErrorString(error);
  if (is_in(LOST, error)) {
    throw DeviceLost(kernel + ": not launched, because earlier work failed: " + text);
  }
  if (is_in(REFUSED, error)) throw LaunchRefused(kernel + ": " + text);
  throw CudaError(kernel + ": " + text);
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
  // By default the driver divides an SM's memory into shared memory and L1 cache, and may leave
  // room for one block only.
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
