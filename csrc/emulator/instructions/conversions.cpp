// cvt, cvta.

#include <cmath>
#include <limits>

#include "emulator/core/float16.h"
#include "emulator/decode/decode.h"
#include "emulator/instructions/instructions.h"
#include "emulator/instructions/memory_access.h"
#include "emulator/instructions/memory_modifiers.h"

namespace vgg::emulator {
namespace {

// Integer to integer. A register may be wider than the type; only its low bits are used.
template <class To, class From>
void convert_integer(Warp& warp, const Instruction& in, uint32_t active) {
  auto run = [&](auto* to, const auto* from) {
    using Stored = std::remove_reference_t<decltype(*to)>;
    auto one = [&](int i) {
      to[i] = static_cast<Stored>(static_cast<To>(static_cast<From>(from[i])));
      if (in.mode != 0) to[i] &= 0xffff;  // into a 16-bit register
    };
    if (active == ALL_LANES) {
#pragma GCC ivdep
      for (int i = 0; i < LANES; ++i) one(i);
    } else {
      for_each_lane(active, one);
    }
  };
  const bool wide_to = in.bytes == 8, wide_from = in.count == 8;
  if (wide_to && wide_from) {
    run(warp.lanes<uint64_t>(in.operands[0]), warp.lanes<uint64_t>(in.operands[1]));
  } else if (wide_to) {
    run(warp.lanes<uint64_t>(in.operands[0]), warp.lanes<uint32_t>(in.operands[1]));
  } else if (wide_from) {
    run(warp.lanes<uint32_t>(in.operands[0]), warp.lanes<uint64_t>(in.operands[1]));
  } else {
    run(warp.lanes<uint32_t>(in.operands[0]), warp.lanes<uint32_t>(in.operands[1]));
  }
}

template <class To>
Handler integer_handler_from(const std::string& from) {
  if (from == "u8") return &convert_integer<To, uint8_t>;
  if (from == "s8") return &convert_integer<To, int8_t>;
  if (from == "u16") return &convert_integer<To, uint16_t>;
  if (from == "s16") return &convert_integer<To, int16_t>;
  if (from == "u32") return &convert_integer<To, uint32_t>;
  if (from == "s32") return &convert_integer<To, int32_t>;
  if (from == "u64") return &convert_integer<To, uint64_t>;
  if (from == "s64") return &convert_integer<To, int64_t>;
  return nullptr;
}

Handler integer_handler(const std::string& to, const std::string& from) {
  if (to == "u8") return integer_handler_from<uint8_t>(from);
  if (to == "s8") return integer_handler_from<int8_t>(from);
  if (to == "u16") return integer_handler_from<uint16_t>(from);
  if (to == "s16") return integer_handler_from<int16_t>(from);
  if (to == "u32") return integer_handler_from<uint32_t>(from);
  if (to == "s32") return integer_handler_from<int32_t>(from);
  if (to == "u64") return integer_handler_from<uint64_t>(from);
  if (to == "s64") return integer_handler_from<int64_t>(from);
  return nullptr;
}

// Rounding to an integral value.
enum class Integral { nearest, down, up, zero };
template <Integral ROUNDING, class T>
T integral(T value) {
  switch (ROUNDING) {
    case Integral::nearest:
      return std::nearbyint(value);
    case Integral::down:
      return std::floor(value);
    case Integral::up:
      return std::ceil(value);
    default:
      return std::trunc(value);
  }
}

// Values out of range become the nearest integer, NaN becomes 0.
template <class To, class From>
To to_integer(From integral_value) {
  const auto value = static_cast<double>(integral_value);
  if (value != value) return 0;
  const double low = static_cast<double>(std::numeric_limits<To>::min());
  const double end = std::ldexp(1.0, std::numeric_limits<To>::digits);
  if (value < low) return std::numeric_limits<To>::min();
  if (value >= end) return std::numeric_limits<To>::max();
  return static_cast<To>(integral_value);
}
template <class To, class From, Integral ROUNDING>
To float_to_integer(From value) {
  return to_integer<To>(integral<ROUNDING>(value));
}
template <class To, class From, Integral ROUNDING>
To half_to_integer(From value) {
  return to_integer<To>(integral<ROUNDING>(to_float(value)));
}
template <class To, class From>
To integer_to_float(From value) {
  return static_cast<To>(value);
}
template <class To, class From>
To integer_to_half(From value) {
  return from_float<To>(static_cast<float>(value));  // exact for up to 24 bits
}

template <Integral ROUNDING>
float integral32(float value) {
  return integral<ROUNDING>(value);
}
float flush(float value) {
  return std::fabs(value) < std::numeric_limits<float>::min() ? std::copysign(0.0f, value) : value;
}
float saturate(float value) { return value > 0.0f ? (value < 1.0f ? value : 1.0f) : 0.0f; }
float saturate_flushed(float value) { return saturate(flush(value)); }
float widen_half(Half value) { return to_float(value); }
float widen_bfloat(Bfloat value) { return to_float(value); }
template <class T>
T narrow(float value) {
  return from_float<T>(value);
}
template <class T>
T narrow_relu(float value) {
  return value < 0.0f ? T{0} : from_float<T>(value);
}
// The first operand goes to the high half.
template <class Pair, class T>
Pair narrow_two(float second, float first) {
  const uint32_t high = from_float<T>(second).bits, low = from_float<T>(first).bits;
  return {low | high << 16};
}
template <class Pair, class T>
Pair narrow_two_relu(float second, float first) {
  return narrow_two<Pair, T>(second < 0.0f ? 0.0f : second, first < 0.0f ? 0.0f : first);
}
// Rounds to nearest, ties away from zero; the low 13 bits become 0.
uint32_t to_tf32(float value) {
  const uint32_t bits = bit_cast<uint32_t>(value);
  if ((bits & 0x7f800000u) == 0x7f800000u) return bits;
  return (bits + 0x1000u) & 0xffffe000u;
}
double widen32(float value) { return value; }
float narrow64(double value) { return static_cast<float>(value); }

template <Integral ROUNDING>
void add_integral(InstructionTable& table, const std::string& rounding) {
  table.add<integral32<ROUNDING>>("cvt." + rounding + ".f32.f32");
  auto add = [&](const std::string& to, auto zero) {
    using To = decltype(zero);
    const std::string name = "cvt." + rounding;
    table.add<float_to_integer<To, float, ROUNDING>>(name + '.' + to + ".f32");
    table.add<float_to_integer<To, float, ROUNDING>>(name + ".ftz." + to + ".f32");
    table.add<float_to_integer<To, double, ROUNDING>>(name + '.' + to + ".f64");
    table.add<half_to_integer<To, Half, ROUNDING>>(name + '.' + to + ".f16");
  };
  add("u16", uint16_t{});
  add("s16", int16_t{});
  add("u32", uint32_t{});
  add("s32", int32_t{});
  add("u64", uint64_t{});
  add("s64", int64_t{});
}

template <class From>
void add_from_integer(InstructionTable& table, const std::string& from) {
  table.add<integer_to_float<float, From>>("cvt.rn.f32." + from);
  table.add<integer_to_float<double, From>>("cvt.rn.f64." + from);
  table.add<integer_to_half<Half, From>>("cvt.rn.f16." + from);
}

template <uint64_t WINDOW>
uint64_t to_generic(uint64_t address) {
  return address | WINDOW;
}
uint64_t from_generic(uint64_t address) { return address & ~WINDOW_MASK; }
uint64_t same_address(uint64_t address) { return address; }

// cvt between integer types. Registers may be wider than the types.
void decode_integer_conversion(Decoder& decoder, const PtxInstruction& from,
                               const std::vector<std::string>& modifiers, Instruction& to) {
  if (modifiers.size() == 2) to.handler = integer_handler(modifiers[0], modifiers[1]);
  if (to.handler == nullptr) decoder.fail("this conversion is not modelled");
  decoder.expect_operands(2);
  auto letter = [&](const PtxOperand& operand, const std::string& type) {
    const char own = decoder.register_letter(operand);
    if (own != 0) return own;
    const int bytes = bytes_of_type(type);
    return bytes == 8 ? DOUBLE : bytes == 4 ? WORD : HALF;
  };
  const char left = letter(from.operands[0], modifiers[0]);
  const char right = letter(from.operands[1], modifiers[1]);
  decoder.write(from.operands[0], left);
  decoder.read(from.operands[1], right);
  to.bytes = left == DOUBLE ? 8 : 4;
  to.count = right == DOUBLE ? 8 : 4;
  to.mode = left == HALF ? 1 : 0;
}

}  // namespace

void add_conversions(InstructionTable& table) {
  table.add_family("cvt", decode_integer_conversion);
  add_integral<Integral::nearest>(table, "rni");
  add_integral<Integral::down>(table, "rmi");
  add_integral<Integral::up>(table, "rpi");
  add_integral<Integral::zero>(table, "rzi");
  add_from_integer<uint16_t>(table, "u16");
  add_from_integer<int16_t>(table, "s16");
  add_from_integer<uint32_t>(table, "u32");
  add_from_integer<int32_t>(table, "s32");
  add_from_integer<uint64_t>(table, "u64");
  add_from_integer<int64_t>(table, "s64");
  table.add<saturate>("cvt.sat.f32.f32");
  table.add<saturate_flushed>("cvt.ftz.sat.f32.f32");
  table.add<flush>("cvt.ftz.f32.f32");
  table.add<widen_half>("cvt.f32.f16");
  table.add<widen_half>("cvt.ftz.f32.f16");
  table.add<widen_bfloat>("cvt.f32.bf16");
  table.add<narrow<Half>>("cvt.rn.f16.f32");
  table.add<narrow<Bfloat>>("cvt.rn.bf16.f32");
  table.add<narrow_relu<Half>>("cvt.rn.relu.f16.f32");
  table.add<narrow_relu<Bfloat>>("cvt.rn.relu.bf16.f32");
  table.add<narrow_two<Half2, Half>>("cvt.rn.f16x2.f32");
  table.add<narrow_two<Bfloat2, Bfloat>>("cvt.rn.bf16x2.f32");
  table.add<narrow_two_relu<Half2, Half>>("cvt.rn.relu.f16x2.f32");
  table.add<narrow_two_relu<Bfloat2, Bfloat>>("cvt.rn.relu.bf16x2.f32");
  table.add<to_tf32>("cvt.rna.tf32.f32");
  table.add<widen32>("cvt.f64.f32");
  table.add<narrow64>("cvt.rn.f32.f64");

  // Global addresses are generic addresses; the other spaces have windows.
  table.add<same_address>("cvta.global.u64");
  table.add<same_address>("cvta.to.global.u64");
  table.add<same_address>("cvta.const.u64");
  table.add<to_generic<SHARED_WINDOW>>("cvta.shared.u64");
  table.add<from_generic>("cvta.to.shared.u64");
  table.add<to_generic<LOCAL_WINDOW>>("cvta.local.u64");
  table.add<from_generic>("cvta.to.local.u64");
  table.add<to_generic<PARAM_WINDOW>>("cvta.param.u64");
  table.add<from_generic>("cvta.to.param.u64");
}

}  // namespace vgg::emulator
