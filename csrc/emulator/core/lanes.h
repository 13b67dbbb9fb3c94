// Lane arrays: access to registers by lane, and instructions made from C++ functions.
//
//     template <class T> T add(T a, T b);
//     table.add<add<uint32_t>>("add.u32");
//
// applies `add` in every active lane. The function's types determine the operands.

#pragma once

#include <cstdint>
#include <cstring>
#include <utility>

#include "emulator/core/program.h"
#include "emulator/core/warp.h"

namespace vgg::emulator {

// Register contents for types that C++ does not have.
struct Half {
  uint16_t bits;
};
struct Bfloat {
  uint16_t bits;
};
struct Half2 {
  uint32_t bits;  // the first element in the low half
};
struct Bfloat2 {
  uint32_t bits;
};

template <class To, class From>
inline To bit_cast(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof(to));
  return to;
}

// The lanes of a predicate, one bit each.
struct PredicateLanes {
  uint32_t mask;
};

template <class T>
struct LaneType {
  static constexpr char LETTER = sizeof(T) == 8 ? DOUBLE : sizeof(T) == 4 ? WORD : HALF;
  using Stored = std::conditional_t<sizeof(T) == 8, uint64_t, uint32_t>;
  using Lanes = const Stored*;
  using Bits =
      std::conditional_t<sizeof(T) == 8, uint64_t,
                         std::conditional_t<sizeof(T) == 4, uint32_t,
                                            std::conditional_t<sizeof(T) == 2, uint16_t, uint8_t>>>;

  static Lanes lanes(const Warp& warp, Operand operand) { return warp.lanes<Stored>(operand); }
  static T load(Lanes lanes, int lane) { return bit_cast<T>(static_cast<Bits>(lanes[lane])); }
  static Stored store(T value) { return bit_cast<Bits>(value); }
};

template <>
struct LaneType<bool> {
  static constexpr char LETTER = PREDICATE;
  using Lanes = PredicateLanes;

  static Lanes lanes(const Warp& warp, Operand operand) { return {*warp.lanes<uint32_t>(operand)}; }
  static bool load(Lanes lanes, int lane) { return lanes.mask >> lane & 1; }
};

inline bool is_active(uint32_t active, int lane) { return active >> lane & 1; }

// Calls f(lane) for every lane of `active`, in ascending order.
template <class F>
inline void for_each_lane(uint32_t active, F f) {
  for (; active != 0; active &= active - 1) f(__builtin_ctz(active));
}

template <auto F>
struct Elementwise;

template <class R, class... A, R (*F)(A...)>
struct Elementwise<F> {
  static constexpr char SIGNATURE[] = {LaneType<R>::LETTER, LaneType<A>::LETTER..., '\0'};

  static void run(Warp& warp, const Instruction& in, uint32_t active) {
    run_with(warp, in, active, std::index_sequence_for<A...>());
  }

 private:
  template <size_t... I>
  static void run_with(Warp& warp, const Instruction& in, uint32_t active,
                       std::index_sequence<I...>) {
    apply(warp, in, active, LaneType<A>::lanes(warp, in.operands[I + 1])...);
  }

  static void apply(Warp& warp, const Instruction& in, uint32_t active,
                    typename LaneType<A>::Lanes... source) {
    if constexpr (std::is_same_v<R, bool>) {
      uint32_t result = 0;
      for (int i = 0; i < LANES; ++i) {
        result |= static_cast<uint32_t>(F(LaneType<A>::load(source, i)...)) << i;
      }
      uint32_t* to = warp.lanes<uint32_t>(in.operands[0]);
      *to = (*to & ~active) | (result & active);
    } else {
      auto* to = warp.lanes<typename LaneType<R>::Stored>(in.operands[0]);
      if (active == ALL_LANES) {
#pragma GCC ivdep
        for (int i = 0; i < LANES; ++i) {
          to[i] = LaneType<R>::store(F(LaneType<A>::load(source, i)...));
        }
      } else {
        for_each_lane(
            active, [&](int i) { to[i] = LaneType<R>::store(F(LaneType<A>::load(source, i)...)); });
      }
    }
  }
};

}  // namespace vgg::emulator
