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

// Rates of an SM per clock cycle. They are rough: they only weigh the parts of an estimate against
// each other, and no GPU was timed for them.
constexpr double MACS_16BIT = 1024, MACS_TF32 = 512, MACS_FFMA = 128;
constexpr double BYTES_CACHED = 48;     // from the L2 cache: pixels of nine taps, shared filters
constexpr double BYTES_STREAMED = 20;   // from memory: weights of dense layers, read once
constexpr double LAUNCH_CYCLES = 4000;  // of the second launch that adds splits
constexpr int MAX_SPLITS = 16, FEWEST_STEPS = 4;

double macs_per_cycle(DType dtype) {
  return dtype == DType::float32 ? MACS_FFMA : dtype == DType::tf32 ? MACS_TF32 : MACS_16BIT;
}

// The part of the peak rate that a warp reaches, by outputs per operand that it loads.
double efficiency(const GemmTile& tile) {
  const int outputs = tile.block_m * tile.block_n / tile.warps;
  return outputs >= 64 * 64 ? 0.9 : outputs >= 64 * 32 ? 0.75 : outputs >= 32 * 32 ? 0.55 : 0.4;
}

// Cycles during which the busiest SM computes or waits for memory.
double estimate(const GemmProblem& problem, const GemmTile& tile, int split_k, int64_t steps,
                const ArchSpec& arch) {
  const int64_t m_tiles = ceil_div(problem.gemm_m, tile.block_m);
  const int64_t n_tiles = ceil_div(problem.gemm_n, tile.block_n);
  const int64_t blocks = ceil_div(m_tiles * n_tiles * split_k, arch.sm_count);
  const double macs = 1.0 * tile.block_m * tile.block_n * tile.block_k(problem.dtype);
  const double rate = macs_per_cycle(problem.dtype);
  const double rows = std::min<int64_t>(tile.block_m, problem.gemm_m) + tile.block_n;
  const bool streams = problem.operation == Operation::linear && problem.gemm_m <= 128;
  const double bytes = rows * tile.row_bytes / (streams ? BYTES_STREAMED : BYTES_CACHED);
  const double step = std::max(macs / rate / efficiency(tile), bytes);
  // Filling the pipeline, decoding pixels and writing y take about as long as a few steps.
  double cycles = static_cast<double>(blocks) * step * static_cast<double>(steps + tile.stages + 2);
  if (split_k > 1) {
    const double partial_bytes = 2.0 * split_k * problem.gemm_m * problem.gemm_n * sizeof(float);
    cycles += LAUNCH_CYCLES + partial_bytes / arch.sm_count / BYTES_CACHED;
  }
  return cycles;
}

bool fits(const GemmTile& tile, const GemmProblem& problem, const ArchSpec& arch) {
  return tile.operation == problem.operation && tile.rows == problem.rows &&
         tile.smem_bytes() <= arch.smem_per_block_bytes;
}

}  // namespace

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
      const double cycles = estimate(problem, tile, split, steps, arch);
      if (cycles < least) {
        least = cycles;
        best = {&tile, split, static_cast<int>(steps)};
      }
    }
  }
  return best;
}

}  // namespace vgg
