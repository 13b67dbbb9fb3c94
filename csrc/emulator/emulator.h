// Executes compiled CUDA kernels (PTX, as nvcc emits it) on the CPU, and watches them.
//
//     emulator::Module module(ptx_text, "gemm");
//     emulator::Counters counters =
//         emulator::launch(module.kernel("conv3x3_f16_m64n64"), grid, block, smem_bytes, &params,
//                          sizeof(params), buffers, options);
//
// A launch either does what the kernel does on a GPU, in every legal order that `options` names, or
// throws Error, which names the kernel, the source line, the block and the threads. README.md says
// what is modelled and what is watched. Knows nothing of CUDA, Python or this project's kernels.

#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "emulator/types.h"

namespace vgg::emulator {

struct Kernel;  // one .entry, decoded

// The kernels of one PTX file. Parsing happens when a kernel is first asked for; safe to call
// from several threads.
class Module {
 public:
  // `name` is how messages call the file. Throws Error for text that is no PTX.
  explicit Module(std::string ptx, std::string name);
  ~Module();
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;

  std::vector<std::string> kernel_names() const;
  bool has(const std::string& name) const;

  // Throws Error for an unknown name, and for an instruction that is not modelled.
  const Kernel& kernel(const std::string& name) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Runs a kernel to its end. `smem_bytes` is dynamic shared memory, beside the kernel's own.
// `params` are the bytes of its parameters, laid out as in the .param space. `cluster`: blocks of
// it, where the kernel does not say (.reqnctapercluster). `early`: launches before this one may
// still run until it executes griddepcontrol.wait, as every block must.
Counters launch(const Kernel& kernel, Dim3 grid, Dim3 block, int smem_bytes, const void* params,
                size_t params_bytes, const std::vector<Buffer>& buffers, const Options& options,
                Dim3 cluster = {}, bool early = false);

}  // namespace vgg::emulator
