#include "plan/hopper_variants.h"

#include <algorithm>
#include <limits>

namespace vgg {

namespace {

// The possible numbers of splits: every number that leaves no split empty. Only 1 if the second
// launch could not index the sums with int32.
std::vector<int> splits_of(const Conv3x3& op) {
  std::vector<int> splits = {1};
  if (int64_t{op.N} * op.H * op.W * op.K > std::numeric_limits<int32_t>::max() / 2) return splits;
  const int chunks = op.C / HopperVariant::CHANNELS;
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

}  // namespace

std::string HopperVariant::name() const {
  std::string name = kernel->base_name();
  if (split_k == 1) return name;
  if (kernel->whole) name += "_split";
  return name + std::to_string(split_k);
}

std::vector<HopperVariant> hopper_variants(const Conv3x3& op) {
  std::vector<HopperVariant> found;
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

HopperVariant hopper_variant(const Conv3x3& op, const std::string& name) {
  const std::vector<HopperVariant> all = hopper_variants(op);
  return *std::find_if(all.begin(), all.end(),
                       [&](const HopperVariant& v) { return v.name() == name; });
}

std::string obstacle(const Conv3x3& op, const HopperVariant& variant, const ArchSpec& arch) {
  const HopperKernel& kernel = *variant.kernel;
  if (!arch.has(kernel.family)) {
    return "the kernel family " + name(kernel.family) + " (sm_90a, unless switched off)";
  }
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

HopperCut cut(const Conv3x3& op, const HopperVariant& variant, const ArchSpec& arch) {
  const HopperKernel& kernel = *variant.kernel;
  const int64_t tiles_w = ceil_div(op.W, kernel.tile_w), tiles_h = ceil_div(op.H, kernel.tile_h);
  const int64_t tiles = ceil_div(op.N, kernel.images) * tiles_w * tiles_h;
  const int64_t groups = ceil_div(tiles, kernel.tiles * kernel.cluster);
  const int64_t units = groups * (op.K / kernel.block_n);
  const int64_t places = std::max(1, arch.sm_count / (kernel.cluster * variant.split_k));
  return {units, std::min(units, places)};
}

int chunk_bytes(const HopperKernel& kernel) {
  return kernel.cluster * kernel.pixel_bytes + kernel.filter_bytes;
}

Estimate estimate(const Conv3x3& op, const HopperVariant& variant, const ArchSpec& arch) {
  const HopperKernel& kernel = *variant.kernel;
  const Rates& rates = arch.rates;
  // Cycles of a block for 64 channels of a unit.
  const double math = kernel.macs / rates.wgmma_macs;
  const double written = kernel.pixel_bytes + kernel.filter_bytes;
  const double port = (math * wgmma_read_bytes(kernel.n) + written) / rates.port_bytes;
  const double l2 = 1.0 * chunk_bytes(kernel) / kernel.cluster / rates.l2_bytes;
  const double chunk = main_loop_cycles(math, port, l2, rates);

  const HopperCut cut = vgg::cut(op, variant, arch);
  const auto waves =
      static_cast<double>(ceil_div(cut.units, cut.clusters) *
                          ceil_div(cut.clusters * kernel.cluster * variant.split_k, arch.sm_count));
  const double subtile =
      kernel.family == Family::halo ? rates.halo_subtile_cycles : rates.swap_ab_subtile_cycles;
  const double unit = variant.chunks(op) * chunk + kernel.subtiles * subtile;
  double cycles = unit * waves;
  if (variant.split_k > 1) {
    const double sums = 1.0 * variant.split_k * op.N * op.H * op.W * op.K;
    cycles += rates.launch_cycles + 2 * sums * sizeof(float) / arch.sm_count / rates.l2_bytes;
  }
  const double chunks = waves * variant.chunks(op);
  return {cycles, chunks * chunk, chunks * math, chunks * port, chunks * l2};
}

}  // namespace vgg
