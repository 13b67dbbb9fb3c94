#include <cuda_runtime.h>

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

void check(cudaError_t error, const std::string& kernel) {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // clear the error, or the next checked call would report it
  throw CudaError(kernel + ": " + cudaGetErrorName(error) + ": " + cudaGetErrorString(error));
}

// Sets the kernel's shared-memory limit, once per kernel and device.
void raise_smem_limit(const void* entry, const Launch& launch) {
  static std::mutex mutex;
  static std::set<std::pair<const void*, int>> raised;
  int device = 0;
  check(cudaGetDevice(&device), launch.kernel);
  const std::lock_guard<std::mutex> lock(mutex);
  if (raised.count({entry, device})) return;
  check(cudaFuncSetAttribute(entry, cudaFuncAttributeMaxDynamicSharedMemorySize, launch.smem_bytes),
        launch.kernel);
  raised.emplace(entry, device);
}

}  // namespace

void CudaExecutor::launch(const Launch& launch, const void* params, size_t,
                          std::initializer_list<Buffer>) {
  const void* entry = find(launch.kernel);
  if (launch.smem_bytes > DEFAULT_MAX_SMEM_BYTES) raise_smem_limit(entry, launch);
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
