// Integer arithmetic.

#include <algorithm>

#include "emulator/instructions/instructions.h"

namespace vgg::emulator {
namespace {

template <class T>
using Unsigned = std::make_unsigned_t<T>;
template <class T>
using Signed = std::make_signed_t<T>;
// The type of twice the width; for 64 bits an extension of GCC and Clang.
template <class T>
struct WideOf;
template <>
struct WideOf<int16_t> {
  using type = int32_t;
};
template <>
struct WideOf<uint16_t> {
  using type = uint32_t;
};
template <>
struct WideOf<int32_t> {
  using type = int64_t;
};
template <>
struct WideOf<uint32_t> {
  using type = uint64_t;
};
__extension__ typedef __int128 Int128;
__extension__ typedef unsigned __int128 Uint128;
template <>
struct WideOf<int64_t> {
  using type = Int128;
};
template <>
struct WideOf<uint64_t> {
  using type = Uint128;
};
template <class T>
using Wide = typename WideOf<T>::type;

// PTX sums and products wrap around. In C++ only unsigned types may overflow, and 16-bit operands
// are promoted to int.
template <class T>
T wrap_multiply(T a, T b) {
  return static_cast<T>(static_cast<uint64_t>(a) * static_cast<uint64_t>(b));
}

template <class T>
T add(T a, T b) {
  return static_cast<T>(static_cast<Unsigned<T>>(a) + static_cast<Unsigned<T>>(b));
}
template <class T>
T subtract(T a, T b) {
  return static_cast<T>(static_cast<Unsigned<T>>(a) - static_cast<Unsigned<T>>(b));
}
template <class T>
T multiply_low(T a, T b) {
  if constexpr (sizeof(T) == 4) return a * b;
  return wrap_multiply(a, b);
}
template <class T>
T multiply_high(T a, T b) {
  return static_cast<T>(static_cast<Wide<T>>(a) * static_cast<Wide<T>>(b) >> 8 * sizeof(T));
}
template <class T>
Wide<T> multiply_wide(T a, T b) {
  return static_cast<Wide<T>>(a) * static_cast<Wide<T>>(b);
}
template <class T>
T multiply_add_low(T a, T b, T c) {
  return add(multiply_low(a, b), c);
}
template <class T>
T multiply_add_high(T a, T b, T c) {
  return add(multiply_high(a, b), c);
}
template <class T>
Wide<T> multiply_add_wide(T a, T b, Wide<T> c) {
  return add(multiply_wide(a, b), c);
}
template <class T>
T divide(T a, T b) {
  if (b == 0) return static_cast<T>(-1);
  if (std::is_signed_v<T> && b == static_cast<T>(-1)) return subtract(T{0}, a);
  return a / b;
}
template <class T>
T remainder(T a, T b) {
  if (b == 0) return a;
  if (std::is_signed_v<T> && b == static_cast<T>(-1)) return 0;
  return a % b;
}
template <class T>
T minimum(T a, T b) {
  return b < a ? b : a;
}
template <class T>
T maximum(T a, T b) {
  return a < b ? b : a;
}
template <class T>
T negate(T a) {
  return subtract(T{0}, a);
}
template <class T>
T absolute(T a) {
  return a < 0 ? negate(a) : a;
}
int32_t add_saturated(int32_t a, int32_t b) {
  const int64_t sum = static_cast<int64_t>(a) + b;
  return static_cast<int32_t>(std::clamp<int64_t>(sum, INT32_MIN, INT32_MAX));
}

int32_t dot4_signed(uint32_t a, uint32_t b, int32_t c) {
  uint32_t sum = static_cast<uint32_t>(c);
  for (int i = 0; i < 32; i += 8) {
    sum += static_cast<uint32_t>(static_cast<int8_t>(a >> i) * static_cast<int8_t>(b >> i));
  }
  return static_cast<int32_t>(sum);
}

template <class T>
void add_type(InstructionTable& table, const std::string& type) {
  table.add<add<T>>("add." + type);
  table.add<subtract<T>>("sub." + type);
  table.add<multiply_low<T>>("mul.lo." + type);
  table.add<multiply_high<T>>("mul.hi." + type);
  table.add<multiply_add_low<T>>("mad.lo." + type);
  table.add<multiply_add_high<T>>("mad.hi." + type);
  if constexpr (sizeof(T) < 8) {
    table.add<multiply_wide<T>>("mul.wide." + type);
    table.add<multiply_add_wide<T>>("mad.wide." + type);
  }
  table.add<divide<T>>("div." + type);
  table.add<remainder<T>>("rem." + type);
  table.add<minimum<T>>("min." + type);
  table.add<maximum<T>>("max." + type);
  if constexpr (std::is_signed_v<T>) {
    table.add<negate<T>>("neg." + type);
    table.add<absolute<T>>("abs." + type);
  }
}

}  // namespace

void add_integer_arithmetic(InstructionTable& table) {
  add_type<uint16_t>(table, "u16");
  add_type<int16_t>(table, "s16");
  add_type<uint32_t>(table, "u32");
  add_type<int32_t>(table, "s32");
  add_type<uint64_t>(table, "u64");
  add_type<int64_t>(table, "s64");
  table.add<add_saturated>("add.sat.s32");
  table.add<dot4_signed>("dp4a.s32.s32");
}

}  // namespace vgg::emulator
