// mov, selp, setp.

#include <cmath>

#include "emulator/core/float16.h"
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

// mov between a register and the parts of it. Operands: parts[count] and the whole, or the other
// way round; a part has Instruction::bytes.
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
    decoder.fail("unknown parts of a register");
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

// Comparisons. Those of floats without a "u" are false if an operand is NaN.
template <class T>
bool equal(T a, T b) {
  return a == b;
}
template <class T>
bool not_equal(T a, T b) {
  return a < b || a > b;
}
template <class T>
bool less(T a, T b) {
  return a < b;
}
template <class T>
bool less_equal(T a, T b) {
  return a <= b;
}
template <class T>
bool greater(T a, T b) {
  return a > b;
}
template <class T>
bool greater_equal(T a, T b) {
  return a >= b;
}
template <class T, bool (*F)(T, T)>
bool complement(T a, T b) {
  return !F(a, b);
}
template <class T>
bool numbers(T a, T b) {
  return a == a && b == b;
}

// F of 16-bit floats.
template <class T, bool (*F)(float, float)>
bool as_floats(T a, T b) {
  return F(to_float(a), to_float(b));
}
float flush(float value) {
  return std::fabs(value) < 0x1p-126f ? std::copysign(0.0f, value) : value;
}
template <bool (*F)(float, float)>
bool flushed(float a, float b) {
  return F(flush(a), flush(b));
}

enum Combine : uint8_t { ONLY, AND, OR, XOR };  // Instruction::mode

// Operands: to, to for the complement, condition, a, b. p = F(a, b) op c, q = !F(a, b) op c.
template <class T, bool (*F)(T, T)>
void compare(Warp& warp, const Instruction& in, uint32_t active) {
  const auto a = LaneType<T>::lanes(warp, in.operands[3]);
  const auto b = LaneType<T>::lanes(warp, in.operands[4]);
  uint32_t result = 0;
  for (int i = 0; i < LANES; ++i) {
    result |= static_cast<uint32_t>(F(LaneType<T>::load(a, i), LaneType<T>::load(b, i))) << i;
  }
  const uint32_t condition = *warp.lanes<uint32_t>(in.operands[2]);
  auto combined = [&](uint32_t bits) {
    return in.mode == ONLY  ? bits
           : in.mode == AND ? bits & condition
           : in.mode == OR  ? bits | condition
                            : bits ^ condition;
  };
  const uint32_t first = combined(result), second = combined(~result);
  auto* to = warp.lanes<uint32_t>(in.operands[0]);
  *to = (*to & ~active) | (first & active);
  auto* complement_to = warp.lanes<uint32_t>(in.operands[1]);
  *complement_to = (*complement_to & ~active) | (second & active);
}

using Handlers = std::unordered_map<std::string, std::pair<Handler, char>>;

template <class T>
void add_ordered(Handlers& handlers, const std::string& type) {
  const char letter = LaneType<T>::LETTER;
  handlers["lt." + type] = {&compare<T, less<T>>, letter};
  handlers["le." + type] = {&compare<T, less_equal<T>>, letter};
  handlers["gt." + type] = {&compare<T, greater<T>>, letter};
  handlers["ge." + type] = {&compare<T, greater_equal<T>>, letter};
  if constexpr (std::is_unsigned_v<T>) {
    handlers["lo." + type] = handlers["lt." + type];
    handlers["ls." + type] = handlers["le." + type];
    handlers["hi." + type] = handlers["gt." + type];
    handlers["hs." + type] = handlers["ge." + type];
  }
}

template <class T>
void add_equality(Handlers& handlers, const std::string& type) {
  handlers["eq." + type] = {&compare<T, equal<T>>, LaneType<T>::LETTER};
  handlers["ne." + type] = {&compare<T, not_equal<T>>, LaneType<T>::LETTER};
}

