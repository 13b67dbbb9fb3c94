// Arithmetic of float16 and bfloat16, for one or two elements.
//
// Sums, products and fused multiply-adds are computed in float64 and rounded once, to nearest.
// Inexact intermediate results in float64 and float32 are rounded to odd, which makes the final
// rounding correct.

#include <cmath>

#include "emulator/core/float16.h"
#include "emulator/instructions/instructions.h"

namespace vgg::emulator {
namespace {

// Rounds float64 to float32, to odd, so that the later rounding to 16 bits is correct.
float round_to_odd(double value) {
  const auto nearest = static_cast<float>(value);
  if (static_cast<double>(nearest) == value || !std::isfinite(nearest)) return nearest;
  uint32_t bits = bit_cast<uint32_t>(nearest);
  if (std::fabs(static_cast<double>(nearest)) > std::fabs(value)) --bits;  // towards zero
  return bit_cast<float>(bits | 1);
}

// a + b, rounded to odd. Knuth's two-sum finds the rounding error, of which only the sign is
// needed.
double odd_sum(double a, double b) {
  const double sum = a + b, part = sum - a, lost = (a - (sum - part)) + (b - part);
  if (lost == 0 || !std::isfinite(sum)) return sum;
  uint64_t bits = bit_cast<uint64_t>(sum);
  if ((lost < 0) == (sum > 0)) --bits;  // towards zero
  return bit_cast<double>(bits | 1);
}

template <class T>
T add(T a, T b) {
  return from_float<T>(round_to_odd(odd_sum(to_float(a), to_float(b))));
}
template <class T>
T subtract(T a, T b) {
  return from_float<T>(round_to_odd(odd_sum(to_float(a), -to_float(b))));
}
template <class T>
T multiply(T a, T b) {
  return from_float<T>(round_to_odd(double{to_float(a)} * to_float(b)));
}
template <class T>
T fused(T a, T b, T c) {
  return from_float<T>(round_to_odd(odd_sum(double{to_float(a)} * to_float(b), to_float(c))));
}
template <class T>
T fused_relu(T a, T b, T c) {
  const T result = fused(a, b, c);
  return to_float(result) < 0.0f ? T{0} : result;
}
template <class T>
T negate(T a) {
  return {static_cast<uint16_t>(a.bits ^ 0x8000u)};
}
template <class T>
T absolute(T a) {
  return {static_cast<uint16_t>(a.bits & 0x7fffu)};
}

constexpr uint16_t QUIET_NAN = 0x7fff;
template <class T>
bool is_nan(T a) {
  return to_float(a) != to_float(a);
}
// -0 < +0; the result for a number and a NaN is the number.
template <class T>
T minimum(T a, T b) {
  if (is_nan(a) && is_nan(b)) return {QUIET_NAN};
  if (to_float(a) == to_float(b)) return a.bits & 0x8000u ? a : b;
  return to_float(a) < to_float(b) || is_nan(b) ? a : b;
}
template <class T>
T maximum(T a, T b) {
  if (is_nan(a) && is_nan(b)) return {QUIET_NAN};
  if (to_float(a) == to_float(b)) return a.bits & 0x8000u ? b : a;
  return to_float(a) > to_float(b) || is_nan(b) ? a : b;
}
template <class T>
T minimum_nan(T a, T b) {
  return is_nan(a) || is_nan(b) ? T{QUIET_NAN} : minimum(a, b);
}
template <class T>
T maximum_nan(T a, T b) {
  return is_nan(a) || is_nan(b) ? T{QUIET_NAN} : maximum(a, b);
}

// F applied to both elements of a pair.
template <class Pair, auto F>
struct Both;
template <class Pair, class T, class... A, T (*F)(A...)>
struct Both<Pair, F> {
  template <class>
  using Of = Pair;
  static Pair run(Of<A>... a) {
    const uint32_t first = F(low(a)...).bits, second = F(high(a)...).bits;
    return {first | second << 16};
  }
};

template <class T, class Pair, auto F>
void add_both(InstructionTable& table, const std::string& operation, const std::string& type) {
  table.add<F>(operation + '.' + type);
  table.add<&Both<Pair, F>::run>(operation + '.' + type + "x2");
}

template <class T, class Pair>
void add_type(InstructionTable& table, const std::string& type) {
  for (const std::string rounding : {"", ".rn"}) {
    add_both<T, Pair, add<T>>(table, "add" + rounding, type);
    add_both<T, Pair, subtract<T>>(table, "sub" + rounding, type);
    add_both<T, Pair, multiply<T>>(table, "mul" + rounding, type);
  }
  add_both<T, Pair, fused<T>>(table, "fma.rn", type);
  add_both<T, Pair, fused_relu<T>>(table, "fma.rn.relu", type);
  add_both<T, Pair, minimum<T>>(table, "min", type);
  add_both<T, Pair, maximum<T>>(table, "max", type);
  add_both<T, Pair, minimum_nan<T>>(table, "min.NaN", type);
  add_both<T, Pair, maximum_nan<T>>(table, "max.NaN", type);
  add_both<T, Pair, negate<T>>(table, "neg", type);
  add_both<T, Pair, absolute<T>>(table, "abs", type);
}

}  // namespace

void add_half_arithmetic(InstructionTable& table) {
  add_type<Half, Half2>(table, "f16");
  add_type<Bfloat, Bfloat2>(table, "bf16");
}

}  // namespace vgg::emulator
