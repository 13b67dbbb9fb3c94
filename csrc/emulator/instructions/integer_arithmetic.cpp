// Integer arithmetic, logic, shifts and bit fields.

#include <algorithm>

#include "emulator/instructions/instructions.h"

namespace vgg::emulator {
namespace {

template <class T>
using Unsigned = std::make_unsigned_t<T>;
template <class T>
using Signed = std::make_signed_t<T>;
// Twice as wide; of 64 bits, GCC's own type.
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

// Sums and products wrap around; in C++ only unsigned ones may (and none of 16 bits, which
// become int).
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

template <class T>
T bit_and(T a, T b) {
  return a & b;
}
template <class T>
T bit_or(T a, T b) {
  return a | b;
}
template <class T>
T bit_xor(T a, T b) {
  return a ^ b;
}
template <class T>
T bit_not(T a) {
  return static_cast<T>(~a);
}
bool logical_not(bool a) { return !a; }

// Shifts by as many bits as there are, or more, leave zeros (or signs).
template <class T>
T shift_left(T a, uint32_t by) {
  return by >= 8 * sizeof(T) ? 0 : static_cast<T>(a << (by & (8 * sizeof(T) - 1)));
}
template <class T>
T shift_right(T a, uint32_t by) {
  constexpr uint32_t LAST = 8 * sizeof(T) - 1;
  if (std::is_signed_v<T>) return a >> std::min(by, LAST);
  return by > LAST ? 0 : a >> (by & LAST);
}
uint32_t funnel_left_wrap(uint32_t low, uint32_t high, uint32_t by) {
  return static_cast<uint32_t>((uint64_t{high} << 32 | low) << (by & 31) >> 32);
}
uint32_t funnel_left_clamp(uint32_t low, uint32_t high, uint32_t by) {
  return by >= 32 ? low : funnel_left_wrap(low, high, by);
}
uint32_t funnel_right_wrap(uint32_t low, uint32_t high, uint32_t by) {
  return static_cast<uint32_t>((uint64_t{high} << 32 | low) >> (by & 31));
}
uint32_t funnel_right_clamp(uint32_t low, uint32_t high, uint32_t by) {
  return by >= 32 ? high : funnel_right_wrap(low, high, by);
}

uint32_t bit_insert(uint32_t from, uint32_t to, uint32_t position, uint32_t length) {
  position &= 255;
  length = std::min(length & 255, 32u);
  if (position >= 32) return to;
  const auto mask = static_cast<uint32_t>(((uint64_t{1} << length) - 1) << position);
  return (to & ~mask) | (from << position & mask);
}
template <class T>
T bit_extract(T from, uint32_t position, uint32_t length) {
  position &= 255;
  length &= 255;
  if (length == 0) return 0;
  constexpr uint32_t BITS = 8 * sizeof(T);
  const bool is_signed = std::is_signed_v<T>;
  const uint32_t sign_at = std::min(position + length - 1, BITS - 1);
  const bool sign = is_signed && (static_cast<Unsigned<T>>(from) >> sign_at & 1) != 0;
  Unsigned<T> bits = position >= BITS ? 0 : static_cast<Unsigned<T>>(from) >> position;
  const uint32_t kept = position >= BITS ? 0 : std::min(length, BITS - position);
  if (kept < BITS) {
    const Unsigned<T> mask = (Unsigned<T>{1} << kept) - 1;
    bits = (bits & mask) | (sign ? ~mask : 0);
  }
  return static_cast<T>(bits);
}

uint32_t population32(uint32_t a) { return __builtin_popcount(a); }
uint32_t population64(uint64_t a) { return __builtin_popcountll(a); }
uint32_t leading_zeros32(uint32_t a) { return a == 0 ? 32 : __builtin_clz(a); }
uint32_t leading_zeros64(uint64_t a) { return a == 0 ? 64 : __builtin_clzll(a); }
uint32_t reverse_bits(uint32_t a) {
  a = (a >> 1 & 0x55555555u) | (a & 0x55555555u) << 1;
  a = (a >> 2 & 0x33333333u) | (a & 0x33333333u) << 2;
  a = (a >> 4 & 0x0f0f0f0fu) | (a & 0x0f0f0f0fu) << 4;
  return __builtin_bswap32(a);
}
uint32_t highest_bit_unsigned(uint32_t a) { return a == 0 ? ~0u : 31 - __builtin_clz(a); }
uint32_t highest_bit_signed(int32_t a) {
  return highest_bit_unsigned(static_cast<uint32_t>(a < 0 ? ~a : a));
}

uint32_t lop3(uint32_t a, uint32_t b, uint32_t c, uint32_t table) {
  uint32_t result = 0;
  for (uint32_t row = 0; row < 8; ++row) {
    const uint32_t hit = (row & 4 ? a : ~a) & (row & 2 ? b : ~b) & (row & 1 ? c : ~c);
    result |= table >> row & 1 ? hit : 0;
  }
  return result;
}

uint32_t permute(uint32_t a, uint32_t b, uint32_t selector) {
  const uint64_t bytes = uint64_t{b} << 32 | a;
  uint32_t result = 0;
  for (int i = 0; i < 4; ++i) {
    const uint32_t select = selector >> 4 * i & 15;
    uint32_t byte = bytes >> 8 * (select & 7) & 255;
    if (select & 8) byte = byte & 128 ? 255 : 0;
    result |= byte << 8 * i;
  }
  return result;
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
  table.add<shift_right<T>>("shr." + type);
  if constexpr (std::is_signed_v<T>) {
    table.add<negate<T>>("neg." + type);
    table.add<absolute<T>>("abs." + type);
  }
}

template <class T>
void add_bits(InstructionTable& table, const std::string& type) {
  table.add<bit_and<T>>("and." + type);
  table.add<bit_or<T>>("or." + type);
  table.add<bit_xor<T>>("xor." + type);
  table.add<shift_left<T>>("shl." + type);
  table.add<shift_right<T>>("shr." + type);
  table.add<bit_not<T>>("not." + type);
}

}  // namespace

void add_integer_arithmetic(InstructionTable& table) {
  add_type<uint16_t>(table, "u16");
  add_type<int16_t>(table, "s16");
  add_type<uint32_t>(table, "u32");
  add_type<int32_t>(table, "s32");
  add_type<uint64_t>(table, "u64");
  add_type<int64_t>(table, "s64");
  add_bits<uint16_t>(table, "b16");
  add_bits<uint32_t>(table, "b32");
  add_bits<uint64_t>(table, "b64");
  table.add<bit_and<bool>>("and.pred");
  table.add<bit_or<bool>>("or.pred");
  table.add<bit_xor<bool>>("xor.pred");
  table.add<logical_not>("not.pred");
  table.add<add_saturated>("add.sat.s32");
  table.add<funnel_left_wrap>("shf.l.wrap.b32");
  table.add<funnel_left_clamp>("shf.l.clamp.b32");
  table.add<funnel_right_wrap>("shf.r.wrap.b32");
  table.add<funnel_right_clamp>("shf.r.clamp.b32");
  table.add<bit_insert>("bfi.b32");
  table.add<bit_extract<uint32_t>>("bfe.u32");
  table.add<bit_extract<int32_t>>("bfe.s32");
  table.add<bit_extract<uint64_t>>("bfe.u64");
  table.add<bit_extract<int64_t>>("bfe.s64");
  table.add<population32>("popc.b32");
  table.add<population64>("popc.b64");
  table.add<leading_zeros32>("clz.b32");
  table.add<leading_zeros64>("clz.b64");
  table.add<reverse_bits>("brev.b32");
  table.add<highest_bit_unsigned>("bfind.u32");
  table.add<highest_bit_signed>("bfind.s32");
  table.add<lop3>("lop3.b32");
  table.add<permute>("prmt.b32");
  table.add<dot4_signed>("dp4a.s32.s32");
}

}  // namespace vgg::emulator
