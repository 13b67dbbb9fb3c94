// Plans and launches of convolutions.

#include <algorithm>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "plan/gemm.h"
#include "plan/hopper.h"

namespace vgg {

namespace {

// GEMM_M of a launch. If the launch pools, only pixels of whole windows count.
int64_t launched_pixels(const Conv3x3& op, bool pool) {
  return pool ? int64_t{4} * op.N * (op.H / 2) * (op.W / 2) : int64_t{op.N} * op.H * op.W;
}

constexpr int FIRST_M = 128, FIRST_N = 64, FIRST_WARPS = FIRST_M / 32;

bool is_first(const Conv3x3& op) { return op.C == 3; }

Plan plan_first(const Conv3x3& op, const ArchSpec& arch) {
  Plan plan;
  plan.op = "conv3x3";
  plan.arch = arch.name;
  const int64_t gemm_m = launched_pixels(op, op.pool);
  plan.launches.push_back(
      {kernel_entry("conv3x3_first", op.dtype, op.pool ? "pool" : ""),
       {checked_blocks("conv3x3", ceil_div(gemm_m, FIRST_M) * ceil_div(op.K, FIRST_N)), 1, 1},
       {32 * FIRST_WARPS, 1, 1},
       0});
  plan.tiling = {gemm_m, op.K, 27, FIRST_M, FIRST_N, 32, 1, 1, 1, 0};
  plan.macs = gemm_m * op.K * 27;
  plan.tiles = plan.launches[0].grid.x;
  plan.issued_macs = plan.tiles * FIRST_M * FIRST_N * plan.tiling.block_k;
  const int64_t taps = plan.tiles * FIRST_M * 27, filters = plan.tiles * FIRST_N * 32;
  plan.load_bytes = taps * size_bytes(op.x_dtype) + filters * size_bytes(op.dtype);
  plan.store_bytes = gemm_m / (op.pool ? 4 : 1) * op.K * size_bytes(op.dtype);
  plan.estimate = estimate_one_step(plan, op.dtype, FIRST_WARPS, arch);
  return plan;
}

GemmProblem problem_of(const Conv3x3& op) {
  const bool chunks = op.aligned && op.C % (16 / size_bytes(op.dtype)) == 0;
  return {Operation::conv3x3,
          op.dtype,
          launched_pixels(op, false),
          op.K,
          int64_t{9} * op.C,
          chunks ? Rows::im2col : Rows::gathered,
          op.pool};
}

}  // namespace

std::vector<std::string> conv3x3_variants(const Conv3x3& op, const ArchSpec& arch) {
  std::vector<std::string> names;
  if (is_first(op)) return names;
  for (const Option& option : hopper_options(op, arch)) {
    if (option.obstacle.empty()) names.push_back(option.variant);
  }
  for (std::string& name : tile_names(problem_of(op), arch)) names.push_back(std::move(name));
  return names;
}

Plan plan(const Conv3x3& op, const ArchSpec& arch, const std::string& variant) {
  const int64_t pixels = int64_t{op.N} * op.H * op.W;
  check_fits("conv3x3", "N*H*W", pixels);
  check_fits("conv3x3", "W*C", int64_t{op.W} * op.C);
  check_fits("conv3x3", "9*C", int64_t{9} * op.C);
  check_fits("conv3x3", "K", op.K);
  if (!is_first(op) && op.x_dtype != storage(op.dtype)) {
    throw std::invalid_argument(std::string("conv3x3: x of ") + name(op.x_dtype) + " beside w of " +
                                name(op.dtype) +
                                ": expected C = 3, got C = " + std::to_string(op.C));
  }
  const std::vector<Option> options = hopper_options(op, arch);
  if (!variant.empty()) {
    const auto named = std::find_if(options.begin(), options.end(),
                                    [&](const Option& o) { return o.variant == variant; });
    check_variant("conv3x3", conv3x3_variants(op, arch), variant,
                  named == options.end() ? "" : named->obstacle);
  }
  if (is_first(op)) return plan_first(op, arch);
  const std::string hopper = variant.empty() ? fastest(options) : variant;
  if (is_hopper(hopper)) return plan_hopper(op, arch, hopper);
  Plan plan =
      plan_gemm("conv3x3", problem_of(op), launched_pixels(op, true), reduce_of(op), arch, variant);
  // Split sums also cover pixels outside all windows.
  plan.macs = launched_pixels(op, op.pool) * op.K * 9 * op.C;
  return plan;
}

void run(const Conv3x3& op, const Plan& plan, const Conv3x3Arrays& arrays,
         const Normalization& normalization, Executor& executor) {
  if (plan.family != Family::portable) return run_hopper(op, plan, arrays, executor);
  const bool pooled = op.pool && plan.tiling.split_k == 1;  // in registers
  const int P = op.pool ? op.H / 2 : op.H, Q = op.pool ? op.W / 2 : op.W;
  const int64_t pixels = int64_t{op.N} * op.H * op.W, out_size = int64_t{op.N} * P * Q * op.K;
  const int w_stride = static_cast<int>(packed_columns(int64_t{9} * op.C, op.dtype));
  const GemmBuffers buffers{{"x", arrays.x, pixels * op.C * size_bytes(op.x_dtype), false},
                            {"w", arrays.w, int64_t{op.K} * w_stride * size_bytes(op.dtype), false},
                            {"bias", arrays.bias, packed_bias(op.K) * 4, false},
                            {"out", arrays.y, out_size * size_bytes(op.dtype), true},
                            arrays.workspace};
  const FastDivmod by_P(pooled ? P : op.H), by_Q(pooled ? Q : op.W);
  const bool vector_y = op.aligned && op.K % 8 == 0;

  if (is_first(op)) {
    const FastDivmod n_tiles(static_cast<int>(ceil_div(op.K, FIRST_N)));
    FirstParams params{
        arrays.x, arrays.w, arrays.bias, arrays.y, op.x_dtype, normalization.reversed,
        {},       {},       op.H,        op.W,     op.K,       static_cast<int>(plan.tiling.gemm_m),
        w_stride, op.relu,  vector_y,    n_tiles,  by_P,       by_Q};
    for (int c = 0; c < 3; ++c) {
      params.scale[c] = normalization.scale[c];
      params.shift[c] = normalization.shift[c];
    }
    return executor(plan.launches[0], params, {buffers.x, buffers.w, buffers.bias, buffers.out});
  }
  GemmParams params{};
  params.H = op.H, params.W = op.W, params.C = op.C, params.K = op.K;
  params.w_stride = w_stride;
  params.relu = op.relu;
  params.vector_y = vector_y;
  params.P = by_P, params.Q = by_Q;
  run_gemm(plan, params, buffers, reduce_of(op), executor);
}

}  // namespace vgg
