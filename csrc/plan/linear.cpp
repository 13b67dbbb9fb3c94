// Plans and launches of dense layers.

#include <string>
#include <utility>
#include <vector>

#include "plan/dense.h"
#include "plan/gemm.h"

namespace vgg {

namespace {

GemmProblem problem_of(const Linear& op) {
  const bool chunks = op.aligned && op.C % (16 / size_bytes(op.dtype)) == 0;
  return {
      Operation::linear, op.dtype, op.N, op.K, op.C, chunks ? Rows::dense : Rows::gathered, false};
}

}  // namespace

std::vector<std::string> linear_variants(const Linear& op, const ArchSpec& arch) {
  std::vector<std::string> names = dense_variants(op, arch);
  for (std::string& name : tile_names(problem_of(op), arch)) names.push_back(std::move(name));
  return names;
}

Plan plan(const Linear& op, const ArchSpec& arch, const std::string& variant) {
  check_fits("linear", "N", op.N);
  check_fits("linear", "C", op.C);
  check_fits("linear", "K", op.K);
  if (!variant.empty()) check_variant("linear", linear_variants(op, arch), variant, "");
  const bool dense = variant.empty() ? has_dense(op, arch) : is_dense(variant);
  if (dense) return plan_dense(op, arch, variant);
  return plan_gemm("linear", problem_of(op), op.N, reduce_of(op), arch, variant);
}

void run(const Linear& op, const Plan& plan, const LinearArrays& arrays, Executor& executor) {
  if (plan.family == Family::dense) return run_dense(op, plan, arrays, executor);
  const int64_t size = size_bytes(op.dtype), w_stride = packed_columns(op.C, op.dtype);
  const GemmBuffers buffers{{"x", arrays.x, int64_t{op.N} * op.C * size, false},
                            {"w", arrays.w, op.K * w_stride * size, false},
                            {"bias", arrays.bias, packed_bias(op.K) * 4, false},
                            {"out", arrays.y, int64_t{op.N} * op.K * size, true},
                            arrays.workspace};
  GemmParams params{};
  params.H = params.W = 1, params.C = op.C, params.K = op.K;
  params.w_stride = static_cast<int>(w_stride);
  params.relu = op.relu;
  params.vector_y = op.aligned && op.K % 8 == 0;
  run_gemm(plan, params, buffers, reduce_of(op), executor);
}

}  // namespace vgg
