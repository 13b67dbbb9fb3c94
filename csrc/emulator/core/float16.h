// float16 and bfloat16 in plain integer arithmetic, so that loops over lanes vectorise.

#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "emulator/core/lanes.h"

namespace vgg::emulator {

inline float float_from_half(uint16_t half) {
  // A multiplication corrects the exponent's bias and normalises subnormals.
  const uint32_t magnitude = (half & 0x7fffu) << 13, sign = (half & 0x8000u) << 16;
  const float scaled = bit_cast<float>(magnitude) * 0x1p112f;
  const uint32_t special = magnitude >= 0x0f800000u ? 0x7f800000u : 0;  // infinity, NaN
  return bit_cast<float>(bit_cast<uint32_t>(scaled) | special | sign);
}

// Rounds to nearest, ties to even.
inline uint16_t half_from_float(float value) {
  const uint32_t bits = bit_cast<uint32_t>(value), sign = bits >> 16 & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  // Normal results: add half of the last place, minus one if the result is even.
  const uint32_t normal = (magnitude - 0x38000000u + 0xfffu + (magnitude >> 13 & 1)) >> 13;
  // Subnormal results: the addition rounds, as the last place of 0.5 is 2^-24.
  const uint32_t subnormal =
      bit_cast<uint32_t>(bit_cast<float>(magnitude) + 0.5f) - bit_cast<uint32_t>(0.5f);
  uint32_t result = magnitude < 0x38800000u ? subnormal : normal;
  result = magnitude >= 0x477ff000u ? 0x7c00u : result;  // too large, or infinite
  result = magnitude > 0x7f800000u ? 0x7fffu : result;   // the NaN that hardware writes
  return static_cast<uint16_t>(result == 0x7fffu ? 0x7fffu : result | sign);
}

inline float float_from_bfloat(uint16_t bfloat) {
  return bit_cast<float>(static_cast<uint32_t>(bfloat) << 16);
}

inline uint16_t bfloat_from_float(float value) {
  const uint32_t bits = bit_cast<uint32_t>(value);
  const uint32_t rounded = (bits + 0x7fffu + (bits >> 16 & 1)) >> 16;
  return static_cast<uint16_t>((bits & 0x7fffffffu) > 0x7f800000u ? 0x7fffu : rounded);
}

inline float to_float(Half value) { return float_from_half(value.bits); }
inline float to_float(Bfloat value) { return float_from_bfloat(value.bits); }

template <class T>
T from_float(float value);
template <>
inline Half from_float<Half>(float value) {
  return {half_from_float(value)};
}
template <>
inline Bfloat from_float<Bfloat>(float value) {
  return {bfloat_from_float(value)};
}

// Element type of a packed pair.
template <class T>
struct Paired;
template <>
struct Paired<Half2> {
  using Element = Half;
};
template <>
struct Paired<Bfloat2> {
  using Element = Bfloat;
};

template <class T>
typename Paired<T>::Element low(T pair) {
  return {static_cast<uint16_t>(pair.bits)};
}
template <class T>
typename Paired<T>::Element high(T pair) {
  return {static_cast<uint16_t>(pair.bits >> 16)};
}

}  // namespace vgg::emulator
