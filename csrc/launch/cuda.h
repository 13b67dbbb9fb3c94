// Launches on a GPU.

#pragma once

#include "launch/executor.h"

struct CUstream_st;

namespace vgg {

using Stream = CUstream_st*;  // cudaStream_t, without a CUDA header

// Enqueues launches on a stream of the current device. Ignores the buffers.
//
// `early`: launches with Launch::early may begin before the previous work on the stream has ended.
// That work must then be a launch of the same forward, because early launches read weights at once,
// and other work on the stream may still write the weights.
//
// `dry`: kernels are loaded, but not launched.
class CudaExecutor : public Executor {
 public:
  CudaExecutor(Stream stream, bool early, bool dry) : stream_(stream), early_(early), dry_(dry) {}
  void launch(const Launch& launch, const void* params, size_t params_bytes,
              std::initializer_list<Buffer> buffers) override;
  TensorMapBytes encode(const TensorMap& map, const std::string& kernel) const override {
    return encode_for_gpu(map, kernel);
  }

 private:
  Stream stream_;
  bool early_, dry_;
};

}  // namespace vgg
