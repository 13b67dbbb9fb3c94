// Fences, elect, setmaxnreg, griddepcontrol.

#include <atomic>

#include "emulator/decode/decode.h"
#include "emulator/instructions/instructions.h"
#include "emulator/run/block.h"

namespace vgg::emulator {
namespace {

void memory_fence(Warp&, const Instruction&, uint32_t) {
  std::atomic_thread_fence(std::memory_order_seq_cst);
}

void proxy_fence(Warp& warp, const Instruction&, uint32_t active) {
  warp.block->races.fence_proxy(warp, active);
}

void mbarrier_fence(Warp& warp, const Instruction&, uint32_t) {
  warp.block->mbarriers.fence(warp);
  warp.fenced = warp.stamp;
  warp.stamp = warp.context->time.tick();
}

// Operands: the elected lane, predicate, members.
void elect(Warp& warp, const Instruction& in, uint32_t active) {
  const int elected = __builtin_ctz(active);  // PTX leaves the choice open
  auto* lanes = warp.lanes<uint32_t>(in.operands[0]);
  for_each_lane(active, [&](int lane) { lanes[lane] = elected; });
  auto* predicate = warp.lanes<uint32_t>(in.operands[1]);
  *predicate = (*predicate & ~active) | 1u << elected;
}

void decode_elect(Decoder& decoder, const PtxInstruction& from,
                  const std::vector<std::string>& modifiers, Instruction& to) {
  if (modifiers != std::vector<std::string>{"sync"}) decoder.fail("unknown modifiers");
  decoder.expect_operands(2);
  if (from.operands[0].kind != PtxOperand::Kind::pair) decoder.fail("expected lane|predicate");
  decoder.write(from.operands[0].parts[0], WORD);
  decoder.write(from.operands[0].parts[1], PREDICATE);
  decoder.read(from.operands[1], WORD);
  to.handler = elect;
  to.control = Control::member_mask;
  to.count = 2;
}

// Instruction::immediate: registers per thread. Only registers that other warps have released can
// be acquired.
template <bool INCREASES>
void set_registers(Warp& warp, const Instruction& in, uint32_t) {
  Block& block = *warp.block;
  const auto wanted = static_cast<int>(in.immediate);
  if (INCREASES ? wanted < warp.registers_held : wanted > warp.registers_held) {
    fail(warp, in, -1,
         std::string(INCREASES ? "increases" : "decreases") + " its registers from " +
             std::to_string(warp.registers_held) + " to " + std::to_string(wanted));
  }
  const int change = wanted - warp.registers_held;
  if (change > block.free_registers) return warp.wait_for(Wait::registers, 0);
  block.free_registers -= change;
  warp.registers_held = wanted;
  if (!INCREASES) block.wake(Wait::registers);
}

void decode_setmaxnreg(Decoder& decoder, const PtxInstruction& from,
                       const std::vector<std::string>& words, Instruction& to) {
  Modifiers modifiers(words);
  const std::string kind = modifiers.take_one_of({"inc", "dec"});
  const bool known = !kind.empty() && modifiers.take("sync") && modifiers.take("aligned") &&
                     modifiers.take("u32") && modifiers.empty();
  if (!known) decoder.fail("unknown modifiers");
  decoder.expect_operands(1);
  const uint64_t count = from.operands[0].bits;
  if (from.operands[0].kind != PtxOperand::Kind::integer || count % 8 != 0 || count < 24 ||
      count > 256) {
    decoder.fail("expected a multiple of 8 registers from 24 to 256");
  }
  if (decoder.kernel().launch_registers == 0) {
    decoder.fail(
        "expected .maxnreg, or .maxntid and .minnctapersm, without which ptxas ignores setmaxnreg");
  }
  to.immediate = static_cast<int64_t>(count);
  to.handler = kind == "inc" ? set_registers<true> : set_registers<false>;
  to.control = Control::wait_aligned;
}

void wait_for_launches(Warp& warp, const Instruction&, uint32_t) {
  warp.block->wait_for_launches();
}

void do_nothing(Warp&, const Instruction&, uint32_t) {}

}  // namespace

void add_fences(InstructionTable& table) {
  for (const char* scope : {"cta", "gl", "sys"}) {
    table.add(std::string("membar.") + scope, memory_fence, "");
  }
  for (const char* scope : {"cta", "cluster", "gpu", "sys"}) {
    for (const char* order : {"fence.", "fence.sc.", "fence.acq_rel."}) {
      table.add(std::string(order) + scope, memory_fence, "");
    }
  }
  for (const char* space : {"", ".shared::cta", ".shared::cluster"}) {
    table.add(std::string("fence.proxy.async") + space, proxy_fence, "");
  }
  table.add("fence.proxy.async.global", memory_fence, "");
  table.add("fence.mbarrier_init.release.cluster", mbarrier_fence, "");
}

void add_warp_control(InstructionTable& table) {
  table.add_family("elect", decode_elect);
  table.add_family("setmaxnreg", decode_setmaxnreg);
  table.add("griddepcontrol.wait", wait_for_launches, "");
  table.add("griddepcontrol.launch_dependents", do_nothing, "");
}

}  // namespace vgg::emulator
