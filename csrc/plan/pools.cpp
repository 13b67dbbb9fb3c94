// Plans and launches of the poolings: one kernel of kernels/smxx/ each.

#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "ops.h"
#include "plan/one_launch.h"

namespace vgg {

namespace {

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

}  // namespace vgg
