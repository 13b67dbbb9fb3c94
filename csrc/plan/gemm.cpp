// Plans and launches of matrix products: convolutions and dense layers.

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels/params.h"
#include "ops.h"
#include "plan/dense.h"
#include "plan/gemm_tiles.h"
#include "plan/hopper.h"
#include "plan/reduce.h"

namespace vgg {

namespace {

constexpr int64_t LIMIT = std::numeric_limits<int32_t>::max() - 1024;  // room for a tile

void check_fits(const char* op, const char* what, int64_t size) {
  if (size > LIMIT) {
    throw std::invalid_argument(std::string(op) + ": " + what +
                                " must be less than 2^31 - 1024, got " + std::to_string(size));
  }
}

std::string entry(const char* op, DType dtype, const std::string& variant) {
  return std::string(op) + "_" + short_name(dtype) + (variant.empty() ? "" : "_" + variant);
}

uint32_t blocks(const char* op, int64_t count) {
  check_fits(op, "the number of tiles", count);
  return static_cast<uint32_t>(count);
}

// `pooled_m` is GEMM_M if the chosen tile pools: odd last rows and columns are left out.
Plan plan_gemm(const char* op, const GemmProblem& problem, int64_t pooled_m, const Reduce& reduce,
               const ArchSpec& arch, const std::string& variant = {}) {
  const GemmChoice choice = choose_tile(problem, arch, variant);
  if (choice.tile == nullptr) {
    throw std::invalid_argument(std::string(op) + ": no kernel fits the shared memory of " +
                                arch.name);
  }
  const GemmTile& tile = *choice.tile;
  const int64_t gemm_m = tile.pool ? pooled_m : problem.gemm_m;
  const int64_t m_tiles = ceil_div(gemm_m, tile.block_m);
  const int64_t n_tiles = ceil_div(problem.gemm_n, tile.block_n);
  Plan plan;
  plan.op = op;
  plan.arch = arch.name;
  plan.variant = tile.name();
  plan.launches.push_back(
      {entry(op, problem.dtype, tile.variant),
       {blocks(op, m_tiles * n_tiles), static_cast<uint32_t>(choice.split_k), 1},
       {static_cast<uint32_t>(32 * tile.warps), 1, 1},
       tile.smem_bytes()});
  plan.tiling = {gemm_m,         problem.gemm_n,
                 problem.gemm_k, tile.block_m,
                 tile.block_n,   tile.block_k(problem.dtype),
                 tile.stages,    choice.split_k,
                 choice.steps,   problem.dtype == DType::float32 ? 64 : 0};
  plan.macs = gemm_m * problem.gemm_n * problem.gemm_k;
  plan.tiles = m_tiles * n_tiles * choice.split_k;
  const int64_t rows = int64_t{choice.steps} * (tile.block_m + tile.block_n);
  plan.issued_macs =
      plan.tiles * tile.block_m * tile.block_n * choice.steps * tile.block_k(problem.dtype);
  plan.load_bytes = plan.tiles * rows * tile.row_bytes;
  plan.store_bytes = reduce.size * static_cast<int64_t>(size_bytes(problem.dtype));
  if (choice.split_k > 1) plan_reduce(reduce, plan);
  return plan;
}

// GEMM_M of a launch. If the launch pools, only pixels of whole windows count.
int64_t launched_pixels(const Conv3x3& op, bool pool) {
  return pool ? int64_t{4} * op.N * (op.H / 2) * (op.W / 2) : int64_t{op.N} * op.H * op.W;
}

constexpr int FIRST_M = 128, FIRST_N = 64;

bool is_first(const Conv3x3& op) { return op.C == 3; }

Plan plan_first(const Conv3x3& op, const ArchSpec& arch) {
  Plan plan;
  plan.op = "conv3x3";
  plan.arch = arch.name;
  const int64_t gemm_m = launched_pixels(op, op.pool);
  plan.launches.push_back(
      {entry("conv3x3_first", op.dtype, op.pool ? "pool" : ""),
       {blocks("conv3x3", ceil_div(gemm_m, FIRST_M) * ceil_div(op.K, FIRST_N)), 1, 1},
       {FIRST_M, 1, 1},
       0});
  plan.tiling = {gemm_m, op.K, 27, FIRST_M, FIRST_N, 32, 1, 1, 1, 0};
  plan.macs = gemm_m * op.K * 27;
  plan.tiles = plan.launches[0].grid.x;
  plan.issued_macs = plan.tiles * FIRST_M * FIRST_N * plan.tiling.block_k;
  const int64_t taps = plan.tiles * FIRST_M * 27, filters = plan.tiles * FIRST_N * 32;
  plan.load_bytes = taps * size_bytes(op.x_dtype) + filters * size_bytes(op.dtype);
  plan.store_bytes = gemm_m / (op.pool ? 4 : 1) * op.K * size_bytes(op.dtype);
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

void check_variant(const Conv3x3& op, const ArchSpec& arch, const std::string& variant) {
  const std::vector<std::string> names = conv3x3_variants(op, arch);
  if (std::find(names.begin(), names.end(), variant) != names.end()) return;
  std::string text = "conv3x3: variant: expected ";
  for (size_t i = 0; i < names.size(); ++i) text += (i == 0 ? "" : ", ") + names[i];
  text += (names.empty() ? "none, got " : ", got ") + variant;
  if (has_hopper(op, arch)) {
    for (const Option& option : hopper_options(op, arch)) {
      if (option.variant == variant) text += ", which needs " + option.obstacle;
    }
  }
  throw std::invalid_argument(text);
}

}  // namespace

std::vector<std::string> conv3x3_variants(const Conv3x3& op, const ArchSpec& arch) {
  std::vector<std::string> names;
  if (is_first(op)) return names;
  if (has_hopper(op, arch)) {
    for (const Option& option : hopper_options(op, arch)) {
      if (option.obstacle.empty()) names.push_back(option.variant);
    }
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
  if (!variant.empty()) check_variant(op, arch, variant);
  if (is_first(op)) return plan_first(op, arch);
  if (has_hopper(op, arch) && (variant.empty() || is_hopper(variant))) {
    return plan_hopper(op, arch, variant);
  }
  Plan plan =
      plan_gemm("conv3x3", problem_of(op), launched_pixels(op, true), reduce_of(op), arch, variant);
  // Split sums also cover pixels outside all windows.
  plan.macs = launched_pixels(op, op.pool) * op.K * 9 * op.C;
  return plan;
}

void run(const Conv3x3& op, const Plan& plan, const Conv3x3Arrays& arrays,
         const Normalization& normalization, Executor& executor) {
  if (is_hopper(plan.variant)) return run_hopper(op, plan, arrays, executor);
  const bool pooled = op.pool && plan.tiling.split_k == 1;  // in registers
  const int P = op.pool ? op.H / 2 : op.H, Q = op.pool ? op.W / 2 : op.W;
  const int64_t pixels = int64_t{op.N} * op.H * op.W, out_size = int64_t{op.N} * P * Q * op.K;
  const int w_stride = static_cast<int>(packed_columns(int64_t{9} * op.C, op.dtype));
  const Buffer x{"x", arrays.x, pixels * op.C * size_bytes(op.x_dtype), false};
  const Buffer w{"w", arrays.w, int64_t{op.K} * w_stride * size_bytes(op.dtype), false};
  const Buffer bias{"bias", arrays.bias, packed_bias(op.K) * 4, false};
  const Buffer out{"out", arrays.y, out_size * size_bytes(op.dtype), true};
  const FastDivmod n_tiles(static_cast<int>(ceil_div(op.K, plan.tiling.block_n)));
  const FastDivmod by_P(pooled ? P : op.H), by_Q(pooled ? Q : op.W);
  const bool vector_y = op.aligned && op.K % 8 == 0;

  if (is_first(op)) {
    FirstParams params{
        arrays.x, arrays.w, arrays.bias, arrays.y, op.x_dtype, normalization.reversed,
        {},       {},       op.H,        op.W,     op.K,       static_cast<int>(plan.tiling.gemm_m),
        w_stride, op.relu,  vector_y,    n_tiles,  by_P,       by_Q};
    for (int c = 0; c < 3; ++c) {
      params.scale[c] = normalization.scale[c];
      params.shift[c] = normalization.shift[c];
    }
    return executor(plan.launches[0], params, {x, w, bias, out});
  }

  const bool split = plan.tiling.split_k > 1;
  const GemmParams params{arrays.x,
                          arrays.w,
                          arrays.bias,
                          arrays.y,
                          split ? static_cast<float*>(arrays.workspace) : nullptr,
                          op.H,
                          op.W,
                          op.C,
                          op.K,
                          static_cast<int>(plan.tiling.gemm_m),
                          static_cast<int>(plan.tiling.gemm_k),
                          w_stride,
                          plan.tiling.steps,
                          op.relu,
                          vector_y,
                          n_tiles,
                          by_P,
                          by_Q,
                          FastDivmod(op.C)};
  if (!split) return executor(plan.launches[0], params, {x, w, bias, out});
  executor(plan.launches[0], params,
           {x, w, bias, {"workspace", arrays.workspace, plan.workspace_bytes, true}});
  run_reduce(reduce_of(op), plan, arrays.workspace, arrays.bias, arrays.y, executor);
}

Plan plan(const Linear& op, const ArchSpec& arch) {
  check_fits("linear", "N", op.N);
  check_fits("linear", "C", op.C);
  check_fits("linear", "K", op.K);
  if (has_dense(op, arch)) return plan_dense(op, arch);
  const bool chunks = op.aligned && op.C % (16 / size_bytes(op.dtype)) == 0;
  const GemmProblem problem{
      Operation::linear, op.dtype, op.N, op.K, op.C, chunks ? Rows::dense : Rows::gathered, false};
  return plan_gemm("linear", problem, op.N, reduce_of(op), arch);
}

void run(const Linear& op, const Plan& plan, const LinearArrays& arrays, Executor& executor) {
  if (is_dense(plan)) return run_dense(op, plan, arrays, executor);
  const int w_stride = static_cast<int>(packed_columns(op.C, op.dtype));
  const int64_t out_size = int64_t{op.N} * op.K;
  const bool split = plan.tiling.split_k > 1;
  const Buffer out{"out", arrays.y, out_size * size_bytes(op.dtype), true};
  const Buffer workspace{"workspace", arrays.workspace, plan.workspace_bytes, true};
  const GemmParams params{arrays.x,
                          arrays.w,
                          arrays.bias,
                          arrays.y,
                          split ? static_cast<float*>(arrays.workspace) : nullptr,
                          1,
                          1,
                          op.C,
                          op.K,
                          op.N,
                          op.C,
                          w_stride,
                          plan.tiling.steps,
                          op.relu,
                          op.aligned && op.K % 8 == 0,
                          FastDivmod(static_cast<int>(ceil_div(op.K, plan.tiling.block_n))),
                          FastDivmod(),
                          FastDivmod(),
                          FastDivmod(op.C)};
  executor(plan.launches[0], params,
           {{"x", arrays.x, int64_t{op.N} * op.C * size_bytes(op.dtype), false},
            {"w", arrays.w, int64_t{op.K} * w_stride * size_bytes(op.dtype), false},
            {"bias", arrays.bias, packed_bias(op.K) * 4, false},
            split ? workspace : out});
  if (split) run_reduce(reduce_of(op), plan, arrays.workspace, arrays.bias, arrays.y, executor);
}

}  // namespace vgg
