// mov, selp.

#include "emulator/decode/decode.h"
#include "emulator/instructions/instructions.h"

namespace vgg::emulator {
namespace {

template <class T>
T copy(T a) {
  return a;
}
template <class T>
T select(T a, T b, bool condition) {
  return condition ? a : b;
}

// mov between a register and its parts of Instruction::bytes each. Operands of `unpack`:
// parts[count], whole; of `pack`: whole, parts[count].
void unpack(Warp& warp, const Instruction& in, uint32_t active) {
  uint64_t whole[LANES];
  const bool wide = in.bytes * in.count == 8;
  for (int i = 0; i < LANES; ++i) {
    whole[i] = wide ? warp.lanes<uint64_t>(in.operands[in.count])[i]
                    : warp.lanes<uint32_t>(in.operands[in.count])[i];
  }
  for (int part = 0; part < in.count; ++part) {
    auto* to = warp.lanes<uint32_t>(in.operands[part]);
    const int shift = 8 * in.bytes * part;
    const uint32_t mask = in.bytes == 4 ? ~0u : 0xffffu;
    for_each_lane(active, [&](int i) { to[i] = static_cast<uint32_t>(whole[i] >> shift) & mask; });
  }
}

void pack(Warp& warp, const Instruction& in, uint32_t active) {
  const bool wide = in.bytes * in.count == 8;
  for_each_lane(active, [&](int i) {
    uint64_t whole = 0;
    for (int part = 0; part < in.count; ++part) {
      const uint64_t bits = warp.lanes<uint32_t>(in.operands[part + 1])[i];
      whole |= bits << 8 * in.bytes * part;
    }
    if (wide) {
      warp.lanes<uint64_t>(in.operands[0])[i] = whole;
    } else {
      warp.lanes<uint32_t>(in.operands[0])[i] = static_cast<uint32_t>(whole);
    }
  });
}

void decode_move(Decoder& decoder, const PtxInstruction& from,
                 const std::vector<std::string>& modifiers, Instruction& to) {
  if (from.operands.size() == 2 && from.operands[1].name == "%globaltimer") {
    return decode_clock(decoder, from, modifiers, to);
  }
  static const std::unordered_map<std::string, char> letters = {
      {"pred", PREDICATE}, {"b16", HALF},   {"u16", HALF},   {"s16", HALF}, {"f16", HALF},
      {"b32", WORD},       {"u32", WORD},   {"s32", WORD},   {"f32", WORD}, {"b64", DOUBLE},
      {"u64", DOUBLE},     {"s64", DOUBLE}, {"f64", DOUBLE}, {"bf16", HALF}};
  const auto found = modifiers.size() == 1 ? letters.find(modifiers[0]) : letters.end();
  if (found == letters.end()) decoder.fail("unknown type");
  decoder.expect_operands(2);
  const char letter = found->second;
  const PtxOperand& left = from.operands[0];
  const PtxOperand& right = from.operands[1];
  const bool unpacks = left.kind == PtxOperand::Kind::vector;
  if (!unpacks && right.kind != PtxOperand::Kind::vector) {
    to.handler = letter == PREDICATE ? &Elementwise<copy<bool>>::run
                 : letter == DOUBLE  ? &Elementwise<copy<uint64_t>>::run
                                     : &Elementwise<copy<uint32_t>>::run;
    decoder.write(left, letter);
    return decoder.read(right, letter);
  }
  const std::vector<PtxOperand>& parts = (unpacks ? left : right).parts;
  const int bytes = letter == DOUBLE ? 8 : 4;
  to.count = static_cast<uint8_t>(parts.size());
  to.bytes = static_cast<uint8_t>(bytes / (parts.empty() ? 1 : parts.size()));
  if (letter == PREDICATE || letter == HALF || (to.bytes != 2 && to.bytes != 4) ||
      to.bytes * to.count != bytes) {
    decoder.fail("expected parts of 16 or 32 bits that fill the register");
  }
  const char part_letter = to.bytes == 4 ? WORD : HALF;
  if (!unpacks) decoder.write(left, letter);
  for (const PtxOperand& part : parts) {
    if (unpacks) {
      decoder.write(part, part_letter);
    } else {
      decoder.read(part, part_letter);
    }
  }
  if (unpacks) decoder.read(right, letter);
  to.handler = unpacks ? unpack : pack;
}

}  // namespace

void add_moves(InstructionTable& table) {
  table.add_family("mov", decode_move);
  for (const char* sign : {"b", "u", "s"}) {
    table.add<select<uint16_t>>(std::string("selp.") + sign + "16");
    table.add<select<uint32_t>>(std::string("selp.") + sign + "32");
    table.add<select<uint64_t>>(std::string("selp.") + sign + "64");
  }
  table.add<select<uint16_t>>("selp.f16");
  table.add<select<uint32_t>>("selp.f32");
  table.add<select<uint64_t>>("selp.f64");
}

}  // namespace vgg::emulator
