// Launches on the CPU: the emulator runs the PTX of the same kernels.

#pragma once

#include <map>
#include <memory>
#include <string>

#include "emulator/emulator.h"
#include "launch/executor.h"

namespace vgg {

// The PTX of this build's kernels by the name of their source file, "sm80/gemm_f16". The build
// generates the definition; empty without the emulator.
const std::map<std::string, std::string>& ptx_texts();
// The PTX of some kernels of sm_90a, compiled with VGG_CUDA_DEBUG_WAITS.
const std::map<std::string, std::string>& debug_waits_ptx_texts();

// Runs each launch to completion before it returns. Not thread-safe.
class EmulatorExecutor : public Executor {
 public:
  // `replaced`: PTX texts to use instead of the texts of the build, by name. Throws
  // std::invalid_argument for an unknown name, or if the build has no emulator. `dry`: kernels are
  // looked up, but not run.
  EmulatorExecutor(emulator::Options options, const std::map<std::string, std::string>& replaced,
                   bool dry);

  void launch(const Launch& launch, const void* params, size_t params_bytes,
              std::initializer_list<Buffer> buffers) override;
  TensorMapBytes encode(const TensorMap& map, const std::string&) const override {
    return encode_for_emulator(map);
  }

  emulator::Counters counters;  // summed over launches

  const emulator::Options& options() const { return options_; }

 private:
  emulator::Options options_;
  bool dry_;
  std::map<std::string, std::shared_ptr<const emulator::Module>> modules_;
};

}  // namespace vgg
