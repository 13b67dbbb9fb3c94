// Plans and launches of kernels/sm90/swap_ab.cuh.

#include <algorithm>
#include <string>
#include <vector>

#include "kernels/params.h"
#include "kernels/sm90/swap_ab_tile.h"
#include "plan/hopper.h"
#include "plan/map_of.h"
#include "plan/reduce.h"

namespace vgg {

namespace {

struct Variant {
  std::string name;  // without "_pool"
  int rows, cluster;
  bool pool;
  int pixels, tile_w, box_w, box_h;
  int n;  // of wgmma
  int stages, threads;
  int pixel_bytes;  // of 64 channels, in all boxes
  int smem_bytes;
};

template <int ROWS, int CLUSTER, bool POOL>
Variant variant(std::string name) {
  using Tile = sm90::SwapAbTile<ROWS, CLUSTER, POOL>;
  if (POOL) name.resize(name.size() - std::string("_pool").size());
  return {name,           ROWS,
          CLUSTER,        POOL,
          Tile::PIXELS,   Tile::TILE_W,
          Tile::BOX_W,    Tile::BOX_H,
          2 * Tile::SUMS, Tile::PIXEL_STAGES,
          Tile::THREADS,  Tile::BOXES * Tile::PIXEL_BYTES,
          Tile::BYTES};
}

#define SWAP_AB(NAME, ...) variant<__VA_ARGS__>(#NAME),
const std::vector<Variant> VARIANTS = {
#include "kernels/sm90/swap_ab.def"
};
#undef SWAP_AB

constexpr int CHANNELS = 64, BLOCK_N = 128, IMAGES = 8, PIECE_W = 7;
constexpr int FILTER_BYTES = 9 * BLOCK_N * CHANNELS * 2;  // of all taps of 64 channels
constexpr double PIECE_CYCLES = 200;  // of writing seven pixels of the images; rough

// A variant, and in how many parts, blocks beside each other, it adds the channels of x.
struct Choice {
  const Variant* variant;
  int split_k;

