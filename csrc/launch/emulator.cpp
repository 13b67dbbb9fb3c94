#include "launch/emulator.h"

#include <stdexcept>
#include <vector>

namespace vgg {

namespace {

using Modules = std::map<std::string, std::shared_ptr<const emulator::Module>>;

// The modules of the build, parsed once for all executors.
const Modules& build_modules() {
  static const Modules modules = [] {
    Modules made;
    for (const auto& [name, text] : ptx_texts()) {
      made[name] = std::make_shared<const emulator::Module>(text, name);
    }
    return made;
  }();
  return modules;
}

}  // namespace

EmulatorExecutor::EmulatorExecutor(emulator::Options options,
                                   const std::map<std::string, std::string>& replaced, bool dry)
    : options_(options), dry_(dry) {
  if (ptx_texts().empty()) {
    throw std::invalid_argument(
        "this build has no emulator: build with -C cmake.define.VGG_CUDA_EMULATOR=ON");
  }
  modules_ = build_modules();
  for (const auto& [name, text] : replaced) {
    if (!modules_.count(name)) {
      throw std::invalid_argument("emulator: modules: unknown PTX module '" + name + "'");
    }
    modules_[name] = std::make_shared<const emulator::Module>(text, name);
  }
}

void EmulatorExecutor::launch(const Launch& launch, const void* params, size_t params_bytes,
                              std::initializer_list<Buffer> buffers) {
  using Access = emulator::Buffer::Access;
  std::vector<emulator::Buffer> checked;
  for (const Buffer& buffer : buffers) {
    const Access access = buffer.output     ? Access::write_once
                          : buffer.constant ? Access::constant
                                            : Access::read;
    checked.push_back({buffer.name, const_cast<void*>(buffer.data), buffer.bytes, access});
  }
  for (const auto& [name, module] : modules_) {
    if (!module->has(launch.kernel)) continue;
    if (dry_) return;
    counters += emulator::launch(
        module->kernel(launch.kernel), {launch.grid.x, launch.grid.y, launch.grid.z},
        {launch.block.x, launch.block.y, launch.block.z}, launch.smem_bytes, params, params_bytes,
        checked, options_, {launch.cluster.x, launch.cluster.y, launch.cluster.z}, launch.early);
    return;
  }
  throw emulator::Error("this build's PTX has no kernel " + launch.kernel);
}

}  // namespace vgg
