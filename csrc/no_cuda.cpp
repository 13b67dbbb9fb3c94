// Replaces device.cu, launch/cuda.cu and launch/tensor_map.cu in a build without CUDA, so that
// other code needs no #ifdef.

#include "device.h"
#include "launch/cuda.h"

namespace vgg {

DeviceInfo device_info() {
  return {false, "built without CUDA: reinstall without VGG_CUDA_TOOLKIT=none", "", {}};
}

bool built_with_cuda() { return false; }
const char* cuda_version() { return ""; }
const char* architectures() { return ""; }

namespace {

[[noreturn]] void refuse() {
  throw CudaError(
      "vgg_cuda was built without CUDA: reinstall without VGG_CUDA_TOOLKIT=none "
      "(pip install --force-reinstall --no-deps vgg-cuda)");
}

}  // namespace

void CudaExecutor::launch(const Launch&, const void*, size_t, std::initializer_list<Buffer>) {
  refuse();
}

TensorMapBytes encode_for_gpu(const TensorMap&, const std::string&) { refuse(); }

}  // namespace vgg
