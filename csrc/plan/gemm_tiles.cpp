#include "plan/gemm_tiles.h"

#include <algorithm>
#include <limits>

namespace vgg {

namespace {

#define GEMM(OPERATION, VARIANT, M, N, ROW_BYTES, WARPS_M, WARPS_N, STAGES, ROWS, POOL) \
  {Operation::OPERATION,  #VARIANT, M,          N,   ROW_BYTES,                         \
   (WARPS_M) * (WARPS_N), STAGES,   Rows::ROWS, POOL},
const std::vector<GemmTile> TILES_TENSOR_CORE = {
#include "kernels/sm80/gemm_tensor_core.def"
};
const std::vector<GemmTile> TILES_FFMA = {
#include "kernels/sm80/gemm_ffma.def"
};
#undef GEMM

constexpr int MAX_SPLITS = 16, FEWEST_STEPS = 4;

// The part of the peak rate that a warp reaches, by outputs per operand that it loads from shared
// memory. Rough.
double efficiency(int block_m, int block_n, int warps) {
  const int outputs = block_m * block_n / warps;
  return outputs >= 64 * 64 ? 0.9 : outputs >= 64 * 32 ? 0.75 : outputs >= 32 * 32 ? 0.55 : 0.4;
}

double macs_per_cycle(DType dtype, const Rates& rates) {
  return dtype == DType::float32 ? rates.ffma_macs
         : dtype == DType::tf32  ? rates.mma_macs / 2
                                 : rates.mma_macs;
}

Estimate estimate(const GemmProblem& problem, const GemmTile& tile, int split_k, int64_t steps,
                  const ArchSpec& arch) {
  const Rates& rates = arch.rates;
  const int64_t m_tiles = ceil_div(problem.gemm_m, tile.block_m);
  const int64_t n_tiles = ceil_div(problem.gemm_n, tile.block_n);
  const auto blocks = static_cast<double>(ceil_div(m_tiles * n_tiles * split_k, arch.sm_count));
  const double macs = 1.0 * tile.block_m * tile.block_n * tile.block_k(problem.dtype);
  const double math = macs / macs_per_cycle(problem.dtype, rates) /
                      efficiency(tile.block_m, tile.block_n, tile.warps);
  const double rows = std::min<int64_t>(tile.block_m, problem.gemm_m) + tile.block_n;
  const bool streams = problem.operation == Operation::linear && problem.gemm_m <= 128;
  const double l2 = rows * tile.row_bytes / (streams ? rates.streamed_bytes : rates.cached_bytes);
  const double step = std::max(math, l2), all = blocks * static_cast<double>(steps);
  // Filling the pipeline, decoding pixels and writing y take about as long as a few steps.
  double cycles = blocks * step * static_cast<double>(steps + tile.stages + 2);
  if (split_k > 1) {
    const double partial_bytes = 2.0 * split_k * problem.gemm_m * problem.gemm_n * sizeof(float);
    cycles += rates.launch_cycles + partial_bytes / arch.sm_count / rates.cached_bytes;
  }
  return {cycles, all * step, all * math, 0, all * l2};
}

bool fits(const GemmTile& tile, const GemmProblem& problem, const ArchSpec& arch) {
  return tile.operation == problem.operation && tile.rows == problem.rows &&
         tile.smem_bytes() <= arch.smem_per_block_bytes;
}

}  // namespace

Estimate estimate_one_step(const Plan& plan, DType dtype, int warps, const ArchSpec& arch) {
  const Tiling& tiling = plan.tiling;
  const auto tiles = static_cast<double>(plan.tiles);
  const auto busiest = static_cast<double>(ceil_div(plan.tiles, arch.sm_count)) / tiles;
  const double math = busiest * static_cast<double>(plan.issued_macs) /
                      macs_per_cycle(dtype, arch.rates) /
                      efficiency(tiling.block_m, tiling.block_n, warps);
  const double l2 = busiest * static_cast<double>(plan.load_bytes) / arch.rates.cached_bytes;
  const double stores = busiest * static_cast<double>(plan.store_bytes) / arch.rates.streamed_bytes;
  const double cycles = std::max({math, l2, stores});
  return {cycles, cycles, math, 0, l2};
}

std::string GemmTile::name() const {
  std::string name = variant;
  if (pool) name.resize(name.rfind("_pool"));
  return name;
}

std::vector<std::string> tile_names(const GemmProblem& problem, const ArchSpec& arch) {
  std::vector<std::string> names;
  for (const GemmTile& tile : gemm_tiles(problem.dtype)) {
    if (fits(tile, problem, arch) && tile.pool == problem.pool) names.push_back(tile.name());
  }
  return names;
}

const std::vector<GemmTile>& gemm_tiles(DType dtype) {
  return dtype == DType::float32 ? TILES_FFMA : TILES_TENSOR_CORE;
}

GemmChoice choose_tile(const GemmProblem& problem, const ArchSpec& arch, const std::string& name) {
  GemmChoice best{};
  double least = std::numeric_limits<double>::infinity();
  for (const GemmTile& tile : gemm_tiles(problem.dtype)) {
    if (!fits(tile, problem, arch) || (!name.empty() && tile.name() != name)) continue;
    const int64_t all_steps = ceil_div(problem.gemm_k, tile.block_k(problem.dtype));
    int64_t last_steps = 0;
    // The second launch counts the elements of y in int32.
    const bool splits = problem.gemm_m * problem.gemm_n <= std::numeric_limits<int32_t>::max() / 2;
    for (int split = 1; split <= (splits ? MAX_SPLITS : 1); ++split) {
      // Pooling tiles pool in registers, where split sums are incomplete.
      if (tile.pool != (problem.pool && split == 1)) continue;
      const int64_t steps = ceil_div(all_steps, split);
      if (split > 1 && (steps < FEWEST_STEPS || steps == last_steps)) continue;
      if (ceil_div(all_steps, steps) != split) continue;  // the last splits would be empty
      last_steps = steps;
      const Estimate estimate = vgg::estimate(problem, tile, split, steps, arch);
      if (estimate.cycles < least) {
        least = estimate.cycles;
        best = {&tile, split, static_cast<int>(steps), estimate};
      }
    }
  }
  return best;
}

}  // namespace vgg
