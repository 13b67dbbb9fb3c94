#include "emulator/core/program.h"

namespace vgg::emulator {

std::string Kernel::where(uint32_t location) const {
  auto line = [&](const SourceLocation& at) {
    const auto file = files->find(at.file);
    return (file == files->end() ? "?" : file->second) + ':' + std::to_string(at.line);
  };
  const SourceLocation* at = &locations[location];
  if (at->line == 0) return "unknown line (PTX without .loc)";
  std::string text = line(*at), last = text;
  for (int depth = 0; at->inlined_at >= 0 && depth < 8; ++depth) {
    at = &locations[at->inlined_at];
    if (line(*at) == last) continue;
    last = line(*at);
    text += (depth == 0 ? " (inlined at " : ", ") + last;
  }
  return text.find('(') == std::string::npos ? text : text + ')';
}

}  // namespace vgg::emulator