  std::string name() const {  // "swap_ab_rows2_c2_split3"
    return variant->name + (split_k > 1 ? "_split" + std::to_string(split_k) : "");
  }
  int channels(const Conv3x3& op) const {  // of a part, the last one excepted
    return static_cast<int>(ceil_div(op.C / CHANNELS, split_k)) * CHANNELS;
  }
};

// Units of work, of each part, and the clusters that take them.
struct Cut {
  int64_t units, clusters;
};

Cut cut(const Conv3x3& op, const Choice& choice, const ArchSpec& arch) {
  const Variant& variant = *choice.variant;
  const int64_t tiles =
      ceil_div(op.N, IMAGES) * ceil_div(op.W, variant.tile_w) * ceil_div(op.H, variant.rows);
  const int64_t units = ceil_div(tiles, variant.cluster) * (op.K / BLOCK_N);
  const int64_t places = std::max(1, arch.sm_count / (variant.cluster * choice.split_k));
  return {units, std::min(units, places)};
}

// Multiply-adds of a block for 64 channels of a unit, positions between rows included.
int64_t chunk_macs(const Variant& variant) { return int64_t{9} * variant.n * BLOCK_N * CHANNELS; }

// Bytes that a cluster loads for them.
int64_t chunk_bytes(const Variant& variant) {
  return variant.cluster * variant.pixel_bytes + FILTER_BYTES;
}

double estimate(const Conv3x3& op, const Choice& choice, const ArchSpec& arch) {
  const Variant& variant = *choice.variant;
  const Cut cut = vgg::cut(op, choice, arch);
  const double macs = static_cast<double>(chunk_macs(variant));
  const double shared = variant.pixel_bytes + FILTER_BYTES;
  const double l2 = static_cast<double>(chunk_bytes(variant)) / variant.cluster;
  const double chunk = hopper_cycles(macs, variant.n, shared, l2);
  const double pieces = variant.rows * variant.tile_w / PIECE_W;
  const double unit = choice.channels(op) / CHANNELS * chunk + pieces * PIECE_CYCLES;
  const int64_t waves = ceil_div(cut.units, cut.clusters) *
                        ceil_div(cut.clusters * variant.cluster * choice.split_k, arch.sm_count);
  return unit * static_cast<double>(waves) + hopper_split_cycles(op, choice.split_k, arch);
}

std::string obstacle(const Conv3x3& op, const Choice& choice, const ArchSpec& arch) {
  if (op.K % BLOCK_N != 0) {
    return "K to be a multiple of " + std::to_string(BLOCK_N) + ", got K = " + std::to_string(op.K);
  }
  const int cluster = choice.variant->cluster;
  if (arch.sm_count < cluster) {
    return std::to_string(cluster) + " SMs, there is " + std::to_string(arch.sm_count);
  }
  // A second launch pools split sums.
  const bool pools = op.pool && choice.split_k == 1;
  return choice.variant->pool == pools ? "" : "no pool, or parts of C that a second launch adds";
}

// All that have a name.
std::vector<Choice> choices(const Conv3x3& op) {
  std::vector<Choice> all;
  const auto pools = [](const Variant& variant) {
    return std::any_of(VARIANTS.begin(), VARIANTS.end(), [&](const Variant& other) {
      return other.pool && other.name == variant.name;
    });
  };
  for (const Variant& variant : VARIANTS) {
    for (const int split_k : hopper_splits(op)) {
      const bool pool = op.pool && split_k == 1 && (variant.pool || pools(variant));
      if (variant.pool == pool) all.push_back({&variant, split_k});
    }
  }
  return all;
}

Choice find(const Conv3x3& op, const std::string& name) {
  const std::vector<Choice> all = choices(op);
  return *std::find_if(all.begin(), all.end(),
                       [&](const Choice& choice) { return choice.name() == name; });
}

std::vector<Option> options(const Conv3x3& op, const ArchSpec& arch) {
  std::vector<Option> found;
  for (const Choice& choice : choices(op)) {
    const std::string missing = obstacle(op, choice, arch);
    found.push_back({choice.name(), missing, missing.empty() ? estimate(op, choice, arch) : 0});
  }
  return found;
}

// y, or without `pool` the sums.
int64_t size(const Conv3x3& op, bool pool) {
  return int64_t{op.N} * (pool ? op.H / 2 : op.H) * (pool ? op.W / 2 : op.W) * op.K;
}

Plan make(const Conv3x3& op, const ArchSpec& arch, const std::string& name) {
  const Choice choice = find(op, name);
  const Variant& variant = *choice.variant;
  const Cut cut = vgg::cut(op, choice, arch);
  const auto cluster = static_cast<uint32_t>(variant.cluster);
  const bool split = choice.split_k > 1;
  Plan plan;
  plan.op = "conv3x3";
  plan.arch = arch.name;
  plan.variant = name;
  Launch launch;
  launch.kernel = std::string("conv3x3_") + short_name(op.dtype) + "_" + variant.name;
  if (variant.pool) launch.kernel += "_pool";
  launch.grid = {static_cast<uint32_t>(cut.clusters) * cluster,
                 static_cast<uint32_t>(choice.split_k), 1};
  launch.block.x = static_cast<uint32_t>(variant.threads);
  launch.smem_bytes = variant.smem_bytes;
  launch.cluster.x = cluster;
  launch.early = true;
  plan.launches.push_back(launch);
  const int64_t used = size(op, op.pool) / op.K * (op.pool ? 4 : 1);  // pixels that y needs
  const int64_t gemm_k = int64_t{9} * op.C;
  plan.tiling = {split ? size(op, false) / op.K : used,
                 op.K,
                 gemm_k,
                 variant.pixels,
                 BLOCK_N,
                 CHANNELS,
                 variant.stages,
                 choice.split_k,
                 9 * choice.channels(op) / CHANNELS,
                 0,
                 Walk::csr};
  plan.macs = used * op.K * gemm_k;
  plan.tiles = cut.units * variant.cluster * choice.split_k;
  const int64_t chunks = cut.units * (op.C / CHANNELS);
  plan.issued_macs = chunks * variant.cluster * chunk_macs(variant);
  plan.load_bytes = chunks * chunk_bytes(variant);
  plan.store_bytes = size(op, op.pool) * size_bytes(op.dtype);
  if (split) plan_reduce(reduce_of(op), plan);
  return plan;
}

// The map of an array [N, H, W, C] whose boxes have all images of a pixel beside each other.
TensorMap by_pixel(DType dtype, const void* data, int64_t N, int64_t H, int64_t W, int64_t C,
                   int box_w, int box_h) {
  TensorMap map = map_of(dtype, data, {C, W, H, N}, {CHANNELS, box_w, box_h, IMAGES});
  std::rotate(map.dims + 1, map.dims + 3, map.dims + 4);
  std::rotate(map.strides + 1, map.strides + 3, map.strides + 4);
  std::rotate(map.box + 1, map.box + 3, map.box + 4);
  return map;
}

void run(const Conv3x3& op, const Plan& plan, const Conv3x3Arrays& arrays, Executor& executor) {
  const Choice choice = find(op, plan.variant);
  const Variant& variant = *choice.variant;
  const bool split = choice.split_k > 1;
  const int64_t bytes = size_bytes(op.dtype), gemm_k = int64_t{9} * op.C;
  const int64_t pixels = int64_t{op.N} * op.H * op.W;
  const int P = op.pool ? op.H / 2 : op.H, Q = op.pool ? op.W / 2 : op.W;
  SwapAbParams params{};
  params.x = executor.encode(
      by_pixel(op.dtype, arrays.x, op.N, op.H, op.W, op.C, variant.box_w, variant.box_h));
  params.w = executor.encode(
      map_of(op.dtype, arrays.w, {gemm_k, op.K}, {CHANNELS, BLOCK_N / variant.cluster}));
  if (!split) {
    params.y = executor.encode(by_pixel(op.dtype, arrays.y, op.N, P, Q, op.K, PIECE_W, 1));
  }
  params.bias = arrays.bias;
  params.partial = split ? static_cast<float*>(arrays.workspace) : nullptr;
  params.N = op.N, params.H = op.H, params.W = op.W, params.C = op.C, params.K = op.K;
  params.split_channels = choice.channels(op);
  params.units = static_cast<int>(plan.tiles / choice.split_k / variant.cluster);
  params.relu = op.relu;
  params.n_tiles = FastDivmod(op.K / BLOCK_N);
  params.tiles_w = FastDivmod(static_cast<int>(ceil_div(op.W, variant.tile_w)));
  params.tiles_h = FastDivmod(static_cast<int>(ceil_div(op.H, variant.rows)));
  const Buffer workspace{"workspace", arrays.workspace, plan.workspace_bytes, true};
  const Buffer out{"out", arrays.y, size(op, op.pool) * bytes, true};
  executor(plan.launches[0], params,
           {{"x", arrays.x, pixels * op.C * bytes, false},
            {"w", arrays.w, op.K * gemm_k * bytes, false, true},
            {"bias", arrays.bias, packed_bias(op.K) * 4, false, true},
            split ? workspace : out});
  if (split) run_reduce(reduce_of(op), plan, arrays.workspace, arrays.bias, arrays.y, executor);
}

}  // namespace

const HopperFamily SWAP_AB = {"swap_ab", options, make, run};

}  // namespace vgg
