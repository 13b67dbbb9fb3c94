// Executes compiled CUDA kernels (PTX, as nvcc emits it) on the CPU and checks them.
//
//     emulator::Module module(ptx_text, "gemm");
//     emulator::Counters counters =
//         emulator::launch(module.kernel("conv3x3_f16_m64n64"), grid, block, smem_bytes, &params,
//                          sizeof(params), buffers, options);
//
// A launch either computes what the kernel computes on a GPU, in the order that `options` selects,
// or throws Error. The text names the kernel, the source line, the block and the threads. README.md
// lists what is modelled and what is checked. Depends on no CUDA runtime, Python or kernel source.

#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "emulator/types.h"

namespace vgg::emulator {

struct Kernel;  // one .entry, decoded

// The kernels of one PTX file. A kernel is decoded at its first use. Thread-safe.
class Module {
 public:
  // `name` identifies the file in messages. Throws Error if `ptx` is not PTX.
  explicit Module(std::string ptx, std::string name);
  ~Module();
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;

  std::vector<std::string> kernel_names() const;
  bool has(const std::string& name) const;

  // Throws Error for an unknown name, or if the kernel uses an instruction that is not modelled.
  const Kernel& kernel(const std::string& name) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Runs a kernel to completion.
//
// `smem_bytes`: dynamic shared memory, in addition to the kernel's static shared memory.
// `params`: the kernel's parameters, laid out as in the .param space.
// `cluster`: cluster size in blocks, unless the kernel fixes it with .reqnctapercluster.
// `early`: earlier launches may still run until a block executes griddepcontrol.wait, which every
// block must do.
Counters launch(const Kernel& kernel, Dim3 grid, Dim3 block, int smem_bytes, const void* params,
                size_t params_bytes, const std::vector<Buffer>& buffers, const Options& options,
                Dim3 cluster = {}, bool early = false);

}  // namespace vgg::emulator
