// Plans and launches of kernels/sm90/halo.cuh.

#include <algorithm>
#include <string>
#include <vector>

#include "kernels/params.h"
#include "kernels/sm90/halo_tile.h"
#include "plan/hopper.h"
#include "plan/map_of.h"
#include "plan/reduce.h"

namespace vgg {

namespace {

using sm90::Result;

// A kernel: one tile, and what becomes of its sums.
struct Kernel {
  std::string name;  // "halo_m128n64_split"
  int block_n, m_tiles, cluster;
  Result result;
  int pixels, slab_w, slab_h, stages, threads, pixel_bytes, filter_bytes, smem_bytes;
};

template <int BLOCK_N, int M_TILES, int CLUSTER, Result RESULT>
Kernel kernel(const char* name) {
  using Tile = sm90::HaloTile<BLOCK_N, M_TILES, CLUSTER, RESULT>;
  return {name,
          BLOCK_N,
          M_TILES,
          CLUSTER,
          RESULT,
          Tile::PIXELS,
          Tile::SLAB_W,
          Tile::SLAB_H,
          Tile::PIXEL_STAGES,
          Tile::THREADS,
          Tile::PIXEL_BYTES,
          Tile::FILTER_BYTES,
          Tile::BYTES};
}

#define HALO(NAME, ...) kernel<__VA_ARGS__>(#NAME),
const std::vector<Kernel> KERNELS = {
#include "kernels/sm90/halo.def"
};
#undef HALO

constexpr int CONSUMERS = 2, CHANNELS = 64;
constexpr double PIECE_CYCLES = 400;  // of writing 64 pixels by 64 channels; rough

// A kernel for a convolution. Each split walks `chunks` times 64 channels, the last maybe fewer.
struct Variant {
  const Kernel* kernel;
  int split_k, chunks;