// WRAP<F> makes of a comparison of Number one of T.
template <class T, class Number, template <bool (*)(Number, Number)> class WRAP>
void add_float(Handlers& handlers, const std::string& type) {
  const char letter = LaneType<T>::LETTER;
  auto add = [&](const char* name, Handler handler) {
    handlers[std::string(name) + '.' + type] = {handler, letter};
  };
  add("eq", &compare<T, WRAP<equal<Number>>::run>);
  add("ne", &compare<T, WRAP<not_equal<Number>>::run>);
  add("lt", &compare<T, WRAP<less<Number>>::run>);
  add("le", &compare<T, WRAP<less_equal<Number>>::run>);
  add("gt", &compare<T, WRAP<greater<Number>>::run>);
  add("ge", &compare<T, WRAP<greater_equal<Number>>::run>);
  add("equ", &compare<T, WRAP<complement<Number, not_equal<Number>>>::run>);
  add("neu", &compare<T, WRAP<complement<Number, equal<Number>>>::run>);
  add("ltu", &compare<T, WRAP<complement<Number, greater_equal<Number>>>::run>);
  add("leu", &compare<T, WRAP<complement<Number, greater<Number>>>::run>);
  add("gtu", &compare<T, WRAP<complement<Number, less_equal<Number>>>::run>);
  add("geu", &compare<T, WRAP<complement<Number, less<Number>>>::run>);
  add("num", &compare<T, WRAP<numbers<Number>>::run>);
  add("nan", &compare<T, WRAP<complement<Number, numbers<Number>>>::run>);
}

template <bool (*F)(float, float)>
struct Plain {
  static bool run(float a, float b) { return F(a, b); }
};
template <bool (*F)(double, double)>
struct Plain64 {
  static bool run(double a, double b) { return F(a, b); }
};
template <bool (*F)(float, float)>
struct FlushedFloats {
  static bool run(float a, float b) { return flushed<F>(a, b); }
};
template <bool (*F)(float, float)>
struct Halves {
  static bool run(Half a, Half b) { return as_floats<Half, F>(a, b); }
};
template <bool (*F)(float, float)>
struct Bfloats {
  static bool run(Bfloat a, Bfloat b) { return as_floats<Bfloat, F>(a, b); }
};

const Handlers& comparisons() {
  static const Handlers handlers = [] {
    Handlers result;
    add_ordered<uint16_t>(result, "u16");
    add_ordered<int16_t>(result, "s16");
    add_ordered<uint32_t>(result, "u32");
    add_ordered<int32_t>(result, "s32");
    add_ordered<uint64_t>(result, "u64");
    add_ordered<int64_t>(result, "s64");
    for (const char* sign : {"b", "u", "s"}) {
      add_equality<uint16_t>(result, sign + std::string("16"));
      add_equality<uint32_t>(result, sign + std::string("32"));
      add_equality<uint64_t>(result, sign + std::string("64"));
    }
    add_float<float, float, Plain>(result, "f32");
    add_float<float, float, FlushedFloats>(result, "ftz.f32");
    add_float<double, double, Plain64>(result, "f64");
    add_float<Half, float, Halves>(result, "f16");
    add_float<Bfloat, float, Bfloats>(result, "bf16");
    return result;
  }();
  return handlers;
}

void decode_setp(Decoder& decoder, const PtxInstruction& from,
                 const std::vector<std::string>& modifiers, Instruction& to) {
  std::string name;
  for (const std::string& modifier : modifiers) {
    const uint8_t combine = modifier == "and"   ? AND
                            : modifier == "or"  ? OR
                            : modifier == "xor" ? XOR
                                                : ONLY;
    if (combine != ONLY && to.mode == ONLY && !name.empty()) {
      to.mode = combine;
    } else {
      name += (name.empty() ? "" : ".") + modifier;
    }
  }
  const auto found = comparisons().find(name);
  if (found == comparisons().end()) decoder.fail("unknown comparison");
  decoder.expect_operands(to.mode == ONLY ? 3 : 4);
  PtxOperand dummy;
  dummy.name = "_";
  const bool pair = from.operands[0].kind == PtxOperand::Kind::pair;
  decoder.write(pair ? from.operands[0].parts[0] : from.operands[0], PREDICATE);
  decoder.write(pair ? from.operands[0].parts[1] : dummy, PREDICATE);
  if (to.mode == ONLY) {
    decoder.read_constant(0, PREDICATE);
  } else {
    decoder.read(from.operands[3], PREDICATE);
  }
  decoder.read(from.operands[1], found->second.second);
  decoder.read(from.operands[2], found->second.second);
  to.handler = found->second.first;
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

void add_comparisons(InstructionTable& table) { table.add_family("setp", decode_setp); }

}  // namespace vgg::emulator
