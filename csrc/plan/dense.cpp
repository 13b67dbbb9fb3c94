#include "plan/dense.h"

#include <algorithm>
#include <iterator>
#include <limits>
#include <string>

#include "kernels/params.h"
#include "kernels/sm90/dense_tile.h"
#include "plan/hopper.h"
#include "plan/map_of.h"

namespace vgg {

namespace {

struct Variant {
  const char* name;
  int block_m, stages, stage_bytes, smem_bytes;
};

template <int BLOCK_M>
constexpr Variant variant(const char* name) {
  using Tile = sm90::DenseTile<BLOCK_M>;
  return {name, BLOCK_M, Tile::STAGES, Tile::STAGE_BYTES,
          static_cast<int>(sizeof(sm90::DenseStorage<Tile>))};
}

#define DENSE(NAME, BLOCK_M) variant<BLOCK_M>(#NAME),
constexpr Variant VARIANTS[] = {
#include "kernels/sm90/dense.def"
};
#undef DENSE

using AnyTile = sm90::DenseTile<8>;
constexpr int BLOCK_N = AnyTile::BLOCK_N, BLOCK_K = AnyTile::BLOCK_K;

// Bytes of weights that an SM receives per clock cycle while all SMs stream them from memory.
// Rough, as in hopper.h.
constexpr double BYTES_STREAMED = 20;
constexpr double LEAST_STEP = 128;  // cycles; products of few images still read 64 features
constexpr double BLOCK_CYCLES = 1500, CLUSTER_CYCLES = 1500;  // to fill the ring, to add splits

struct Cut {
  int64_t image_tiles, tiles, all_steps;
};

Cut cut(const Linear& op, const Variant& variant) {
  const int64_t image_tiles = ceil_div(op.N, variant.block_m);
  return {image_tiles, image_tiles * ceil_div(op.K, BLOCK_N), ceil_div(op.C, BLOCK_K)};
}

// Cycles of the busiest SM.
double estimate(const Linear& op, const Variant& variant, int splits, const ArchSpec& arch) {
  const Cut cut = vgg::cut(op, variant);
  const int64_t blocks = ceil_div(cut.tiles * splits, arch.sm_count);
  const double macs = 1.0 * variant.block_m * BLOCK_N * BLOCK_K;
  const double weights = AnyTile::WEIGHT_BYTES;
  const double images = 1.0 * std::min(variant.block_m, op.N) * AnyTile::ROW_BYTES;
  const double bytes = weights / (cut.image_tiles == 1 ? BYTES_STREAMED : HOPPER_L2_BYTES) +
                       images / HOPPER_L2_BYTES;
  const double step = std::max({macs / HOPPER_MACS, bytes, LEAST_STEP});
  const double sums = 4.0 * std::min(variant.block_m, op.N) * BLOCK_N / HOPPER_L2_BYTES;
  const double once = BLOCK_CYCLES + sums + (splits > 1 ? CLUSTER_CYCLES : 0);
  return static_cast<double>(blocks) *
         (step * static_cast<double>(ceil_div(cut.all_steps, splits)) + once);
}

struct Choice {
  const Variant* variant;
  int splits;
};

// Among equal estimates, the narrowest tile with the fewest splits is chosen.
Choice choose(const Linear& op, const ArchSpec& arch) {
  Choice best{};
  double least = std::numeric_limits<double>::infinity();
  for (const Variant& variant : VARIANTS) {
    const int64_t all_steps = cut(op, variant).all_steps;
    for (int splits = 1; splits <= DenseParams::MAX_SPLITS; splits *= 2) {
      if (ceil_div(all_steps, ceil_div(all_steps, splits)) != splits)
        continue;  // some splits would be empty
      const double cycles = estimate(op, variant, splits, arch);
      if (cycles < least) {
        least = cycles;
        best = {&variant, splits};
      }
    }
  }
  return best;
}

}  // namespace

bool has_dense(const Linear& op, const ArchSpec& arch) {
  const bool dtype = op.dtype == DType::float16 || op.dtype == DType::bfloat16;
  const bool fits = cut(op, *std::rbegin(VARIANTS)).tiles < std::numeric_limits<int32_t>::max();
  return arch.name == "sm_90a" && dtype && op.aligned && op.C % 8 == 0 && fits;
}

Plan plan_dense(const Linear& op, const ArchSpec& arch) {
  const auto [variant, splits] = choose(op, arch);
  const Cut cut = vgg::cut(op, *variant);
  const auto blocks = static_cast<uint32_t>(splits);
  Plan plan;
  plan.op = "linear";
  plan.arch = arch.name;
  plan.launches.push_back({std::string("linear_") + short_name(op.dtype) + "_" + variant->name,
                           {static_cast<uint32_t>(cut.tiles), blocks, 1},
                           {AnyTile::THREADS, 1, 1},
                           variant->smem_bytes,
                           {1, blocks, 1},
                           true});
  plan.tiling = {op.N,
                 op.K,
                 op.C,
                 variant->block_m,
                 BLOCK_N,
                 BLOCK_K,
                 variant->stages,
                 splits,
                 static_cast<int>(ceil_div(cut.all_steps, splits)),
                 0};
  plan.macs = int64_t{op.N} * op.K * op.C;
  plan.tiles = cut.tiles * splits;
  const int64_t steps = cut.tiles * cut.all_steps;
  plan.issued_macs = steps * variant->block_m * BLOCK_N * BLOCK_K;
  plan.load_bytes = steps * variant->stage_bytes;
  plan.store_bytes = int64_t{op.N} * op.K * size_bytes(op.dtype);
  return plan;
}

bool is_dense(const Plan& plan) {
  return plan.launches[0].kernel.find("_dense_") != std::string::npos;
}

void run_dense(const Linear& op, const Plan& plan, const LinearArrays& arrays, Executor& executor) {
  const int block_m = plan.tiling.block_m;
  const int64_t size = size_bytes(op.dtype);
  const DenseParams params{
      executor.encode(map_of(op.dtype, arrays.x, {op.C, op.N}, {BLOCK_K, block_m})),
      executor.encode(map_of(op.dtype, arrays.w, {op.C, op.K}, {BLOCK_K, BLOCK_N})),
      arrays.bias,
      arrays.y,
      op.N,
      op.K,
      plan.tiling.steps,
      static_cast<int>(ceil_div(op.C, BLOCK_K)),
      op.relu,
      FastDivmod(static_cast<int>(ceil_div(op.N, block_m)))};
  executor(plan.launches[0], params,
           {{"x", arrays.x, int64_t{op.N} * op.C * size, false},
            {"w", arrays.w, int64_t{op.K} * op.C * size, false, true},
            {"bias", arrays.bias, packed_bias(op.K) * 4, false, true},
            {"out", arrays.y, int64_t{op.N} * op.K * size, true}});
}

}  // namespace vgg
