#include "plan/halo.h"

#include <algorithm>
#include <initializer_list>
#include <iterator>
#include <limits>
#include <string>
#include <vector>

#include "kernels/params.h"
#include "kernels/sm90/halo_tile.h"

namespace vgg {

namespace {

struct Variant {
  const char* name;
  int block_n, m_tiles, pixels, slab_w, slab_h, stages, threads, smem_bytes;
  bool pool;
};

template <int BLOCK_N, int M_TILES, bool POOL>
constexpr Variant variant(const char* name) {
  using Tile = sm90::HaloTile<BLOCK_N, M_TILES, POOL>;
  return {name,
          BLOCK_N,
          M_TILES,
          Tile::PIXELS,
          Tile::SLAB_W,
          Tile::SLAB_H,
          Tile::PIXEL_STAGES,
          Tile::THREADS,
          Tile::BYTES,
          POOL};
}

#define HALO(NAME, BLOCK_N, M_TILES, POOL) variant<BLOCK_N, M_TILES, POOL>(#NAME),
constexpr Variant VARIANTS[] = {
#include "kernels/sm90/halo.def"
};
#undef HALO

constexpr int CONSUMERS = 2, CHANNELS = 64;

// Multiply-adds of an SM in a clock cycle, and how many take as long as writing one result. Rough,
// as in gemm_tiles.cpp.
constexpr double MACS = 4096, EPILOGUE_MACS = 256;

struct Cut {
  int64_t slabs_w, slabs_h, tiles;
};

Cut cut(const Conv3x3& op, const Variant& variant) {
  const int64_t slabs_w = ceil_div(op.W, variant.slab_w), slabs_h = ceil_div(op.H, variant.slab_h);
  const int64_t groups = ceil_div(op.N * slabs_w * slabs_h, CONSUMERS);
  return {slabs_w, slabs_h, groups * (op.K / variant.block_n)};
}

// Boxes of a dense array, 64 channels of a pixel at a time; the contiguous dimension first.
TensorMap map_of(DType dtype, const void* data, std::initializer_list<int64_t> dims,
                 std::initializer_list<int> box) {
  TensorMap map;
  map.type = dtype == DType::float16 ? TensorMap::Type::float16 : TensorMap::Type::bfloat16;
  map.rank = static_cast<int>(dims.size());
  map.address = reinterpret_cast<uint64_t>(data);
  uint64_t stride = static_cast<uint64_t>(size_bytes(dtype));
  for (int i = 0; i < map.rank; ++i) {
    map.dims[i] = static_cast<uint64_t>(dims.begin()[i]);
    map.box[i] = static_cast<uint32_t>(box.begin()[i]);
    map.strides[i] = stride;
    stride *= map.dims[i];
  }
  map.swizzle = TensorMap::Swizzle::bytes128;
  map.promotion = TensorMap::Promotion::bytes256;
  return map;
}

// Cycles of the busiest SM. Narrow tiles read their operands more often than shared memory can.
double estimate(const Conv3x3& op, const Variant& variant, const ArchSpec& arch) {
  const double efficiency = variant.block_n == 256 ? 0.9 : variant.block_n == 128 ? 0.85 : 0.7;
  const double outputs = 1.0 * variant.pixels * variant.block_n;
  const double tile = outputs * (9 * op.C / efficiency + EPILOGUE_MACS) / MACS;
  return tile * static_cast<double>(ceil_div(cut(op, variant).tiles, arch.sm_count));
}

const Variant& choose(const Conv3x3& op, const ArchSpec& arch) {
  const Variant* best = nullptr;
  double least = std::numeric_limits<double>::infinity();
  for (const Variant& variant : VARIANTS) {
    if (variant.pool != op.pool || op.K % variant.block_n != 0) continue;
    const double cycles = estimate(op, variant, arch);
    if (cycles < least) {
      least = cycles;
      best = &variant;
    }
  }
  return *best;
}

}  // namespace

bool has_halo(const Conv3x3& op, const ArchSpec& arch) {
  const bool dtype = op.dtype == DType::float16 || op.dtype == DType::bfloat16;
  return arch.name == "sm_90a" && dtype && op.x_dtype == op.dtype && op.aligned &&
         op.C % CHANNELS == 0 && op.K % CHANNELS == 0;
}

Plan plan_halo(const Conv3x3& op, const ArchSpec& arch) {
  const Variant& variant = choose(op, arch);
  const Cut cut = vgg::cut(op, variant);
  Plan plan;
  plan.op = "conv3x3";
  plan.arch = arch.name;
  const auto blocks = static_cast<uint32_t>(std::min<int64_t>(cut.tiles, arch.sm_count));
  plan.launches.push_back({std::string("conv3x3_") + short_name(op.dtype) + "_" + variant.name,
                           {blocks, 1, 1},
                           {static_cast<uint32_t>(variant.threads), 1, 1},
                           variant.smem_bytes});
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
  return plan;
}

void run_halo(const Conv3x3& op, const Plan& plan, const Conv3x3Arrays& arrays,
              Executor& executor) {
  const Variant& variant = *std::find_if(std::begin(VARIANTS), std::end(VARIANTS), [&](auto& v) {
    return v.block_n == plan.tiling.block_n && v.pool == op.pool;
  });
  const int64_t P = op.pool ? op.H / 2 : op.H, Q = op.pool ? op.W / 2 : op.W;
  const int64_t pixels = int64_t{op.N} * op.H * op.W, out_size = op.N * P * Q * op.K;
  const int64_t size = size_bytes(op.dtype), gemm_k = int64_t{9} * op.C;
  const Cut cut = vgg::cut(op, variant);
  const int piece = op.pool ? 4 : 8;
  const HaloParams params{
      executor.encode(map_of(op.dtype, arrays.x, {op.C, op.W, op.H, op.N},
                             {CHANNELS, variant.slab_w, variant.slab_h + 2, 1})),
      executor.encode(map_of(op.dtype, arrays.w, {gemm_k, op.K}, {CHANNELS, variant.block_n})),
      executor.encode(map_of(op.dtype, arrays.y, {op.K, Q, P, op.N}, {CHANNELS, piece, piece, 1})),
      arrays.bias,
      op.C,
      static_cast<int>(cut.tiles),
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

}  // namespace vgg