  std::string name() const {
    if (kernel->result == Result::split) return kernel->name + std::to_string(split_k);
    std::string name = kernel->name;
    if (kernel->result == Result::pooled) name.resize(name.rfind("_pool"));
    return name;
  }
};

std::vector<Variant> variants(const Conv3x3& op) {
  std::vector<Variant> found;
  const int chunks = op.C / CHANNELS;
  const Result result = op.pool ? Result::pooled : Result::whole;
  for (const Kernel& kernel : KERNELS) {
    if (kernel.result == result) found.push_back({&kernel, 1, chunks});
    if (kernel.result != Result::split) continue;
    for (const int split_k : hopper_splits(op)) {
      const auto each = static_cast<int>(ceil_div(chunks, split_k));
      if (split_k > 1) found.push_back({&kernel, split_k, each});
    }
  }
  return found;
}

Variant find(const Conv3x3& op, const std::string& name) {
  const std::vector<Variant> all = variants(op);
  return *std::find_if(all.begin(), all.end(), [&](const Variant& v) { return v.name() == name; });
}

// How images are cut: units of work, of each split; clusters that take them.
struct Cut {
  int64_t slabs_w, slabs_h, units, clusters;
};

Cut cut(const Conv3x3& op, const Variant& variant, const ArchSpec& arch) {
  const Kernel& kernel = *variant.kernel;
  const int64_t slabs_w = ceil_div(op.W, kernel.slab_w), slabs_h = ceil_div(op.H, kernel.slab_h);
  const int64_t groups = ceil_div(op.N * slabs_w * slabs_h, CONSUMERS * kernel.cluster);
  const int64_t units = groups * (op.K / kernel.block_n);
  const int64_t places = std::max(1, arch.sm_count / (kernel.cluster * variant.split_k));
  return {slabs_w, slabs_h, units, std::min(units, places)};
}

// Bytes that a cluster loads for 64 channels of a unit.
int chunk_bytes(const Kernel& kernel) {
  return 3 * kernel.cluster * kernel.pixel_bytes + 9 * kernel.filter_bytes;
}

double estimate(const Conv3x3& op, const Variant& variant, const ArchSpec& arch) {
  const Kernel& kernel = *variant.kernel;
  const Cut cut = vgg::cut(op, variant, arch);
  const double macs = 9.0 * kernel.pixels * kernel.block_n * CHANNELS;
  const double shared = 3.0 * kernel.pixel_bytes + 9.0 * kernel.filter_bytes;
  const double l2 = 1.0 * chunk_bytes(kernel) / kernel.cluster;
  const double pieces = kernel.m_tiles * kernel.block_n / CHANNELS;
  const double unit = variant.chunks * hopper_cycles(macs, kernel.block_n, shared, l2);
  const int64_t waves = ceil_div(cut.units, cut.clusters) *
                        ceil_div(cut.clusters * kernel.cluster * variant.split_k, arch.sm_count);
  const double cycles = static_cast<double>(waves) * (unit + pieces * PIECE_CYCLES);
  return cycles + hopper_split_cycles(op, variant.split_k, arch);
}

std::string obstacle(const Conv3x3& op, const Kernel& kernel, const ArchSpec& arch) {
  if (op.K % kernel.block_n != 0) {
    return "K to be a multiple of " + std::to_string(kernel.block_n) +
           ", got K = " + std::to_string(op.K);
  }
  if (arch.sm_count < kernel.cluster) {
    return std::to_string(kernel.cluster) + " SMs, there is " + std::to_string(arch.sm_count);
  }
  return "";
}

std::vector<Option> options(const Conv3x3& op, const ArchSpec& arch) {
  std::vector<Option> found;
  for (const Variant& variant : variants(op)) {
    const std::string missing = obstacle(op, *variant.kernel, arch);
    const double cycles = missing.empty() ? estimate(op, variant, arch) : 0;
    found.push_back({variant.name(), missing, cycles});
  }
  return found;
}

// y, or without `pool` the sums.
int64_t size(const Conv3x3& op, bool pool) {
  return int64_t{op.N} * (pool ? op.H / 2 : op.H) * (pool ? op.W / 2 : op.W) * op.K;
}

Plan make(const Conv3x3& op, const ArchSpec& arch, const std::string& name) {
  const Variant variant = find(op, name);
  const Kernel& kernel = *variant.kernel;
  const Cut cut = vgg::cut(op, variant, arch);
  const auto cluster = static_cast<uint32_t>(kernel.cluster);
  Plan plan;
  plan.op = "conv3x3";
  plan.arch = arch.name;
  plan.variant = name;
  Launch launch;
  launch.kernel = std::string("conv3x3_") + short_name(op.dtype) + "_" + kernel.name;
  launch.grid = {static_cast<uint32_t>(cut.clusters) * cluster,
                 static_cast<uint32_t>(variant.split_k), 1};
  launch.block.x = static_cast<uint32_t>(kernel.threads);
  launch.smem_bytes = kernel.smem_bytes;
  launch.cluster.x = cluster;
  launch.early = true;
  plan.launches.push_back(launch);
  const int64_t gemm_k = int64_t{9} * op.C;
  const int64_t used = size(op, op.pool) / op.K * (op.pool ? 4 : 1);  // pixels that y needs
  plan.tiling = {kernel.result == Result::split ? size(op, false) / op.K : used,
                 op.K,
                 gemm_k,
                 kernel.pixels,
                 kernel.block_n,
                 CHANNELS,
                 kernel.stages,
                 variant.split_k,
                 9 * variant.chunks,
                 0,
                 Walk::csr};
  plan.macs = used * op.K * gemm_k;
  plan.tiles = cut.units * kernel.cluster * variant.split_k;
  plan.issued_macs = cut.units * kernel.cluster * kernel.pixels * kernel.block_n * gemm_k;
  plan.load_bytes = cut.units * (op.C / CHANNELS) * chunk_bytes(kernel);
  plan.store_bytes = size(op, op.pool) * size_bytes(op.dtype);
  if (kernel.result == Result::split) plan_reduce(reduce_of(op), plan);
  return plan;
}

void run(const Conv3x3& op, const Plan& plan, const Conv3x3Arrays& arrays, Executor& executor) {
  const Variant variant = find(op, plan.variant);
  const Kernel& kernel = *variant.kernel;
  const bool split = kernel.result == Result::split;
  const int64_t bytes = size_bytes(op.dtype), gemm_k = int64_t{9} * op.C;
  const int64_t pixels = int64_t{op.N} * op.H * op.W;
  const Launch& launch = plan.launches[0];
  const int64_t slabs_w = ceil_div(op.W, kernel.slab_w), slabs_h = ceil_div(op.H, kernel.slab_h);
  const int P = op.pool ? op.H / 2 : op.H, Q = op.pool ? op.W / 2 : op.W, piece = op.pool ? 4 : 8;
  HaloParams params{};
  params.x = executor.encode(map_of(op.dtype, arrays.x, {op.C, op.W, op.H, op.N},
                                    {CHANNELS, kernel.slab_w, kernel.slab_h + 2, 1}));
  params.w = executor.encode(
      map_of(op.dtype, arrays.w, {gemm_k, op.K}, {CHANNELS, kernel.block_n / kernel.cluster}));
  if (!split) {
    params.y = executor.encode(
        map_of(op.dtype, arrays.y, {op.K, Q, P, op.N}, {CHANNELS, piece, piece, 1}));
  }
  params.bias = arrays.bias;
  params.partial = split ? static_cast<float*>(arrays.workspace) : nullptr;
  params.N = op.N, params.H = op.H, params.W = op.W, params.C = op.C, params.K = op.K;
  params.split_channels = variant.chunks * CHANNELS;
  params.units = static_cast<int>(plan.tiles / variant.split_k / kernel.cluster);
  params.relu = op.relu;
  params.n_tiles = FastDivmod(op.K / kernel.block_n);
  params.slabs_w = FastDivmod(static_cast<int>(slabs_w));
  params.slabs_h = FastDivmod(static_cast<int>(slabs_h));
  const Buffer x{"x", arrays.x, pixels * op.C * bytes, false};
  const Buffer w{"w", arrays.w, op.K * gemm_k * bytes, false, true};
  const Buffer bias{"bias", arrays.bias, packed_bias(op.K) * 4, false, true};
  if (!split) {
    return executor(launch, params,
                    {x, w, bias, {"out", arrays.y, size(op, op.pool) * bytes, true}});
  }
  executor(launch, params, {x, w, {"workspace", arrays.workspace, plan.workspace_bytes, true}});
  run_reduce(reduce_of(op), plan, arrays.workspace, arrays.bias, arrays.y, executor);
}

}  // namespace

const HopperFamily HALO = {"halo", options, make, run};

}  // namespace vgg
