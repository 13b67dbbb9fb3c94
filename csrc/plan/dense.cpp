#include "plan/dense.h"

#include <algorithm>
#include <iterator>
#include <limits>
#include <string>

#include "kernels/params.h"
#include "kernels/sm90/dense_tile.h"
#include "plan/map_of.h"

namespace vgg {

namespace {

struct Variant {
  const char* name;
  int block_m, stages, stage_bytes, smem_bytes, blocks_per_sm;
};

template <int BLOCK_M>
constexpr Variant variant(const char* name) {
  using Tile = sm90::DenseTile<BLOCK_M>;
  return {name,
          BLOCK_M,
          Tile::STAGES,
          Tile::STAGE_BYTES,
          static_cast<int>(sizeof(sm90::DenseStorage<Tile>)),
          Tile::BLOCKS};
}

#define DENSE(NAME, BLOCK_M) variant<BLOCK_M>(#NAME),
constexpr Variant VARIANTS[] = {
#include "kernels/sm90/dense.def"
};
#undef DENSE

using AnyTile = sm90::DenseTile<8>;
constexpr int BLOCK_N = AnyTile::BLOCK_N, BLOCK_K = AnyTile::BLOCK_K;

struct Cut {
  int64_t image_tiles, tiles, all_steps;
};

Cut cut(const Linear& op, const Variant& variant) {
  const int64_t image_tiles = ceil_div(op.N, variant.block_m);
  return {image_tiles, image_tiles * ceil_div(op.K, BLOCK_N), ceil_div(op.C, BLOCK_K)};
}

Estimate estimate(const Linear& op, const Variant& variant, int splits, const ArchSpec& arch) {
  const Rates& rates = arch.rates;
  const Cut cut = vgg::cut(op, variant);
  const auto blocks = static_cast<double>(ceil_div(cut.tiles * splits, arch.sm_count));
  const auto steps = static_cast<double>(ceil_div(cut.all_steps, splits));
  const int images = std::min(variant.block_m, op.N);
  const double math = 1.0 * variant.block_m * BLOCK_N * BLOCK_K / rates.wgmma_macs;
  const double weight_rate = cut.image_tiles == 1 ? rates.streamed_bytes : rates.l2_bytes;
  const double l2 =
      AnyTile::WEIGHT_BYTES / weight_rate + 1.0 * images * AnyTile::ROW_BYTES / rates.l2_bytes;
  const double port =
      (math * wgmma_read_bytes(variant.block_m) + variant.stage_bytes) / rates.port_bytes;
  const double step = main_loop_cycles(math, port, l2, rates);
  const double sums = 4.0 * images * BLOCK_N / rates.l2_bytes;
  const double once =
      rates.dense_block_cycles + sums + (splits > 1 ? rates.dense_cluster_cycles : 0);
  const double all = blocks * steps;
  return {blocks * (step * steps + once), all * step, all * math, all * port, all * l2};
}

// A kernel and the number of splits, the blocks of a cluster.
struct Choice {
  const Variant* variant;
  int splits;

  std::string name() const {  // "dense_m8", "dense_m8_split4"
    const std::string name = "dense_m" + std::to_string(variant->block_m);
    return splits == 1 ? name : name + "_split" + std::to_string(splits);
  }
};

// All choices that leave no split empty.
std::vector<Choice> choices(const Linear& op) {
  std::vector<Choice> all;
  for (const Variant& variant : VARIANTS) {
    const int64_t steps = cut(op, variant).all_steps;
    for (int splits = 1; splits <= DenseParams::MAX_SPLITS; splits *= 2) {
      if (ceil_div(steps, ceil_div(steps, splits)) == splits) all.push_back({&variant, splits});
    }
  }
  return all;
}

// Returns the choice with that name; for an empty name, the one with the least estimate. Among
// equal estimates, the narrowest tile with the fewest splits is chosen.
Choice choose(const Linear& op, const ArchSpec& arch, const std::string& name) {
  Choice best{};
  double least = std::numeric_limits<double>::infinity();
  for (const Choice& choice : choices(op)) {
    if (!name.empty() && choice.name() != name) continue;
    const double cycles = estimate(op, *choice.variant, choice.splits, arch).cycles;
    if (cycles >= least) continue;
    least = cycles;
    best = choice;
  }
  return best;
}

}  // namespace

bool has_dense(const Linear& op, const ArchSpec& arch) {
  const bool dtype = op.dtype == DType::float16 || op.dtype == DType::bfloat16;
  const bool fits = cut(op, *std::rbegin(VARIANTS)).tiles < std::numeric_limits<int32_t>::max();
  return arch.has(Family::dense) && dtype && op.aligned && op.C % 8 == 0 && fits;
}

bool is_dense(const std::string& variant) { return variant.rfind("dense_", 0) == 0; }

std::vector<std::string> dense_variants(const Linear& op, const ArchSpec& arch) {
  std::vector<std::string> names;
  if (!has_dense(op, arch)) return names;
  for (const Choice& choice : choices(op)) names.push_back(choice.name());
  return names;
}

Plan plan_dense(const Linear& op, const ArchSpec& arch, const std::string& name) {
  const Choice choice = choose(op, arch, name);
  const auto [variant, splits] = choice;
  const Cut cut = vgg::cut(op, *variant);
  const auto blocks = static_cast<uint32_t>(splits);
  Plan plan;
  plan.op = "linear";
  plan.arch = arch.name;
  plan.family = Family::dense;
  plan.variant = choice.name();
  plan.estimate = estimate(op, *variant, splits, arch);
  plan.launches.push_back({std::string("linear_") + short_name(op.dtype) + "_" + variant->name,
                           {static_cast<uint32_t>(cut.tiles), blocks, 1},
                           {AnyTile::THREADS, 1, 1},
                           variant->smem_bytes,
                           {1, blocks, 1},
                           true,
                           variant->blocks_per_sm});
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

void run_dense(const Linear& op, const Plan& plan, const LinearArrays& arrays, Executor& executor) {
  const int block_m = plan.tiling.block_m;
  const int64_t size = size_bytes(op.dtype);
  const auto encode = [&](const TensorMap& map) {
    return executor.encode(map, plan.launches[0].kernel);
  };
  const DenseParams params{encode(map_of(op.dtype, arrays.x, {op.C, op.N}, {BLOCK_K, block_m})),
                           encode(map_of(op.dtype, arrays.w, {op.C, op.K}, {BLOCK_K, BLOCK_N})),
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
