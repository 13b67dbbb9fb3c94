// setp.

#include <cmath>

#include "emulator/core/float16.h"
#include "emulator/decode/decode.h"
#include "emulator/instructions/instructions.h"

namespace vgg::emulator {
namespace {

// Comparisons. Float comparisons whose name does not end in "u" are false if an operand is NaN.
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

// F applied to 16-bit floats.
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

// Operands: p, q, c, a, b. Computes p = F(a, b) op c and q = !F(a, b) op c.
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

// WRAP<F> turns a comparison of Number into a comparison of T.
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

void add_comparisons(InstructionTable& table) { table.add_family("setp", decode_setp); }

}  // namespace vgg::emulator
