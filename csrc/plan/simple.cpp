// Plans and launches of the operations that are no matrix products: one kernel of kernels/smxx/
// each, in a one-dimensional grid.

#include <limits>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "kernels/params.h"
#include "ops.h"

namespace vgg {

namespace {

constexpr int64_t MAX_INT = std::numeric_limits<int32_t>::max();  // also the most blocks in a grid
constexpr int LOG2_SQUARE_TILE = 5;
constexpr int SHORT_ROW = 256;  // most elements of a softmax for which one warp is enough

// A factor of a product, and its name in messages.
struct Factor {
  std::string name;
  int64_t value;
};

// Returns the product. Throws std::invalid_argument with the reason `why` if it exceeds `limit`.
int64_t checked_product(const char* op, const std::vector<Factor>& factors, int64_t limit,
                        const char* why) {
  int64_t product = 1;
  bool fits = true;
  for (const Factor& factor : factors) {
    fits = fits && product <= limit / factor.value;
    if (fits) product *= factor.value;
  }
  if (fits) return product;
  std::string expression, values;
  for (const Factor& factor : factors) {
    expression += (expression.empty() ? "" : "*") + factor.name;
    values += (values.empty() ? "" : ", ") + factor.name + " = " + std::to_string(factor.value);
  }
  throw std::invalid_argument(std::string(op) + ": expected " + expression +
                              " <= " + std::to_string(limit) + " (" + why + "), got " + values);
}

// Plans one launch that reads x and writes y once.
Plan one_launch(const char* op, const ArchSpec& arch, std::string kernel, int64_t blocks,
                int threads, int64_t x_bytes, int64_t y_bytes) {
  Plan plan;
  plan.op = op;
  plan.arch = arch.name;
  plan.tiles = blocks;
  plan.load_bytes = x_bytes;
  plan.store_bytes = y_bytes;
  Launch launch;
  launch.kernel = std::move(kernel);
  launch.grid.x = static_cast<uint32_t>(blocks);
  launch.block.x = static_cast<uint32_t>(threads);
  plan.launches.push_back(std::move(launch));
  return plan;
}

// Elements per access of a kernel: 16 bytes if rows of `length` elements allow it.
int pack_size(DType dtype, int64_t length, bool aligned) {
  const int vector = static_cast<int>(16 / size_bytes(dtype));
  return aligned && length % vector == 0 ? vector : 1;
}

// "maxpool2x2_f16_v8"
std::string kernel_name(const char* op, DType dtype, int size) {
  return std::string(op) + "_" + short_name(dtype) + "_v" + std::to_string(size);
}

// Pooling has one thread for each pack of `size` channels in y, N x P x Q x C.
struct Packs {
  int size;
  int64_t count;
};
Packs packs_of(const char* op, DType dtype, bool aligned, std::vector<Factor> y) {
  Factor& C = y.back();
  const int size = pack_size(dtype, C.value, aligned);
  if (size > 1) C = {"C//" + std::to_string(size), C.value / size};
  return {size, checked_product(op, y, MAX_INT, "one thread each")};
}
Packs packs_of(const MaxPool2x2& op) {
  return packs_of("maxpool2x2", op.dtype, op.aligned,
                  {{"N", op.N}, {"H//2", op.H / 2}, {"W//2", op.W / 2}, {"C", op.C}});
}
// For AvgPool and AdaptiveMaxPool.
template <class Op>
Packs packs_of(const char* name, const Op& op) {
  return packs_of(name, op.dtype, op.aligned,
                  {{"N", op.N}, {"grid", op.grid}, {"grid", op.grid}, {"C", op.C}});
}

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

FastDivmod divmod(int64_t divisor) { return FastDivmod(static_cast<int>(divisor)); }

}  // namespace

// ---- Max-pooling ----

Plan plan(const MaxPool2x2& op, const ArchSpec& arch) {
  if (op.H < 2 || op.W < 2) {
    throw std::invalid_argument("maxpool2x2: expected H and W of at least 2, got H = " +
                                std::to_string(op.H) + ", W = " + std::to_string(op.W));
  }
  const Packs packs = packs_of(op);
  return one_launch("maxpool2x2", arch, kernel_name("maxpool2x2", op.dtype, packs.size),
                    ceil_div(packs.count, MaxPool2x2Params::THREADS), MaxPool2x2Params::THREADS,
                    size_bytes(op.dtype) * op.N * op.H * op.W * op.C,
                    size_bytes(op.dtype) * packs.count * packs.size);
}

void run(const MaxPool2x2& op, const Plan& plan, const void* x, void* y, Executor& executor) {
  const Packs packs = packs_of(op);
  MaxPool2x2Params p{};
  p.x = x;
  p.y = y;
  p.H = op.H;
  p.W = op.W;
  p.C = op.C;
  p.packs = static_cast<int>(packs.count);
  p.pixel_packs = divmod(op.C / packs.size);
  p.P = divmod(op.H / 2);
  p.Q = divmod(op.W / 2);
  const int64_t x_bytes = size_bytes(op.dtype) * op.N * op.H * op.W * op.C;
  const int64_t y_bytes = size_bytes(op.dtype) * packs.count * packs.size;
  executor(plan.launches[0], p, {{"x", x, x_bytes, false}, {"y", y, y_bytes, true}});
}

// ---- Adaptive pooling ----

namespace {

template <class Op>
Plan plan_bins(const char* name, const Op& op, const ArchSpec& arch) {
  checked_product(name, {{"grid", op.grid}, {"H", op.H}}, MAX_INT, "bounds of bins are int32");
  checked_product(name, {{"grid", op.grid}, {"W", op.W}}, MAX_INT, "bounds of bins are int32");
  const Packs packs = packs_of(name, op);
  return one_launch(name, arch, kernel_name(name, op.dtype, packs.size),
                    ceil_div(packs.count, AdaptivePoolParams::THREADS), AdaptivePoolParams::THREADS,
                    size_bytes(op.dtype) * op.N * op.H * op.W * op.C,
                    size_bytes(op.dtype) * packs.count * packs.size);
}

template <class Op>
void run_bins(const char* name, const Op& op, const Plan& plan, const void* x, void* y,
              Executor& executor) {
  const Packs packs = packs_of(name, op);
  AdaptivePoolParams p{};
  p.x = x;
  p.y = y;
  p.H = op.H;
  p.W = op.W;
  p.C = op.C;
  p.packs = static_cast<int>(packs.count);
  p.pixel_packs = divmod(op.C / packs.size);
  p.grid = divmod(op.grid);
  const int64_t x_bytes = size_bytes(op.dtype) * op.N * op.H * op.W * op.C;
  const int64_t y_bytes = size_bytes(op.dtype) * packs.count * packs.size;
  executor(plan.launches[0], p, {{"x", x, x_bytes, false}, {"y", y, y_bytes, true}});
}

}  // namespace

Plan plan(const AvgPool& op, const ArchSpec& arch) { return plan_bins("avgpool", op, arch); }

void run(const AvgPool& op, const Plan& plan, const void* x, void* y, Executor& executor) {
  run_bins("avgpool", op, plan, x, y, executor);
}

Plan plan(const AdaptiveMaxPool& op, const ArchSpec& arch) {
  return plan_bins("adaptive_maxpool", op, arch);
}

void run(const AdaptiveMaxPool& op, const Plan& plan, const void* x, void* y, Executor& executor) {
  run_bins("adaptive_maxpool", op, plan, x, y, executor);
}

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
