// Stands in for device.cu and the kernels in a build without CUDA, so that nothing above it asks.

#include "device.h"
#include "ops.h"

namespace vgg {

namespace {

[[noreturn]] void refuse() {
  throw CudaError(
      "vgg_cuda was built without CUDA: reinstall without VGG_CUDA_TOOLKIT=none "
      "(pip install --force-reinstall --no-deps vgg-cuda)");
}

}  // namespace

DeviceInfo device_info() {
  return {false, "built without CUDA: reinstall without VGG_CUDA_TOOLKIT=none", "", {}};
}

bool built_with_cuda() { return false; }
const char* cuda_version() { return ""; }
const char* architectures() { return ""; }

void conv3x3(const Conv3x3&, Stream) { refuse(); }
void linear(const Linear&, Stream) { refuse(); }
void maxpool2x2(const MaxPool2x2&, Stream) { refuse(); }
void avgpool(const AvgPool&, Stream) { refuse(); }
void softmax(const Softmax&, Stream) { refuse(); }
void relu(const Relu&, Stream) { refuse(); }

}  // namespace vgg
