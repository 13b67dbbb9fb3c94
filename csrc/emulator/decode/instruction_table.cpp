#include "emulator/decode/instruction_table.h"

#include <cstring>

#include "emulator/decode/decode.h"

namespace vgg::emulator {

const InstructionTable& InstructionTable::get() {
  static const InstructionTable table;
  return table;
}

bool InstructionTable::decode(Decoder& decoder, const PtxInstruction& from, Instruction& to) const {
  const auto simple = simple_.find(from.opcode);
  if (simple != simple_.end()) {
    const std::string& signature = simple->second.signature;
    decoder.expect_operands(signature.size());
    for (size_t i = 0; i < signature.size(); ++i) {
      const bool writes = i == 0 && signature.size() > 1;
      if (writes || from.opcode == "activemask.b32") {
        decoder.write(from.operands[i], signature[i]);
      } else {
        decoder.read(from.operands[i], signature[i]);
      }
    }
    to.handler = simple->second.handler;
    to.control = simple->second.control;
    return true;
  }
  std::vector<std::string> parts;
  for (size_t begin = 0; begin <= from.opcode.size();) {
    const size_t end = std::min(from.opcode.find('.', begin), from.opcode.size());
    parts.push_back(from.opcode.substr(begin, end - begin));
    begin = end + 1;
  }
  const auto family = families_.find(parts[0]);
  if (family == families_.end()) return false;
  parts.erase(parts.begin());
  family->second(decoder, from, parts, to);
  return true;
}

}  // namespace vgg::emulator
