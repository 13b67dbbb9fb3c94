#include "emulator/core/warpgroup.h"

#include <algorithm>

#include "emulator/core/block_context.h"
#include "emulator/core/lanes.h"

namespace vgg::emulator {
namespace {

// Whether `product` still uses the register at `place` of a warp of the warpgroup.
bool uses(const Product& product, int warpgroup_rank, Operand place) {
  if (is_active(product.waited, warpgroup_rank)) return false;
  const Accumulators& c = *product.c;
  if (std::find(c.registers, c.registers + c.count, place) != c.registers + c.count) return true;
  if (!(product.instruction->mode & A_IN_REGISTERS)) return false;
  const Operand* a = product.instruction->operands + 2 * c.count;
  return std::find(a, a + 4, place) != a + 4;
}

}  // namespace

void fail_in_flight(const Warp& warp, const Instruction& in, Operand place,
                    const std::string& what) {
  for (const Product& product : warp.warpgroup->products) {
    if (!uses(product, warp.warpgroup_rank(), place)) continue;
    fail(warp, in, -1,
         what + " that a wgmma.mma_async in flight uses (" +
             warp.context->kernel.where(*product.instruction) + ')');
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
  for (const Product& product : warp.warpgroup->products) {
    if (is_active(product.waited, warp.warpgroup_rank())) continue;
    fail(warp, in, -1,
         "exits without waiting for a wgmma.mma_async (" +
             warp.context->kernel.where(*product.instruction) + ')');
  }
}

}  // namespace vgg::emulator
