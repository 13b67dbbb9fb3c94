// Logic, shifts, bit fields and counts of bits.

#include <algorithm>
#include <type_traits>

#include "emulator/instructions/instructions.h"

namespace vgg::emulator {
namespace {

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

// Shifts by the width of the type or more give 0, or the sign.
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
  const bool sign = is_signed && (static_cast<std::make_unsigned_t<T>>(from) >> sign_at & 1) != 0;
  std::make_unsigned_t<T> bits =
      position >= BITS ? 0 : static_cast<std::make_unsigned_t<T>>(from) >> position;
  const uint32_t kept = position >= BITS ? 0 : std::min(length, BITS - position);
  if (kept < BITS) {
    const std::make_unsigned_t<T> mask = (std::make_unsigned_t<T>{1} << kept) - 1;
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
uint32_t shift_to_highest(uint32_t a) { return a == 0 ? ~0u : __builtin_clz(a); }
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

void add_bit_operations(InstructionTable& table) {
  add_bits<uint16_t>(table, "b16");
  add_bits<uint32_t>(table, "b32");
  add_bits<uint64_t>(table, "b64");
  table.add<shift_right<uint16_t>>("shr.u16");
  table.add<shift_right<int16_t>>("shr.s16");
  table.add<shift_right<uint32_t>>("shr.u32");
  table.add<shift_right<int32_t>>("shr.s32");
  table.add<shift_right<uint64_t>>("shr.u64");
  table.add<shift_right<int64_t>>("shr.s64");
  table.add<bit_and<bool>>("and.pred");
  table.add<bit_or<bool>>("or.pred");
  table.add<bit_xor<bool>>("xor.pred");
  table.add<logical_not>("not.pred");
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
  table.add<shift_to_highest>("bfind.shiftamt.u32");
  table.add<lop3>("lop3.b32");
  table.add<permute>("prmt.b32");
}

}  // namespace vgg::emulator
