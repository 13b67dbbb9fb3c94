#include "plan/hopper.h"

#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include "kernels/params.h"
#include "plan/hopper_variants.h"
#include "plan/map_of.h"
#include "plan/reduce.h"

namespace vgg {

namespace {

constexpr int CHANNELS = HopperVariant::CHANNELS;

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

bool is_hopper(const std::string& variant) {
  return variant.rfind("halo_", 0) == 0 || variant.rfind("swap_ab_", 0) == 0;
}

std::vector<Option> hopper_options(const Conv3x3& op, const ArchSpec& arch) {
  std::vector<Option> all;
  const bool dtype = op.dtype == DType::float16 || op.dtype == DType::bfloat16;
  const bool channels = op.C % CHANNELS == 0 && op.K % 64 == 0;
  if (!dtype || op.x_dtype != op.dtype || !op.aligned || !channels) return all;
  for (const HopperVariant& variant : hopper_variants(op)) {
    const std::string missing = obstacle(op, variant, arch);
    all.push_back(
        {variant.name(), missing, missing.empty() ? estimate(op, variant, arch).cycles : 0});
  }
  return all;
}

std::string fastest(const std::vector<Option>& options) {
  std::string best;
  double least = std::numeric_limits<double>::infinity();
  for (const Option& option : options) {
    if (!option.obstacle.empty() || option.cycles >= least) continue;
    least = option.cycles;
    best = option.variant;
  }
  return best;
}

Plan plan_hopper(const Conv3x3& op, const ArchSpec& arch, const std::string& name) {
  const HopperVariant variant = hopper_variant(op, name);
  const HopperKernel& kernel = *variant.kernel;
  const HopperCut cut = vgg::cut(op, variant, arch);
  const auto cluster = static_cast<uint32_t>(kernel.cluster);
  const bool split = variant.split_k > 1;
  Plan plan;
  plan.op = "conv3x3";
  plan.arch = arch.name;
  plan.family = kernel.family;
  plan.variant = name;
  plan.estimate = estimate(op, variant, arch);
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
  const HopperVariant variant = hopper_variant(op, plan.variant);
  const HopperKernel& kernel = *variant.kernel;
  const bool split = variant.split_k > 1;
  const int64_t bytes = size_bytes(op.dtype), gemm_k = int64_t{9} * op.C;
  const int64_t pixels = int64_t{op.N} * op.H * op.W;
  const int P = op.pool ? op.H / 2 : op.H, Q = op.pool ? op.W / 2 : op.W;
  const auto encode = [&](const TensorMap& map) {
    return executor.encode(map, plan.launches[0].kernel);
  };
  ConvParams params{};
  params.x = encode(map_of_pixels(kernel, op.dtype, arrays.x, op.N, op.H, op.W, op.C, kernel.box_w,
                                  kernel.box_h));
  params.w = encode(
      map_of(op.dtype, arrays.w, {gemm_k, op.K}, {CHANNELS, kernel.block_n / kernel.cluster}));
  if (!split) {
    params.y = encode(map_of_pixels(kernel, op.dtype, arrays.y, op.N, P, Q, op.K, kernel.subtile_w,
                                    kernel.subtile_h));
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
