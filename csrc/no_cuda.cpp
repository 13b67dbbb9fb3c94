// Stands in for device.cu and launch/cuda.cu in a build without CUDA, so that nothing above asks.

#include "device.h"
#include "launch/cuda.h"

namespace vgg {

DeviceInfo device_info() {
  return {false, "built without CUDA: reinstall without VGG_CUDA_TOOLKIT=none", "", {}};
}

bool built_with_cuda() { return false; }
const char* cuda_version() { return ""; }
const char* architectures() { return ""; }

void CudaExecutor::launch(const Launch&, const void*, size_t, std::initializer_list<Buffer>) {
  throw CudaError(
      "vgg_cuda was built without CUDA: reinstall without VGG_CUDA_TOOLKIT=none "
      "(pip install --force-reinstall --no-deps vgg-cuda)");
}

TensorMapBytes encode_for_gpu(const TensorMap&) {
  throw CudaError("tensor map: vgg_cuda was built without CUDA");
}

}  // namespace vgg
