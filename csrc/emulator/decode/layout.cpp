// Addresses of a kernel's parameters and variables.

#include <algorithm>

#include "emulator/decode/decode.h"

namespace vgg::emulator {
namespace {

int64_t align_up(int64_t value, int64_t align) { return (value + align - 1) / align * align; }

}  // namespace

void Decoder::lay_out_shared(const std::vector<PtxVariable>& variables) {
  for (const PtxVariable& variable : variables) {
    if (variable.space != ".shared" || variable.is_extern) continue;
    kernel_.shared_bytes = align_up(kernel_.shared_bytes, variable.align);
    symbols_[variable.name] = {SHARED_BASE + kernel_.shared_bytes, Space::shared};
    kernel_.shared_bytes += variable.bytes;
  }
}

void Decoder::lay_out(const std::vector<Buffer>& module_variables) {
  for (const PtxVariable& param : entry_.params) {
    kernel_.param_bytes = align_up(kernel_.param_bytes, param.align);
    symbols_[param.name] = {PARAM_BASE + kernel_.param_bytes, Space::param};
    kernel_.param_bytes += param.bytes;
  }
  // A module's shared variable occupies memory only if the kernel names it.
  std::vector<PtxVariable> shared;
  for (const PtxVariable& variable : file_.variables) {
    const size_t found = file_.text.find(variable.name, entry_.body_begin);
    if (found < entry_.body_end) shared.push_back(variable);
  }
  lay_out_shared(shared);
  lay_out_shared(body_.variables);
  int64_t dynamic_align = 16;
  for (const PtxVariable& variable : shared) {
    if (variable.is_extern) dynamic_align = std::max(dynamic_align, variable.align);
  }
  for (const PtxVariable& variable : shared) {
    if (variable.space != ".shared" || !variable.is_extern) continue;
    kernel_.shared_bytes = align_up(kernel_.shared_bytes, dynamic_align);
    kernel_.has_dynamic_shared = true;
    symbols_[variable.name] = {SHARED_BASE + kernel_.shared_bytes, Space::shared};
  }
  // The parameters of calls lie in local memory, too. All calls share parameters of one name.
  std::unordered_map<std::string, int64_t> call_bytes;
  for (const PtxVariable& variable : body_.variables) {
    if (variable.space == ".param") {
      int64_t& bytes = call_bytes[variable.name];
      if (variable.bytes <= bytes) continue;
      bytes = variable.bytes;
    } else if (variable.space != ".local") {
      continue;
    }
    kernel_.local_bytes = align_up(kernel_.local_bytes, variable.align);
    symbols_[variable.name] = {LOCAL_BASE + kernel_.local_bytes, Space::local};
    kernel_.local_bytes += variable.bytes;
  }
  kernel_.local_bytes = align_up(kernel_.local_bytes, 16);
  for (const Buffer& variable : module_variables) {
    symbols_[variable.name] = {reinterpret_cast<uint64_t>(variable.data), Space::global};
  }
  kernel_.variables = module_variables;
}

}  // namespace vgg::emulator
