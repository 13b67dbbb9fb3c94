// Branches, exits and barriers: bra, brx, ret, exit, trap, bar.

#include "emulator/decode/decode.h"
#include "emulator/instructions/instructions.h"
#include "emulator/run/block.h"

namespace vgg::emulator {
namespace {

void sync_warp(Warp& warp, const Instruction&, uint32_t) { warp.block->races.sync_warp(warp); }

void decode_bar(Decoder& decoder, const PtxInstruction& from,
                const std::vector<std::string>& modifiers, Instruction& to) {
  if (!modifiers.empty() && modifiers[0] == "cluster") {
    return decode_cluster_barrier(decoder, from, modifiers, to);
  }
  std::string kind;
  for (const std::string& modifier : modifiers) {
    if (modifier == "cta" || modifier == "aligned") continue;
    kind += (kind.empty() ? "" : ".") + modifier;
  }
  const size_t operands = from.operands.size();
  if (kind == "warp.sync") {
    decoder.expect_operands(1);
    decoder.read(from.operands[0], WORD);
    to.handler = sync_warp;
    to.control = Control::member_mask;
    to.count = 0;
    return;
  }
  const bool votes = kind == "red.popc.u32" || kind == "red.and.pred" || kind == "red.or.pred";
  if (!votes && kind != "sync" && kind != "arrive") decoder.fail("unknown barrier");
  const size_t first = votes ? 1 : 0, last = votes ? operands - 1 : operands;
  if (last < first + 1 || last > first + 2 || (kind == "arrive" && operands != 2)) {
    decoder.fail("wrong number of operands");
  }
  to.control = kind == "arrive" ? Control::arrive : Control::barrier;
  decoder.read(from.operands[first], WORD);
  if (last == first + 2) {
    decoder.read(from.operands[first + 1], WORD);
  } else {
    decoder.read_constant(0, WORD);
  }
  if (!votes) return;
  to.mode = kind == "red.popc.u32" ? 1 : kind == "red.and.pred" ? 2 : 3;
  decoder.write(from.operands[0], to.mode == 1 ? WORD : PREDICATE);
  decoder.read(from.operands[last], PREDICATE);
}

void decode_branch(Decoder& decoder, const PtxInstruction& from,
                   const std::vector<std::string>& modifiers, Instruction& to) {
  const bool known = modifiers.empty() || (modifiers.size() == 1 && modifiers[0] == "uni");
  if (!known) decoder.fail("unknown branch");
  decoder.expect_operands(1);
  to.control = Control::branch;
  to.target = static_cast<uint32_t>(decoder.label(from.operands[0]));
}

void decode_branch_table(Decoder& decoder, const PtxInstruction& from,
                         const std::vector<std::string>& modifiers, Instruction& to) {
  const bool known = !modifiers.empty() && modifiers[0] == "idx" &&
                     (modifiers.size() == 1 || (modifiers.size() == 2 && modifiers[1] == "uni"));
  if (!known) decoder.fail("unknown branch");
  decoder.expect_operands(2);
  to.control = Control::branch_table;
  decoder.read(from.operands[0], WORD);
  to.target = static_cast<uint32_t>(decoder.branch_table(from.operands[1]));
}

void trap(Warp& warp, const Instruction& in, uint32_t active) {
  fail(warp, in, __builtin_ctz(active), "executes trap");
}

}  // namespace

void add_control_flow(InstructionTable& table) {
  table.add_family("bar", decode_bar);
  table.add_family("barrier", decode_bar);
  table.add_family("bra", decode_branch);
  table.add_family("brx", decode_branch_table);
  table.add("ret", nullptr, "", Control::exit);
  table.add("ret.uni", nullptr, "", Control::exit);
  table.add("exit", nullptr, "", Control::exit);
  table.add("trap", trap, "");
}

}  // namespace vgg::emulator
