// Plans and launches of softmax, relu, affine and convert: one kernel of kernels/smxx/ each.

#include <stdexcept>
#include <string>
#include <vector>

#include "ops.h"
#include "plan/one_launch.h"

namespace vgg {

namespace {

constexpr int LOG2_SQUARE_TILE = 5;
constexpr int SHORT_ROW = 256;  // most elements of a softmax for which one warp is enough

// Tiles of convert: square, or as narrow as x.
struct Tiles {
  int log2_rows;
  int64_t along_rows, along_columns;
};
Tiles tiles_of(const Convert& op) {
  int log2_narrow = 1;
  while (log2_narrow < LOG2_SQUARE_TILE && (1 << log2_narrow) < op.rows &&
         (1 << log2_narrow) < op.columns) {
    ++log2_narrow;
  }
  const int log2_wide = ConvertParams::LOG2_TILE - log2_narrow;
  const int log2_rows = op.rows <= op.columns ? log2_narrow : log2_wide;
  return {log2_rows, ceil_div(op.rows, int64_t{1} << log2_rows),
          ceil_div(op.columns, int64_t{1} << (ConvertParams::LOG2_TILE - log2_rows))};
}

// Transposing a matrix of one row or one column does not change the order of its elements.
bool is_cast(const Convert& op) { return op.rows == 1 || op.columns == 1; }

}  // namespace

// ---- Softmax ----

Plan plan(const Softmax& op, const ArchSpec& arch) {
  const int threads = op.n <= SHORT_ROW ? 32 : 256;
  const std::string kernel =
      kernel_name("softmax", op.dtype, pack_size(op.dtype, op.n, op.aligned)) + "_t" +
      std::to_string(threads);
  const int64_t bytes = size_bytes(op.dtype) * op.rows * op.n;
  return one_launch("softmax", arch, kernel, op.rows, threads, bytes, bytes);
}

void run(const Softmax& op, const Plan& plan, const void* x, void* y, Executor& executor) {
  SoftmaxParams p{};
  p.x = x;
  p.y = y;
  p.n = op.n;
  const int64_t bytes = size_bytes(op.dtype) * op.rows * op.n;
  executor(plan.launches[0], p, {{"x", x, bytes, false}, {"y", y, bytes, true}});
}

// ---- ReLU ----

Plan plan(const Relu& op, const ArchSpec& arch) {
  const int size = pack_size(op.dtype, op.size, op.aligned);
  const int64_t per_block = int64_t{ReluParams::THREADS} * ReluParams::PACKS * size;
  checked_product("relu", {{"size", op.size}}, MAX_INT * per_block, "blocks in a grid");
  const int64_t bytes = size_bytes(op.dtype) * op.size;
  return one_launch("relu", arch, kernel_name("relu", op.dtype, size), ceil_div(op.size, per_block),
                    ReluParams::THREADS, bytes, bytes);
}

void run(const Relu& op, const Plan& plan, const void* x, void* y, Executor& executor) {
  ReluParams p{};
  p.x = x;
  p.y = y;
  p.size = op.size;
  const int64_t bytes = size_bytes(op.dtype) * op.size;
  executor(plan.launches[0], p, {{"x", x, bytes, false}, {"y", y, bytes, true}});
}

// ---- Scale and shift per channel ----

namespace {

struct Packs {
  int size;  // channels in a pack
  int64_t count;
};
Packs packs_of(const Affine& op) {
  const int size = pack_size(op.dtype, op.C, op.aligned);
  // a thread's index of a pack that is beyond the last one is below 2^31, too
  constexpr int64_t PER_BLOCK = int64_t{AffineParams::THREADS} * AffineParams::PACKS;
  return {size, checked_product("affine", {{"N*H*W", op.pixels}, {"C/pack", op.C / size}},
                                MAX_INT - PER_BLOCK, "packs are counted in int32")};
}

}  // namespace

Plan plan(const Affine& op, const ArchSpec& arch) {
  const Packs packs = packs_of(op);
  constexpr int64_t PER_BLOCK = int64_t{AffineParams::THREADS} * AffineParams::PACKS;
  const int64_t bytes = size_bytes(op.dtype) * op.pixels * op.C;
  return one_launch("affine", arch, kernel_name("affine", op.dtype, packs.size),
                    ceil_div(packs.count, PER_BLOCK), AffineParams::THREADS, bytes, bytes);
}

void run(const Affine& op, const Plan& plan, const AffineArrays& arrays, Executor& executor) {
  const Packs packs = packs_of(op);
  AffineParams p{};
  p.x = arrays.x;
  p.scale = arrays.scale;
  p.shift = arrays.shift;
  p.y = arrays.y;
  p.packs = static_cast<int>(packs.count);
  p.pixel_packs = divmod(op.C / packs.size);
  const int64_t bytes = size_bytes(op.dtype) * op.pixels * op.C;
  const int64_t of_channels = int64_t{sizeof(float)} * packed_bias(op.C);
  executor(plan.launches[0], p,
           {{"x", arrays.x, bytes, false},
            {"scale", arrays.scale, of_channels, false},
            {"shift", arrays.shift, of_channels, false},
            {"y", arrays.y, bytes, true}});
}

// ---- Conversion of layout and dtype ----

Plan plan(const Convert& op, const ArchSpec& arch) {
  if (op.dtype == DType::uint8) {
    throw std::invalid_argument("convert: expected a floating dtype to convert to, got uint8");
  }
  const std::string dtypes = std::string("_") + short_name(op.x_dtype) + "_" + short_name(op.dtype);
  if (is_cast(op)) {
    constexpr int64_t PER_BLOCK = int64_t{CastParams::THREADS} * CastParams::ITEMS;
    const int64_t size =
        checked_product("convert", {{"N", op.N}, {"rows", op.rows}, {"columns", op.columns}},
                        MAX_INT * PER_BLOCK, "blocks in a grid");
    return one_launch("convert", arch, "cast" + dtypes, ceil_div(size, PER_BLOCK),
                      CastParams::THREADS, size_bytes(op.x_dtype) * size,
                      size_bytes(op.dtype) * size);
  }
  const Tiles tiles = tiles_of(op);
  const int64_t blocks = checked_product("convert",
                                         {{"N", op.N},
                                          {"ceil(rows/tile)", tiles.along_rows},
                                          {"ceil(columns/tile)", tiles.along_columns}},
                                         MAX_INT, "blocks in a grid");
  const int64_t size = op.N * op.rows * op.columns;
  return one_launch("convert", arch, "convert" + dtypes, blocks, ConvertParams::THREADS,
                    size_bytes(op.x_dtype) * size, size_bytes(op.dtype) * size);
}

void run(const Convert& op, const Plan& plan, const void* x, void* y, Executor& executor) {
  const int64_t size = op.N * op.rows * op.columns;
  const Buffer from{"x", x, size_bytes(op.x_dtype) * size, false};
  const Buffer to{"y", y, size_bytes(op.dtype) * size, true};
  if (is_cast(op)) {
    CastParams p{};
    p.x = x;
    p.y = y;
    p.size = size;
    executor(plan.launches[0], p, {from, to});
    return;
  }
  const Tiles tiles = tiles_of(op);
  ConvertParams p{};
  p.x = x;
  p.y = y;
  p.rows = op.rows;
  p.columns = op.columns;
  p.log2_tile_rows = tiles.log2_rows;
  p.row_tiles = divmod(tiles.along_rows);
  p.column_tiles = divmod(tiles.along_columns);
  executor(plan.launches[0], p, {from, to});
}

}  // namespace vgg
