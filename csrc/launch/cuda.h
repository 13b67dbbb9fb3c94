// Launches on a GPU.

#pragma once

#include "launch/executor.h"

struct CUstream_st;

namespace vgg {

using Stream = CUstream_st*;  // cudaStream_t, without a CUDA header

// Enqueues on a stream of the current device. Buffers are not looked at. `early`: launches that can
// begin early may do so. What is enqueued before must then be a launch of the same forward: other
// work on the stream may make the weights, which such launches read at once.
class CudaExecutor : public Executor {
 public:
  CudaExecutor(Stream stream, bool early) : stream_(stream), early_(early) {}
  void launch(const Launch& launch, const void* params, size_t params_bytes,
              std::initializer_list<Buffer> buffers) override;
  TensorMapBytes encode(const TensorMap& map) const override { return encode_for_gpu(map); }

 private:
  Stream stream_;
  bool early_;
};

}  // namespace vgg
