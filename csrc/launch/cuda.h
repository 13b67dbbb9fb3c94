// Launches on a GPU.

#pragma once

#include "launch/executor.h"

struct CUstream_st;

namespace vgg {

using Stream = CUstream_st*;  // cudaStream_t, without a CUDA header

// Enqueues on a stream of the current device. Buffers are not looked at.
class CudaExecutor : public Executor {
 public:
  explicit CudaExecutor(Stream stream) : stream_(stream) {}
  void launch(const Launch& launch, const void* params, size_t params_bytes,
              std::initializer_list<Buffer> buffers) override;
  TensorMapBytes encode(const TensorMap& map) const override { return encode_for_gpu(map); }

 private:
  Stream stream_;
};

}  // namespace vgg
