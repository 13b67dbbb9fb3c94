#include "plan/hopper.h"

#include <algorithm>
#include <limits>
#include <stdexcept>

#include "kernels/params.h"
#include "plan/hopper_kernels.h"
#include "plan/map_of.h"
#include "plan/reduce.h"

namespace vgg {

namespace {

constexpr int CHANNELS = 64;
constexpr double LAUNCH_CYCLES = 4000;  // of the second launch that adds splits; rough

// A kernel and the number of splits, blocks beside each other that add the channels of x.
struct Variant {
  const HopperKernel* kernel;
  int split_k;

  std::string name() const {  // "halo_m128n64_split2", "swap_ab_rows2_c2_split3"
    std::string name = kernel->base_name();
    if (split_k == 1) return name;
    if (kernel->whole) name += "_split";
    return name + std::to_string(split_k);
  }

  // Steps of 64 channels that a split walks; the last split may walk fewer.
  int chunks(const Conv3x3& op) const {
    return static_cast<int>(ceil_div(op.C / CHANNELS, split_k));
  }
};

// The possible numbers of splits: every number that leaves no split empty. Only 1 if the second
// launch could not index the sums with int32.
std::vector<int> splits_of(const Conv3x3& op) {
  std::vector<int> splits = {1};
  if (int64_t{op.N} * op.H * op.W * op.K > std::numeric_limits<int32_t>::max() / 2) return splits;
  const int chunks = op.C / CHANNELS;
  for (int split = 2; split <= chunks; ++split) {
    if (ceil_div(chunks, ceil_div(chunks, split)) == split) splits.push_back(split);
  }
  return splits;
}

// Whether there is a kernel that differs from this one only in that it pools.
bool has_pooling_twin(const HopperKernel& kernel) {
  const std::vector<HopperKernel>& all = hopper_kernels();
  return std::any_of(all.begin(), all.end(), [&](const HopperKernel& other) {
    return other.pools && other.base_name() == kernel.name;
  });
}

// All variants that have a name, usable or not. A second launch pools split sums.
std::vector<Variant> variants(const Conv3x3& op) {
  std::vector<Variant> found;
  const std::vector<int> splits = splits_of(op);
  for (const HopperKernel& kernel : hopper_kernels()) {
    for (const int split_k : splits) {
      const bool pool = op.pool && split_k == 1 && (kernel.pools || has_pooling_twin(kernel));
      const bool writes = split_k == 1 ? kernel.whole : kernel.sums;
      if (writes && kernel.pools == pool) found.push_back({&kernel, split_k});
    }
  }
  return found;
}

Variant find(const Conv3x3& op, const std::string& name) {
  const std::vector<Variant> all = variants(op);
  return *std::find_if(all.begin(), all.end(), [&](const Variant& v) { return v.name() == name; });
}

// How images are cut: units of work, of each split, and the clusters that take them.
struct Cut {
  int64_t tiles_w, tiles_h, units, clusters;
};

Cut cut(const Conv3x3& op, const Variant& variant, const ArchSpec& arch) {
  const HopperKernel& kernel = *variant.kernel;
  const int64_t tiles_w = ceil_div(op.W, kernel.tile_w), tiles_h = ceil_div(op.H, kernel.tile_h);
  const int64_t tiles = ceil_div(op.N, kernel.images) * tiles_w * tiles_h;
  const int64_t groups = ceil_div(tiles, kernel.tiles * kernel.cluster);
  const int64_t units = groups * (op.K / kernel.block_n);
  const int64_t places = std::max(1, arch.sm_count / (kernel.cluster * variant.split_k));
  return {tiles_w, tiles_h, units, std::min(units, places)};
}

// Bytes that a cluster loads for 64 channels of a unit.
int chunk_bytes(const HopperKernel& kernel) {
  return kernel.cluster * kernel.pixel_bytes + kernel.filter_bytes;
}

// Cycles of a block for 64 channels of a unit: the slowest of products, shared memory and the L2
// cache, which work at the same time.
double chunk_cycles(const HopperKernel& kernel) {
  const double products = kernel.macs / HOPPER_MACS;
  const double written = kernel.pixel_bytes + kernel.filter_bytes;
  const double port = (products * (64.0 + 4096.0 / kernel.n) + written) / HOPPER_PORT_BYTES;
  const double l2 = 1.0 * chunk_bytes(kernel) / kernel.cluster / HOPPER_L2_BYTES;
  return std::max({products, port, l2});
}

// Cycles of the busiest SM.
double estimate(const Conv3x3& op, const Variant& variant, const ArchSpec& arch) {
  const HopperKernel& kernel = *variant.kernel;
  const Cut cut = vgg::cut(op, variant, arch);
  const double unit = variant.chunks(op) * chunk_cycles(kernel) + kernel.epilogue_cycles;
  const int64_t waves = ceil_div(cut.units, cut.clusters) *
                        ceil_div(cut.clusters * kernel.cluster * variant.split_k, arch.sm_count);
  const double cycles = unit * static_cast<double>(waves);
  if (variant.split_k == 1) return cycles;
  const double sums = 1.0 * variant.split_k * op.N * op.H * op.W * op.K;
  return cycles + LAUNCH_CYCLES + 2 * sums * sizeof(float) / arch.sm_count / HOPPER_L2_BYTES;
}

std::string obstacle(const Conv3x3& op, const Variant& variant, const ArchSpec& arch) {
  const HopperKernel& kernel = *variant.kernel;
  if (op.K % kernel.block_n != 0) {
    return "K to be a multiple of " + std::to_string(kernel.block_n) +
           ", got K = " + std::to_string(op.K);
  }
  if (arch.sm_count < kernel.cluster) {
    return std::to_string(kernel.cluster) + " SMs, there is " + std::to_string(arch.sm_count);
  }
  const bool pools = op.pool && variant.split_k == 1;
  return kernel.pools == pools ? "" : "no pool, or parts of C that a second launch adds";
}

// Elements of y, or without `pool` of the sums.
int64_t size(const Conv3x3& op, bool pool) {
  return int64_t{op.N} * (pool ? op.H / 2 : op.H) * (pool ? op.W / 2 : op.W) * op.K;
}

// The map of an array [N, H, W, C] for boxes of box_w x box_h pixels.
TensorMap map_of_pixels(const HopperKernel& kernel, DType dtype, const void* data, int64_t N,
                        int64_t H, int64_t W, int64_t C, int box_w, int box_h) {
  TensorMap map = map_of(dtype, data, {C, W, H, N}, {CHANNELS, box_w, box_h, kernel.images});
  if (kernel.images_inner) {
    std::rotate(map.dims + 1, map.dims + 3, map.dims + 4);
    std::rotate(map.strides + 1, map.strides + 3, map.strides + 4);
    std::rotate(map.box + 1, map.box + 3, map.box + 4);
  }
  return map;
}

}  // namespace

bool has_hopper(const Conv3x3& op, const ArchSpec& arch) {
  const bool dtype = op.dtype == DType::float16 || op.dtype == DType::bfloat16;
  return arch.name == "sm_90a" && dtype && op.x_dtype == op.dtype && op.aligned &&
         op.C % CHANNELS == 0 && op.K % 64 == 0;
}

bool is_hopper(const std::string& variant) {
  return variant.rfind("halo_", 0) == 0 || variant.rfind("swap_ab_", 0) == 0;
}

std::vector<Option> hopper_options(const Conv3x3& op, const ArchSpec& arch) {
  std::vector<Option> all;
  for (const Variant& variant : variants(op)) {
    const std::string missing = obstacle(op, variant, arch);
    all.push_back({variant.name(), missing, missing.empty() ? estimate(op, variant, arch) : 0});
  }
  return all;
}

Plan plan_hopper(const Conv3x3& op, const ArchSpec& arch, const std::string& name) {
  std::string best = name;
  double least = std::numeric_limits<double>::infinity();
  for (const Option& option : hopper_options(op, arch)) {
    if (!name.empty() || !option.obstacle.empty() || option.cycles >= least) continue;
    least = option.cycles;
    best = option.variant;
  }
  const Variant variant = find(op, best);
  const HopperKernel& kernel = *variant.kernel;
  const Cut cut = vgg::cut(op, variant, arch);
  const auto cluster = static_cast<uint32_t>(kernel.cluster);
  const bool split = variant.split_k > 1;
  Plan plan;
  plan.op = "conv3x3";
  plan.arch = arch.name;
  plan.variant = best;
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
  plan.tiling = {split ? size(op, false) / op.K : used,
                 op.K,
                 gemm_k,
                 kernel.pixels,
                 kernel.block_n,
                 CHANNELS,
                 kernel.stages,
                 variant.split_k,
                 9 * variant.chunks(op),
                 0,
                 Walk::csr};
  plan.macs = used * op.K * gemm_k;
  plan.tiles = cut.units * kernel.cluster * variant.split_k;
  const int64_t chunks = cut.units * (op.C / CHANNELS);
  plan.issued_macs = chunks * kernel.cluster * kernel.macs;
  plan.load_bytes = chunks * chunk_bytes(kernel);
  plan.store_bytes = size(op, op.pool) * size_bytes(op.dtype);
  if (split) plan_reduce(reduce_of(op), plan);
  return plan;
}

void run_hopper(const Conv3x3& op, const Plan& plan, const Conv3x3Arrays& arrays,
                Executor& executor) {
  const Variant variant = find(op, plan.variant);
  const HopperKernel& kernel = *variant.kernel;
  const bool split = variant.split_k > 1;
  const int64_t bytes = size_bytes(op.dtype), gemm_k = int64_t{9} * op.C;
  const int64_t pixels = int64_t{op.N} * op.H * op.W;
  const int P = op.pool ? op.H / 2 : op.H, Q = op.pool ? op.W / 2 : op.W;
  ConvParams params{};
  params.x = executor.encode(map_of_pixels(kernel, op.dtype, arrays.x, op.N, op.H, op.W, op.C,
                                           kernel.box_w, kernel.box_h));
  params.w = executor.encode(
      map_of(op.dtype, arrays.w, {gemm_k, op.K}, {CHANNELS, kernel.block_n / kernel.cluster}));
  if (!split) {
    params.y = executor.encode(map_of_pixels(kernel, op.dtype, arrays.y, op.N, P, Q, op.K,
                                             kernel.subtile_w, kernel.subtile_h));
  }
  params.bias = arrays.bias;
  params.partial = split ? static_cast<float*>(arrays.workspace) : nullptr;
  params.N = op.N, params.H = op.H, params.W = op.W, params.C = op.C, params.K = op.K;
  params.split_channels = variant.chunks(op) * CHANNELS;
  params.units = static_cast<int>(plan.tiles / variant.split_k / kernel.cluster);
  params.relu = op.relu;
  params.n_tiles = FastDivmod(op.K / kernel.block_n);
  params.tiles_w = FastDivmod(static_cast<int>(ceil_div(op.W, kernel.tile_w)));
  params.tiles_h = FastDivmod(static_cast<int>(ceil_div(op.H, kernel.tile_h)));
  const Buffer workspace{"workspace", arrays.workspace, plan.workspace_bytes, true};
  const Buffer out{"out", arrays.y, size(op, op.pool) * bytes, true};
  executor(plan.launches[0], params,
           {{"x", arrays.x, pixels * op.C * bytes, false},
            {"w", arrays.w, op.K * gemm_k * bytes, false, true},
            {"bias", arrays.bias, packed_bias(op.K) * 4, false, true},
            split ? workspace : out});
  if (split) run_reduce(reduce_of(op), plan, arrays.workspace, arrays.bias, arrays.y, executor);
}

}  // namespace vgg
