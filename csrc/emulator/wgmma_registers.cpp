// Registers that products in flight use: the decoder finds them, keeps their places free for them
// until a wait, and puts a check before every instruction that accesses one.

#include <algorithm>

#include "block.h"
#include "decode.h"
#include "lanes.h"
#include "wgmma.h"

namespace vgg::emulator {
namespace {

// Whether `product` uses the register, for a warp that has not waited for it.
bool uses(const Product& product, int warp, Operand place) {
  if (is_active(product.waited, warp)) return false;
  const Accumulators& c = *product.c;
  if (std::find(c.registers, c.registers + c.count, place) != c.registers + c.count) return true;
  if (!(product.instruction->mode & A_IN_REGISTERS)) return false;
  const Operand* a = product.instruction->operands + 2 * c.count;
  return std::find(a, a + 4, place) != a + 4;
}

}  // namespace

Warpgroup& group_of(const Warp& warp) { return warp.block->warpgroups[warp.index / WARPGROUP]; }

void fail_in_flight(const Warp& warp, const Instruction& in, Operand place,
                    const std::string& what) {
  for (const Product& product : group_of(warp).products) {
    if (!uses(product, in_group(warp), place)) continue;
    fail(warp, in, -1,
         what + " that a wgmma.mma_async in flight uses (" +
             warp.block->kernel().where(*product.instruction) + ')');
  }
  fail(warp, in, -1, what + " that a wgmma.mma_async in flight uses");
}

void check_registers(Warp& warp, const Instruction& in, uint32_t) {
  for (int i = 0; i < in.count; ++i) {
    const bool writes = static_cast<uint64_t>(i) < in.extra;
    uint8_t& state = state_of(warp, in.operands[i]);
    if (state & (writes ? ACCUMULATES | MULTIPLIES : ACCUMULATES)) {
      fail_in_flight(warp, in, in.operands[i],
                     std::string(writes ? "writes" : "reads") + " a register");
    }
    state |= UNFENCED;
  }
}

void check_products_at_exit(const Warp& warp, const Instruction& in) {
  for (const Product& product : group_of(warp).products) {
    if (is_active(product.waited, in_group(warp))) continue;
    fail(warp, in, -1,
         "exits with a wgmma.mma_async that it has not waited for (" +
             warp.block->kernel().where(*product.instruction) + ')');
  }
}

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

// An instruction in front of one that accesses such registers: see check_registers.
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
