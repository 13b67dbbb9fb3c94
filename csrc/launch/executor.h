// Executors run launches: on a GPU (cuda.cu), or on the CPU in the emulator (emulator.cpp).

#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <stdexcept>
#include <string>

#include "launch/tensor_map.h"
#include "plan/plan.h"

namespace vgg {

struct CudaError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// The driver refused a tensor map or a launch before it began. Other launches still work.
struct LaunchRefused : CudaError {
  using CudaError::CudaError;
};

// The GPU's context is lost: every later call of the process fails, too.
struct DeviceLost : CudaError {
  using CudaError::CudaError;
};

// An array that a kernel may access. The emulator checks every access.
struct Buffer {
  const char* name;  // "x"
  const void* data;
  int64_t bytes;
  bool output;            // the launch writes each byte exactly once; otherwise read-only
  bool constant = false;  // weights, which no launch of a forward writes
};

class Executor {
 public:
  virtual ~Executor() = default;

  // Enqueues the kernel with its only parameter, a struct of kernels/params.h. Throws CudaError or
  // emulator::Error.
  virtual void launch(const Launch& launch, const void* params, size_t params_bytes,
                      std::initializer_list<Buffer> buffers) = 0;

  // Encodes a tensor map for the parameters of `kernel`, which messages name.
  virtual TensorMapBytes encode(const TensorMap& map, const std::string& kernel) const = 0;

  template <class Params>
  void operator()(const Launch& to_launch, const Params& params,
                  std::initializer_list<Buffer> buffers) {
    launch(to_launch, &params, sizeof(params), buffers);
  }
};

}  // namespace vgg
