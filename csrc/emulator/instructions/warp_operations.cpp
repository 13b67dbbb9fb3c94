// Instructions in which the threads of a warp work together: shuffles, votes, ldmatrix, barriers;
// and those that decide where threads go next.

#include <cstring>

#include "emulator/decode/decode.h"
#include "emulator/instructions/instructions.h"
#include "emulator/instructions/memory_access.h"
#include "emulator/run/block.h"

namespace vgg::emulator {
namespace {

enum ShuffleMode : uint8_t { UP, DOWN, BUTTERFLY, INDEX };

// Operands: to, predicate, from, lane, clamp and segment mask, members.
void shuffle(Warp& warp, const Instruction& in, uint32_t active) {
  auto* to = warp.lanes<uint32_t>(in.operands[0]);
  auto* inside = warp.lanes<uint32_t>(in.operands[1]);
  const auto* from = warp.lanes<uint32_t>(in.operands[2]);
  const auto* operand_b = warp.lanes<uint32_t>(in.operands[3]);
  const auto* operand_c = warp.lanes<uint32_t>(in.operands[4]);
  uint32_t result[LANES], valid = 0;
  for_each_lane(active, [&](int lane) {
    const int b = operand_b[lane] & 31;
    const int clamp = operand_c[lane] & 31, segment = operand_c[lane] >> 8 & 31;
    const int last = (lane & segment) | (clamp & ~segment), first = lane & segment;
    int source = lane;
    bool ok = false;
    switch (in.mode) {
      case UP:
        source = lane - b;
        ok = source >= last;
        break;
      case DOWN:
        source = lane + b;
        ok = source <= last;
        break;
      case BUTTERFLY:
        source = lane ^ b;
        ok = source <= last;
        break;
      default:
        source = first | (b & ~segment);
        ok = source <= last;
    }
    if (!ok) source = lane;
    if (!is_active(active, source)) {
      fail(warp, in, lane, "reads from lane " + std::to_string(source) + ", which is not here");
    }
    result[lane] = from[source];
    valid |= static_cast<uint32_t>(ok) << lane;
  });
  for_each_lane(active, [&](int lane) { to[lane] = result[lane]; });
  *inside = (*inside & ~active) | (valid & active);
  ++warp.block->counters.shuffles;
}

void decode_shuffle(Decoder& decoder, const PtxInstruction& from,
                    const std::vector<std::string>& modifiers, Instruction& to) {
  const bool known = modifiers.size() == 3 && modifiers[0] == "sync" && modifiers[2] == "b32";
  if (!known) decoder.fail("only shfl.sync.*.b32 is modelled");
  const std::string& mode = modifiers[1];
  to.mode = mode == "up" ? UP : mode == "down" ? DOWN : mode == "bfly" ? BUTTERFLY : INDEX;
  if (to.mode == INDEX && mode != "idx") decoder.fail("unknown shuffle");
  decoder.expect_operands(5);
  PtxOperand dummy;
  dummy.name = "_";
  const bool pair = from.operands[0].kind == PtxOperand::Kind::pair;
  decoder.write(pair ? from.operands[0].parts[0] : from.operands[0], WORD);
  decoder.write(pair ? from.operands[0].parts[1] : dummy, PREDICATE);
  for (int i = 1; i < 5; ++i) decoder.read(from.operands[i], WORD);
  to.handler = shuffle;
  to.control = Control::member_mask;
  to.count = 5;
}

enum VoteMode : uint8_t { VOTE_ALL, VOTE_ANY, VOTE_UNI, VOTE_BALLOT };

// Operands: to, predicate, members.
void vote(Warp& warp, const Instruction& in, uint32_t active) {
  const uint32_t votes = *warp.lanes<uint32_t>(in.operands[1]);
  const auto* members = warp.lanes<uint32_t>(in.operands[2]);
  auto* to = warp.lanes<uint32_t>(in.operands[0]);
  uint32_t result = 0;
  for_each_lane(active, [&](int lane) {
    const uint32_t group = members[lane] & active, yes = votes & group;
    if (in.mode == VOTE_BALLOT) to[lane] = yes;
    const bool decided = in.mode == VOTE_ALL   ? yes == group
                         : in.mode == VOTE_ANY ? yes != 0
                                               : yes == group || yes == 0;
    result |= static_cast<uint32_t>(decided) << lane;
  });
  if (in.mode != VOTE_BALLOT) *to = (*to & ~active) | result;
}

void decode_vote(Decoder& decoder, const PtxInstruction& from,
                 const std::vector<std::string>& modifiers, Instruction& to) {
  if (modifiers.size() != 3 || modifiers[0] != "sync") decoder.fail("only vote.sync is modelled");
  const std::string mode = modifiers[1] + '.' + modifiers[2];
  to.mode = mode == "all.pred"   ? VOTE_ALL
            : mode == "any.pred" ? VOTE_ANY
            : mode == "uni.pred" ? VOTE_UNI
                                 : VOTE_BALLOT;
  if (to.mode == VOTE_BALLOT && mode != "ballot.b32") decoder.fail("unknown vote");
  decoder.expect_operands(3);
  decoder.write(from.operands[0], to.mode == VOTE_BALLOT ? WORD : PREDICATE);
  decoder.read(from.operands[1], PREDICATE);
  decoder.read(from.operands[2], WORD);
  to.handler = vote;
  to.control = Control::member_mask;
  to.count = 2;
}

template <class T>
T reduce_add(T a, T b) {
  return a + b;
}
template <class T>
T reduce_min(T a, T b) {
  return b < a ? b : a;
}
template <class T>
T reduce_max(T a, T b) {
  return a < b ? b : a;
}
template <class T>
T reduce_and(T a, T b) {
  return a & b;
}
template <class T>
T reduce_or(T a, T b) {
  return a | b;
}
template <class T>
T reduce_xor(T a, T b) {
  return a ^ b;
}

// Operands: to, from, members.
template <class T, T (*F)(T, T)>
void reduce(Warp& warp, const Instruction& in, uint32_t active) {
  const auto* from = warp.lanes<uint32_t>(in.operands[1]);
  const auto* members = warp.lanes<uint32_t>(in.operands[2]);
  uint32_t result[LANES];
  for_each_lane(active, [&](int lane) {
    const uint32_t group = members[lane] & active;
    T sum = static_cast<T>(from[__builtin_ctz(group)]);
    for_each_lane(group & (group - 1), [&](int i) { sum = F(sum, static_cast<T>(from[i])); });
    result[lane] = static_cast<uint32_t>(sum);
  });
  for_each_lane(active,
                [&](int lane) { warp.lanes<uint32_t>(in.operands[0])[lane] = result[lane]; });
}

void decode_redux(Decoder& decoder, const PtxInstruction& from,
                  const std::vector<std::string>& modifiers, Instruction& to) {
  static const std::unordered_map<std::string, Handler> handlers = {
      {"add.u32", &reduce<uint32_t, reduce_add>}, {"add.s32", &reduce<uint32_t, reduce_add>},
      {"min.u32", &reduce<uint32_t, reduce_min>}, {"min.s32", &reduce<int32_t, reduce_min>},
      {"max.u32", &reduce<uint32_t, reduce_max>}, {"max.s32", &reduce<int32_t, reduce_max>},
      {"and.b32", &reduce<uint32_t, reduce_and>}, {"or.b32", &reduce<uint32_t, reduce_or>},
      {"xor.b32", &reduce<uint32_t, reduce_xor>}};
  if (modifiers.size() == 3 && modifiers[0] == "sync") {
    const auto found = handlers.find(modifiers[1] + '.' + modifiers[2]);
    if (found != handlers.end()) to.handler = found->second;
  }
  if (to.handler == nullptr) decoder.fail("unknown reduction");
  decoder.expect_operands(3);
  decoder.write(from.operands[0], WORD);
  decoder.read(from.operands[1], WORD);
  decoder.read(from.operands[2], WORD);
  to.control = Control::member_mask;
  to.count = 2;
}

void active_mask(Warp& warp, const Instruction& in, uint32_t active) {
  for_each_lane(active, [&](int lane) { warp.lanes<uint32_t>(in.operands[0])[lane] = active; });
}

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

// Operands: to[count], address. Each eight threads have the addresses of the rows of one matrix.
template <bool TRANSPOSED>
void load_matrix(Warp& warp, const Instruction& in, uint32_t active) {
  Block& block = *warp.block;
  const int rows = in.count * 8;
  const uint32_t readers = rows == LANES ? ALL_LANES : (1u << rows) - 1;
  Addresses at =
      read_addresses(warp, active & readers, in.operands[in.count], in.wide_address, in.immediate);
  block.shared.check(warp, in, readers, at.of, 16, "reads");
  block.shared.count_passes(block.counters, readers, at.of, 16);
  block.races.read_together(warp, in, readers, at.of, 16);
  const char* shared = block.shared.data();
  for (int matrix = 0; matrix < in.count; ++matrix) {
    auto* to = warp.lanes<uint32_t>(in.operands[matrix]);
    if (!TRANSPOSED) {
      for (int row = 0; row < 8; ++row) {
        std::memcpy(to + row * 4, shared + at.of[matrix * 8 + row], 16);
      }
      continue;
    }
    uint16_t element[8][8];
    for (int row = 0; row < 8; ++row) {
      std::memcpy(element[row], shared + at.of[matrix * 8 + row], 16);
    }
    for (int lane = 0; lane < LANES; ++lane) {
      const int row = lane % 4 * 2, column = lane / 4;
      to[lane] = element[row][column] | static_cast<uint32_t>(element[row + 1][column]) << 16;
    }
  }
  ++block.counters.ldmatrix;
}

void decode_ldmatrix(Decoder& decoder, const PtxInstruction& from,
                     const std::vector<std::string>& modifiers, Instruction& to) {
  std::string name;
  bool transposed = false;
  for (const std::string& modifier : modifiers) {
    if (modifier == "trans" && !transposed) {
      transposed = true;
    } else if (modifier == "x1" || modifier == "x2" || modifier == "x4") {
      to.count = static_cast<uint8_t>(modifier[1] - '0');
    } else {
      name += modifier + '.';
    }
  }
  if (to.count == 0 ||
      (name != "sync.aligned.m8n8.shared.b16." && name != "sync.aligned.m8n8.shared::cta.b16.")) {
    decoder.fail("unknown ldmatrix");
  }
  decoder.expect_operands(2);
  const PtxOperand& value = from.operands[0];
  const std::vector<PtxOperand> registers =
      value.kind == PtxOperand::Kind::vector ? value.parts : std::vector<PtxOperand>{value};
  if (registers.size() != to.count) decoder.fail("wrong number of registers");
  for (const PtxOperand& reg : registers) decoder.write(reg, WORD);
  decoder.read_address(from.operands[1], to);
  to.control = Control::aligned;
  to.handler = transposed ? &load_matrix<true> : &load_matrix<false>;
}

// An 8x8 matrix of 16-bit elements, transposed in registers.
void move_matrix(Warp& warp, const Instruction& in, uint32_t) {
  uint16_t element[8][8];
  uint32_t result[LANES];
  std::memcpy(element, warp.lanes<uint32_t>(in.operands[1]), sizeof(element));
  for (int lane = 0; lane < LANES; ++lane) {
    const int row = lane % 4 * 2, column = lane / 4;
    result[lane] = element[row][column] | static_cast<uint32_t>(element[row + 1][column]) << 16;
  }
  std::memcpy(warp.lanes<uint32_t>(in.operands[0]), result, sizeof(result));
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

void decode_call(Decoder& decoder, const PtxInstruction&, const std::vector<std::string>&,
                 Instruction&) {
  decoder.fail("calls are not modelled (a function that was not inlined, printf, assert?)");
}

void trap(Warp& warp, const Instruction& in, uint32_t active) {
  fail(warp, in, __builtin_ctz(active), "trap");
}

void do_nothing(Warp&, const Instruction&, uint32_t) {}

}  // namespace

void add_warp_operations(InstructionTable& table) {
  table.add_family("shfl", decode_shuffle);
  table.add_family("vote", decode_vote);
  table.add_family("redux", decode_redux);
  table.add_family("ldmatrix", decode_ldmatrix);
  table.add_family("bar", decode_bar);
  table.add_family("barrier", decode_bar);
  table.add("activemask.b32", active_mask, "w");
  table.add("movmatrix.sync.aligned.m8n8.trans.b16", move_matrix, "ww", Control::aligned);
}

void add_control_flow(InstructionTable& table) {
  table.add_family("bra", decode_branch);
  table.add_family("brx", decode_branch_table);
  table.add_family("call", decode_call);
  table.add("ret", nullptr, "", Control::exit);
  table.add("ret.uni", nullptr, "", Control::exit);
  table.add("exit", nullptr, "", Control::exit);
  table.add("trap", trap, "");
  table.add("nanosleep.u32", do_nothing, "w");
}

}  // namespace vgg::emulator
