// Plans and launches of kernels/sm90/halo.cuh.

#include <algorithm>
#include <iterator>
#include <string>
#include <vector>

#include "kernels/params.h"
#include "kernels/sm90/halo_tile.h"
#include "plan/hopper.h"

namespace vgg {

namespace {

struct Variant {
  std::string name;  // without "_pool"
  int block_n, m_tiles, cluster;
  bool pool;
  int pixels, slab_w, slab_h, stages, threads, pixel_bytes, filter_bytes, smem_bytes;
};

template <int BLOCK_N, int M_TILES, int CLUSTER, bool POOL>
Variant variant(std::string name) {
  using Tile = sm90::HaloTile<BLOCK_N, M_TILES, CLUSTER, POOL>;
  if (POOL) name.resize(name.size() - std::string("_pool").size());
  return {name,
          BLOCK_N,
          M_TILES,
          CLUSTER,
          POOL,
          Tile::PIXELS,
          Tile::SLAB_W,
          Tile::SLAB_H,
          Tile::PIXEL_STAGES,
          Tile::THREADS,
          Tile::PIXEL_BYTES,
          Tile::FILTER_BYTES,
          Tile::BYTES};
}

#define HALO(NAME, ...) variant<__VA_ARGS__>(#NAME),
const std::vector<Variant> VARIANTS = {
#include "kernels/sm90/halo.def"
};
#undef HALO

constexpr int CONSUMERS = 2, CHANNELS = 64;
constexpr double PIECE_CYCLES = 400;  // of writing 64 pixels by 64 channels; rough

// How an image is cut, and how many units of work that makes.
struct Cut {
  int64_t slabs_w, slabs_h, units;
};

Cut cut(const Conv3x3& op, const Variant& variant) {
  const int64_t slabs_w = ceil_div(op.W, variant.slab_w), slabs_h = ceil_div(op.H, variant.slab_h);
  const int64_t groups = ceil_div(op.N * slabs_w * slabs_h, CONSUMERS * variant.cluster);
  return {slabs_w, slabs_h, groups * (op.K / variant.block_n)};
}

int64_t clusters(const Variant& variant, const Cut& cut, const ArchSpec& arch) {
  return std::min<int64_t>(cut.units, arch.sm_count / variant.cluster);
}

// Bytes that a cluster loads for one unit.
int64_t unit_bytes(const Conv3x3& op, const Variant& variant) {
  return op.C / CHANNELS * (3 * variant.cluster * variant.pixel_bytes + 9 * variant.filter_bytes);
}

double estimate(const Conv3x3& op, const Variant& variant, const ArchSpec& arch) {
  const Cut cut = vgg::cut(op, variant);
  const double chunks = op.C / CHANNELS;
  const double macs = 9 * chunks * variant.pixels * variant.block_n * CHANNELS;
  const double shared = chunks * (3 * variant.pixel_bytes + 9 * variant.filter_bytes);
  const double l2 = static_cast<double>(unit_bytes(op, variant)) / variant.cluster;
  const double pieces = variant.m_tiles * variant.block_n / CHANNELS;
  const double unit = hopper_cycles(macs, variant.block_n, shared, l2) + pieces * PIECE_CYCLES;
  return unit * static_cast<double>(ceil_div(cut.units, clusters(variant, cut, arch)));
}

std::string obstacle(const Conv3x3& op, const Variant& variant, const ArchSpec& arch) {
  if (op.K % variant.block_n != 0) {
    return "K to be a multiple of " + std::to_string(variant.block_n) +
           ", got K = " + std::to_string(op.K);
  }
  if (arch.sm_count < variant.cluster) {
    return std::to_string(variant.cluster) + " SMs, there is " + std::to_string(arch.sm_count);
  }
  return "";
}

std::vector<Option> options(const Conv3x3& op, const ArchSpec& arch) {
  std::vector<Option> found;
  for (const Variant& variant : VARIANTS) {
    if (variant.pool != op.pool) continue;
    const std::string missing = obstacle(op, variant, arch);
    found.push_back({variant.name, missing, missing.empty() ? estimate(op, variant, arch) : 0});
  }
  return found;
}

const Variant& find(const Conv3x3& op, const std::string& name) {
  return *std::find_if(VARIANTS.begin(), VARIANTS.end(), [&](const Variant& variant) {
    return variant.name == name && variant.pool == op.pool;
  });
}

Plan make(const Conv3x3& op, const ArchSpec& arch, const std::string& name) {
  const Variant& variant = find(op, name);
  const Cut cut = vgg::cut(op, variant);
  const auto cluster = static_cast<uint32_t>(variant.cluster);
  Plan plan;
  plan.op = "conv3x3";
  plan.arch = arch.name;
  plan.variant = name;
  Launch launch;
  launch.kernel = std::string("conv3x3_") + short_name(op.dtype) + "_" + name;
  if (op.pool) launch.kernel += "_pool";
  launch.grid.x = static_cast<uint32_t>(clusters(variant, cut, arch)) * cluster;
  launch.block.x = static_cast<uint32_t>(variant.threads);
  launch.smem_bytes = variant.smem_bytes;
  launch.cluster.x = cluster;
  plan.launches.push_back(launch);
  const int P = op.pool ? op.H / 2 : op.H, Q = op.pool ? op.W / 2 : op.W;
  const int64_t pixels = int64_t{op.N} * P * Q * (op.pool ? 4 : 1), gemm_k = int64_t{9} * op.C;
  plan.tiling = {pixels,
                 op.K,
                 gemm_k,
                 variant.pixels,
                 variant.block_n,
                 CHANNELS,
                 variant.stages,
                 1,
                 static_cast<int>(gemm_k / CHANNELS),
                 0,
                 Walk::csr};
  plan.macs = pixels * op.K * gemm_k;
  plan.tiles = cut.units;
  plan.issued_macs = cut.units * variant.cluster * variant.pixels * variant.block_n * gemm_k;
  plan.load_bytes = cut.units * unit_bytes(op, variant);
  plan.store_bytes = int64_t{op.N} * P * Q * op.K * size_bytes(op.dtype);
  return plan;
}

void run(const Conv3x3& op, const Plan& plan, const Conv3x3Arrays& arrays, Executor& executor) {
  const Variant& variant = find(op, plan.variant);
  const int64_t P = op.pool ? op.H / 2 : op.H, Q = op.pool ? op.W / 2 : op.W;
  const int64_t pixels = int64_t{op.N} * op.H * op.W, out_size = op.N * P * Q * op.K;
  const int64_t size = size_bytes(op.dtype), gemm_k = int64_t{9} * op.C;
  const Cut cut = vgg::cut(op, variant);
  const int piece = op.pool ? 4 : 8;
  const HaloParams params{
      executor.encode(hopper_map(op.dtype, arrays.x, {op.C, op.W, op.H, op.N},
                                 {CHANNELS, variant.slab_w, variant.slab_h + 2, 1})),
      executor.encode(hopper_map(op.dtype, arrays.w, {gemm_k, op.K},
                                 {CHANNELS, variant.block_n / variant.cluster})),
      executor.encode(
          hopper_map(op.dtype, arrays.y, {op.K, Q, P, op.N}, {CHANNELS, piece, piece, 1})),
      arrays.bias,
      op.C,
      static_cast<int>(cut.units),
      op.relu,
      FastDivmod(op.K / variant.block_n),
      FastDivmod(static_cast<int>(cut.slabs_w)),
      FastDivmod(static_cast<int>(cut.slabs_h))};
  executor(plan.launches[0], params,
           {{"x", arrays.x, pixels * op.C * size, false},
            {"w", arrays.w, op.K * gemm_k * size, false},
            {"bias", arrays.bias, packed_bias(op.K) * 4, false},
            {"out", arrays.y, out_size * size, true}});
}

}  // namespace

const HopperFamily HALO = {"halo", options, make, run};

}  // namespace vgg
