// Registers of wgmma products in flight. The decoder reserves their places until a wait, and
// inserts a check before every other instruction that accesses them.

#include <algorithm>

#include "emulator/core/warpgroup.h"
#include "emulator/decode/decode.h"

namespace vgg::emulator {

void Decoder::find_wgmma_registers() {
  for (const PtxInstruction& instruction : body_.instructions) {
    if (instruction.opcode.compare(0, 15, "wgmma.mma_async") != 0) continue;
    current_ = &instruction;
    for (size_t i = 0; i < 2 && i < instruction.operands.size(); ++i) {
      for (const PtxOperand& part : instruction.operands[i].parts) {
        const int reg = find_register(part.name);
        if (reg >= 0) wgmma_registers_.push_back(reg);
      }
    }
  }
  std::sort(wgmma_registers_.begin(), wgmma_registers_.end());
  wgmma_registers_.erase(std::unique(wgmma_registers_.begin(), wgmma_registers_.end()),
                         wgmma_registers_.end());
}

void Decoder::read_wgmma_registers() {
  for (const int reg : wgmma_registers_) {
    use(reg, WORD, false);
    append(0);
  }
}

// Inserts a check_registers instruction before one that accesses such registers.
void Decoder::check_wgmma_registers(size_t first_use, const Instruction& before) {
  std::vector<int> written, read;
  for (size_t i = first_use; i < uses_.size(); ++i) {
    const int reg = static_cast<int>(uses_[i].reg);
    if (!std::binary_search(wgmma_registers_.begin(), wgmma_registers_.end(), reg)) continue;
    (uses_[i].is_written ? written : read).push_back(reg);
  }
  if (written.empty() && read.empty()) return;
  const auto index = static_cast<uint32_t>(kernel_.code.size());
  const std::vector<RegisterUse> own(uses_.begin() + first_use, uses_.end());
  uses_.resize(first_use);
  Instruction check;
  check.handler = check_registers;
  check.location = before.location;
  check.guard = constant(1, PREDICATE);
  check.count = static_cast<uint8_t>(written.size() + read.size());
  check.extra = written.size();
  first_operand_.insert(first_operand_.end() - 1, kernel_.operands.size());
  written.insert(written.end(), read.begin(), read.end());
  for (const int reg : written) {
    use(reg, registers_[reg].letter, false);
    append(0);
  }
  kernel_.code.push_back(check);
  for (RegisterUse moved : own) {
    moved.instruction = index + 1;
    uses_.push_back(moved);
  }
}

}  // namespace vgg::emulator
