// Launches on the CPU: the same kernels, from the PTX that nvcc made of them.

#pragma once

#include <map>
#include <memory>
#include <string>

#include "emulator/emulator.h"
#include "launch/executor.h"

namespace vgg {

// The PTX of this build's kernels by the name of their source, "sm80/gemm_f16". Defined in a file
// that the build generates; empty without the emulator.
const std::map<std::string, std::string>& ptx_texts();

// Runs to the end before it returns. Not for several threads at once.
class EmulatorExecutor : public Executor {
 public:
  // `replaced`: texts to use in place of the build's, by the same names. Throws
  // std::invalid_argument for an unknown name, and where the build has no emulator.
  explicit EmulatorExecutor(emulator::Options options,
                            const std::map<std::string, std::string>& replaced = {});

  void launch(const Launch& launch, const void* params, size_t params_bytes,
              std::initializer_list<Buffer> buffers) override;
  TensorMapBytes encode(const TensorMap& map) const override { return encode_for_emulator(map); }

  emulator::Counters counters;  // summed over launches

  const emulator::Options& options() const { return options_; }

 private:
  emulator::Options options_;
  std::map<std::string, std::shared_ptr<const emulator::Module>> modules_;
};

}  // namespace vgg
