#include <algorithm>
#include <map>
#include <memory>
#include <mutex>

#include "emulator/decode/decode.h"
#include "emulator/emulator.h"

namespace vgg::emulator {

struct Module::State {
  std::string name;
  PtxFile file;
  std::vector<std::unique_ptr<std::vector<uint64_t>>> memory;  // contents of the variables
  std::vector<Buffer> variables;
  std::mutex mutex;
  std::map<std::string, std::unique_ptr<Kernel>> kernels;
};

Module::Module(std::string ptx, std::string name) : state_(std::make_unique<State>()) {
  state_->name = std::move(name);
  try {
    state_->file = split_ptx(std::move(ptx));
  } catch (const Error& error) {
    throw Error(state_->name + ": " + error.what());
  }
  for (const PtxVariable& variable : state_->file.variables) {
    if (variable.space == ".shared" || variable.is_extern) continue;
    // Kernels use module variables as constant tables. Writes to them are errors.
    auto memory = std::make_unique<std::vector<uint64_t>>(variable.bytes / 8 + 2);
    void* data = memory->data();
    size_t space = memory->size() * 8;
    std::align(16, variable.bytes, data, space);
    std::copy(variable.data.begin(), variable.data.end(), static_cast<unsigned char*>(data));
    state_->memory.push_back(std::move(memory));
    state_->variables.push_back({variable.name, data, variable.bytes, Buffer::Access::constant});
  }
}

Module::~Module() = default;

std::vector<std::string> Module::kernel_names() const {
  std::vector<std::string> names;
  for (const PtxEntry& entry : state_->file.entries) names.push_back(entry.name);
  return names;
}

bool Module::has(const std::string& name) const {
  const auto names = kernel_names();
  return std::find(names.begin(), names.end(), name) != names.end();
}

const Kernel& Module::kernel(const std::string& name) const {
  const std::lock_guard<std::mutex> lock(state_->mutex);
  std::unique_ptr<Kernel>& kernel = state_->kernels[name];
  if (kernel != nullptr) return *kernel;
  for (const PtxEntry& entry : state_->file.entries) {
    if (entry.name != name) continue;
    try {
      kernel = decode(state_->file, entry, state_->name, state_->variables);
    } catch (const Error& error) {
      throw Error(state_->name + ": " + error.what());
    }
    return *kernel;
  }
  throw Error(state_->name + ": unknown kernel " + name);
}

}  // namespace vgg::emulator
