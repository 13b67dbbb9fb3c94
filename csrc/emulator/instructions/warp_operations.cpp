// Shuffles, votes and reductions of a warp: shfl, vote, redux, activemask.

#include <unordered_map>

#include "emulator/decode/decode.h"
#include "emulator/instructions/instructions.h"
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
      fail(warp, in, lane, "reads from lane " + std::to_string(source) + ", which is not active");
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

}  // namespace

void add_warp_operations(InstructionTable& table) {
  table.add_family("shfl", decode_shuffle);
  table.add_family("vote", decode_vote);
  table.add_family("redux", decode_redux);
  table.add("activemask.b32", active_mask, "w");
}

}  // namespace vgg::emulator
