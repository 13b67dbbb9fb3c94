// The first two convolutions with kernels/sm90/fused_conv1_block.cuh.

#include <algorithm>
#include <stdexcept>
#include <string>

#include "kernels/params.h"
#include "kernels/sm90/fused_conv1_block_tile.h"
#include "ops.h"
#include "plan/map_of.h"

namespace vgg {

namespace {

using Tile = sm90::FusedConv1BlockTile;

// Results are whole windows: an odd last row or column is left out.
struct Cut {
  int64_t P, Q, tiles_w, tiles_h, tiles;
};

Cut cut(const FusedConv1Block& op) {
  const int64_t P = op.H / 2, Q = op.W / 2;
  const int64_t tiles_w = ceil_div(Q, Tile::POOLED_W), tiles_h = ceil_div(P, Tile::POOLED_H);
  return {P, Q, tiles_w, tiles_h, op.N * tiles_w * tiles_h};
}

constexpr int K = Tile::CHANNELS, GEMM_K1 = Tile::GEMM_K, GEMM_K2 = 9 * K, BLOCK_K1 = 32;
constexpr int PIXELS = Tile::WIDTH * Tile::HEIGHT, BETWEEN = Tile::COLUMNS * Tile::LINES;

// Bytes of x that a tile reads: every warp of the first convolution reads its lines, and the lines
// above and below.
int64_t image_bytes(const FusedConv1Block& op) {
  return Tile::WARPS * (Tile::WARP_LINES + 2) * (Tile::COLUMNS + 2) * 3 * size_bytes(op.x_dtype);
}

// Waits of the two convolutions for each other are left out.
Estimate estimate(const FusedConv1Block& op, const ArchSpec& arch) {
  const Rates& rates = arch.rates;
  const double first = K * BETWEEN * BLOCK_K1 / rates.mma_macs;
  const double second = K * PIXELS * GEMM_K2 / rates.wgmma_macs;
  const double math = first + second;  // on the same tensor cores
  const double port = (second * wgmma_read_bytes(PIXELS / 2) + Tile::PIXELS_BYTES) /
                      rates.port_bytes;  // the first convolution writes pixels for the second
  const double l2 = static_cast<double>(image_bytes(op)) / rates.cached_bytes;
  const double tile = main_loop_cycles(math, port, l2, rates);
  const auto tiles = static_cast<double>(ceil_div(cut(op).tiles, arch.sm_count));
  return {tiles * tile, tiles * tile, tiles * math, tiles * port, tiles * l2};
}

}  // namespace

bool has_plan(const FusedConv1Block& op, const ArchSpec& arch) {
  constexpr int64_t MOST = int64_t{1} << 31;
  const bool dtype = op.dtype == DType::float16 || op.dtype == DType::bfloat16;
  const bool channels = op.K1 == Tile::CHANNELS && op.K2 == Tile::CHANNELS;
  return arch.has(Family::fused_conv1_block) && dtype && channels && op.aligned && op.H >= 2 &&
         op.W >= 2 && int64_t{op.N} * op.H * op.W < MOST - 1024;
}

Plan plan(const FusedConv1Block& op, const ArchSpec& arch) {
  if (!has_plan(op, arch))
    throw std::invalid_argument("fused_conv1_block: no kernel for " + arch.name);
  const Cut cut = vgg::cut(op);
  const int64_t blocks = std::min<int64_t>(cut.tiles, arch.sm_count);
  const int64_t pixels = int64_t{op.N} * op.H * op.W, pooled = op.N * cut.P * cut.Q;
  Plan plan;
  plan.op = "fused_conv1_block";
  plan.arch = arch.name;
  plan.family = Family::fused_conv1_block;
  plan.estimate = estimate(op, arch);
  plan.launches.push_back({std::string("fused_conv1_block_") + short_name(op.dtype),
                           {static_cast<uint32_t>(blocks), 1, 1},
                           {Tile::THREADS, 1, 1},
                           sizeof(sm90::FusedConv1BlockStorage)});
  plan.first_tiling = {pixels, K, GEMM_K1, BETWEEN, K, BLOCK_K1, 1, 1, 1, 0, Walk::rsc};
  plan.tiling = {4 * pooled, K, GEMM_K2, PIXELS, K, K, Tile::CONSUMERS, 1, 9, 0, Walk::csr};
  plan.macs = pixels * K * GEMM_K1 + 4 * pooled * K * GEMM_K2;
  plan.tiles = cut.tiles;
  plan.issued_macs = cut.tiles * K * (BETWEEN * BLOCK_K1 + PIXELS * GEMM_K2);
  const int64_t filters = K * (GEMM_K2 + Tile::WARPS * BLOCK_K1) * size_bytes(op.dtype);
  plan.load_bytes = cut.tiles * image_bytes(op) + blocks * filters;
  plan.store_bytes = pooled * K * size_bytes(op.dtype);
  return plan;
}

void run(const FusedConv1Block& op, const Plan& plan, const FusedConv1BlockArrays& arrays,
         const Normalization& normalization, Executor& executor) {
  const Cut cut = vgg::cut(op);
  const int64_t size = size_bytes(op.dtype), w_stride = packed_columns(Tile::GEMM_K, op.dtype);
  const auto encode = [&](const TensorMap& map) {
    return executor.encode(map, plan.launches[0].kernel);
  };
  FusedConv1BlockParams params{encode(map_of(op.dtype, arrays.w2, {9 * K, K}, {K, K})),
                               encode(map_of(op.dtype, arrays.y, {K, cut.Q, cut.P, op.N},
                                             {K, Tile::POOLED_W, Tile::POOLED_H, 1})),
                               arrays.x,
                               arrays.w1,
                               arrays.bias1,
                               arrays.bias2,
                               op.x_dtype,
                               normalization.reversed,
                               {},
                               {},
                               op.H,
                               op.W,
                               static_cast<int>(cut.tiles),
                               FastDivmod(static_cast<int>(cut.tiles_w)),
                               FastDivmod(static_cast<int>(cut.tiles_h))};
  for (int c = 0; c < 3; ++c) {
    params.scale[c] = normalization.scale[c];
    params.shift[c] = normalization.shift[c];
  }
  const int64_t pixels = int64_t{op.N} * op.H * op.W;
  executor(plan.launches[0], params,
           {{"x", arrays.x, pixels * 3 * size_bytes(op.x_dtype), false},
            {"w1", arrays.w1, K * w_stride * size, false},
            {"bias1", arrays.bias1, K * 4, false},
            {"w2", arrays.w2, 9 * K * K * size, false},
            {"bias2", arrays.bias2, K * 4, false},
            {"out", arrays.y, op.N * cut.P * cut.Q * K * size, true}});
}

}  // namespace vgg
