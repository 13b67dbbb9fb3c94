#include "plan/gemm.h"

#include <algorithm>
#include <limits>
#include <stdexcept>

namespace vgg {

void check_fits(const char* op, const char* what, int64_t size) {
  constexpr int64_t LIMIT = std::numeric_limits<int32_t>::max() - 1024;  // room for a tile
  if (size > LIMIT) {
    throw std::invalid_argument(std::string(op) + ": " + what +
                                " must be less than 2^31 - 1024, got " + std::to_string(size));
  }
}

uint32_t checked_blocks(const char* op, int64_t count) {
  check_fits(op, "the number of tiles", count);
  return static_cast<uint32_t>(count);
}

void check_variant(const char* op, const std::vector<std::string>& names,
                   const std::string& variant, const std::string& need) {
  if (std::find(names.begin(), names.end(), variant) != names.end()) return;
  std::string text = std::string(op) + ": variant: expected ";
  for (size_t i = 0; i < names.size(); ++i) text += (i == 0 ? "" : ", ") + names[i];
  text += (names.empty() ? "none, got " : ", got ") + variant;
  if (!need.empty()) text += ", which needs " + need;
  throw std::invalid_argument(text);
}

std::string kernel_entry(const char* op, DType dtype, const std::string& variant) {
  return std::string(op) + "_" + short_name(dtype) + (variant.empty() ? "" : "_" + variant);
}

Plan plan_gemm(const char* op, const GemmProblem& problem, int64_t pooled_m, const Reduce& reduce,
               const ArchSpec& arch, const std::string& variant) {
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
  plan.estimate = choice.estimate;
  plan.launches.push_back(
      {kernel_entry(op, problem.dtype, tile.variant),
       {checked_blocks(op, m_tiles * n_tiles), static_cast<uint32_t>(choice.split_k), 1},
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

void run_gemm(const Plan& plan, GemmParams params, const GemmBuffers& buffers, const Reduce& reduce,
              Executor& executor) {
  const bool split = plan.tiling.split_k > 1;
  params.x = buffers.x.data;
  params.w = buffers.w.data;
  params.bias = static_cast<const float*>(buffers.bias.data);
  params.y = const_cast<void*>(buffers.out.data);
  params.partial = split ? static_cast<float*>(buffers.workspace) : nullptr;
  params.gemm_m = static_cast<int>(plan.tiling.gemm_m);
  params.gemm_k = static_cast<int>(plan.tiling.gemm_k);
  params.steps = plan.tiling.steps;
  params.n_tiles = FastDivmod(static_cast<int>(ceil_div(params.K, plan.tiling.block_n)));
  params.channels = FastDivmod(params.C);
  const Buffer sums{"workspace", buffers.workspace, plan.workspace_bytes, true};
  executor(plan.launches[0], params,
           {buffers.x, buffers.w, buffers.bias, split ? sums : buffers.out});
  if (split) run_reduce(reduce, plan, buffers.workspace, params.bias, params.y, executor);
}

}  // namespace vgg
