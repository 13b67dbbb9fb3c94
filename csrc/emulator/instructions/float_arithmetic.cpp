// Arithmetic of float32 and float64, including functions that hardware approximates.

#include <cmath>
#include <limits>

#include "emulator/instructions/instructions.h"
#include "emulator/run/block.h"

namespace vgg::emulator {
namespace {

// .ftz: subnormal operands and results become zeros of the same sign.
float flush(float value) {
  return (bit_cast<uint32_t>(value) & 0x7f800000u) == 0
             ? bit_cast<float>(bit_cast<uint32_t>(value) & 0x80000000u)
             : value;
}

template <class T>
T add(T a, T b) {
  return a + b;
}
template <class T>
T subtract(T a, T b) {
  return a - b;
}
template <class T>
T multiply(T a, T b) {
  return a * b;
}
template <class T>
T divide(T a, T b) {
  return a / b;
}
template <class T>
T fused(T a, T b, T c) {
  return std::fma(a, b, c);
}
// neg and abs change the sign bit, also of NaN.
float negate(float a) { return bit_cast<float>(bit_cast<uint32_t>(a) ^ 0x80000000u); }
float absolute(float a) { return bit_cast<float>(bit_cast<uint32_t>(a) & 0x7fffffffu); }
double negate64(double a) { return -a; }
double absolute64(double a) { return std::fabs(a); }

// -0 < +0; the result for a number and a NaN is the number.
template <class T>
T minimum(T a, T b) {
  if (a == b) return std::signbit(a) ? a : b;
  return a < b || b != b ? a : b;
}
template <class T>
T maximum(T a, T b) {
  if (a == b) return std::signbit(a) ? b : a;
  return a > b || b != b ? a : b;
}
const float QUIET_NAN = bit_cast<float>(0x7fffffffu);  // the NaN that hardware writes
float minimum_nan(float a, float b) { return a != a || b != b ? QUIET_NAN : minimum(a, b); }
float maximum_nan(float a, float b) { return a != a || b != b ? QUIET_NAN : maximum(a, b); }

// Comparisons with NaN are false, so NaN becomes 0.
float saturate(float a) { return a > 0.0f ? (a < 1.0f ? a : 1.0f) : 0.0f; }
float add_saturated(float a, float b) { return saturate(a + b); }
float multiply_saturated(float a, float b) { return saturate(a * b); }
float fused_saturated(float a, float b, float c) { return saturate(std::fma(a, b, c)); }

// Rounding modes other than to nearest. `sum + error` is exact: a b is exact in float64, and
// Knuth's two-sum finds the error of the addition, of which only the sign is needed.
enum class Rounding { down, up, zero };
template <Rounding ROUNDING>
float round_sum(double product, double c) {
  const double sum = product + c;
  if (!std::isfinite(sum)) return static_cast<float>(sum);
  if (ROUNDING == Rounding::down && product == -c &&
      !(product == 0 && !std::signbit(product) && !std::signbit(c))) {
    return -0.0f;  // IEEE 754, 6.3: an exact zero, except the sum of two positive zeros
  }
  const double part = sum - product, error = (product - (sum - part)) + (c - part);
  const auto nearest = static_cast<float>(sum);
  const double difference = static_cast<double>(nearest) - sum;  // exact
  const bool above = difference > 0 || (difference == 0 && error < 0);
  const bool below = difference < 0 || (difference == 0 && error > 0);
  const bool negative = sum < 0 || (sum == 0 && error < 0);
  const bool want_down = ROUNDING == Rounding::down || (ROUNDING == Rounding::zero && !negative);
  constexpr float INFINITE = std::numeric_limits<float>::infinity();
  if (want_down && above) return std::nextafter(nearest, -INFINITE);
  if (!want_down && below) return std::nextafter(nearest, INFINITE);
  return nearest;
}
template <Rounding ROUNDING>
float rounded_add(float a, float b) {
  return round_sum<ROUNDING>(a, b);
}
template <Rounding ROUNDING>
float rounded_subtract(float a, float b) {
  return round_sum<ROUNDING>(a, -static_cast<double>(b));
}
template <Rounding ROUNDING>
float rounded_multiply(float a, float b) {
  const double product = static_cast<double>(a) * b;
  return round_sum<ROUNDING>(product, std::copysign(0.0, product));  // keeps the sign of a zero
}
template <Rounding ROUNDING>
float rounded_fused(float a, float b, float c) {
  return round_sum<ROUNDING>(static_cast<double>(a) * b, c);
}

float reciprocal(float a) { return 1.0f / a; }
float square_root(float a) { return std::sqrt(a); }
double square_root64(double a) { return std::sqrt(a); }
float reciprocal_root(float a) { return static_cast<float>(1.0 / std::sqrt(double{a})); }
float exponential2(float a) { return std::exp2(a); }
float logarithm2(float a) { return std::log2(a); }
float sine(float a) { return std::sin(a); }
float cosine(float a) { return std::cos(a); }
float hyperbolic_tangent(float a) { return std::tanh(a); }

template <auto F>
struct Flushed;
template <class... A, float (*F)(A...)>
struct Flushed<F> {
  static float run(A... a) { return flush(F(flush(a)...)); }
};

// With .ftz and without.
template <auto F>
void add_both(InstructionTable& table, const std::string& operation) {
  table.add<F>(operation + ".f32");
  table.add<&Flushed<F>::run>(operation + ".ftz.f32");
}

// A fused multiply-add that also updates Counters::fma.
template <float (*F)(float, float, float)>
void counted_fused(Warp& warp, const Instruction& in, uint32_t active) {
  Elementwise<F>::run(warp, in, active);
  warp.block->counters.fma += __builtin_popcount(active);
}

template <Rounding ROUNDING>
void add_rounding(InstructionTable& table, const std::string& rounding) {
  add_both<rounded_add<ROUNDING>>(table, "add." + rounding);
  add_both<rounded_subtract<ROUNDING>>(table, "sub." + rounding);
  add_both<rounded_multiply<ROUNDING>>(table, "mul." + rounding);
  table.add("fma." + rounding + ".f32", counted_fused<rounded_fused<ROUNDING>>, "wwww");
  table.add("fma." + rounding + ".ftz.f32", counted_fused<&Flushed<rounded_fused<ROUNDING>>::run>,
            "wwww");
}

void add_float64(InstructionTable& table) {
  for (const std::string rounding : {"", "rn."}) {
    table.add<add<double>>("add." + rounding + "f64");
    table.add<subtract<double>>("sub." + rounding + "f64");
    table.add<multiply<double>>("mul." + rounding + "f64");
  }
  table.add<divide<double>>("div.rn.f64");
  table.add<fused<double>>("fma.rn.f64");
  table.add<square_root64>("sqrt.rn.f64");
  table.add<minimum<double>>("min.f64");
  table.add<maximum<double>>("max.f64");
  table.add<negate64>("neg.f64");
  table.add<absolute64>("abs.f64");
}

}  // namespace

void add_float_arithmetic(InstructionTable& table) {
  for (const std::string rounding : {"", ".rn"}) {
    add_both<add<float>>(table, "add" + rounding);
    add_both<subtract<float>>(table, "sub" + rounding);
    add_both<multiply<float>>(table, "mul" + rounding);
    table.add<add_saturated>("add" + rounding + ".sat.f32");
    table.add<multiply_saturated>("mul" + rounding + ".sat.f32");
  }
  table.add("fma.rn.f32", counted_fused<fused<float>>, "wwww");
  table.add("fma.rn.ftz.f32", counted_fused<&Flushed<fused<float>>::run>, "wwww");
  table.add("fma.rn.sat.f32", counted_fused<fused_saturated>, "wwww");
  add_rounding<Rounding::down>(table, "rm");
  add_rounding<Rounding::up>(table, "rp");
  add_rounding<Rounding::zero>(table, "rz");
  add_both<minimum<float>>(table, "min");
  add_both<maximum<float>>(table, "max");
  table.add<minimum_nan>("min.NaN.f32");
  table.add<maximum_nan>("max.NaN.f32");
  table.add<&Flushed<minimum_nan>::run>("min.ftz.NaN.f32");
  table.add<&Flushed<maximum_nan>::run>("max.ftz.NaN.f32");
  add_both<negate>(table, "neg");
  add_both<absolute>(table, "abs");
  add_both<divide<float>>(table, "div.rn");
  add_both<divide<float>>(table, "div.full");
  add_both<divide<float>>(table, "div.approx");
  add_both<reciprocal>(table, "rcp.rn");
  add_both<reciprocal>(table, "rcp.approx");
  add_both<square_root>(table, "sqrt.rn");
  add_both<square_root>(table, "sqrt.approx");
  add_both<reciprocal_root>(table, "rsqrt.approx");
  add_both<exponential2>(table, "ex2.approx");
  add_both<logarithm2>(table, "lg2.approx");
  add_both<sine>(table, "sin.approx");
  add_both<cosine>(table, "cos.approx");
  table.add<hyperbolic_tangent>("tanh.approx.f32");
  add_float64(table);
}

}  // namespace vgg::emulator
