#include "plan/reduce.h"

#include <stdexcept>
#include <string>

#include "kernels/params.h"

namespace vgg {

namespace {

// Channels that a thread computes.
int width(const Reduce& op) { return op.aligned && op.K % 4 == 0 ? 4 : 1; }

}  // namespace

Reduce reduce_of(const Conv3x3& op) {
  const int64_t rows =
      op.pool ? int64_t{op.N} * (op.H / 2) * (op.W / 2) : int64_t{op.N} * op.H * op.W;
  return {storage(op.dtype), rows * op.K, op.H, op.W, op.K, op.relu, op.pool, op.aligned};
}

Reduce reduce_of(const Linear& op) {
  return {storage(op.dtype), int64_t{op.N} * op.K, 1, 1, op.K, op.relu, false, op.aligned};
}

void plan_reduce(const Reduce& op, Plan& plan) {
  const Tiling& tiling = plan.tiling;
  plan.workspace_bytes =
      tiling.split_k * tiling.gemm_m * tiling.gemm_n * static_cast<int64_t>(sizeof(float));
  plan.load_bytes += plan.workspace_bytes;
  plan.store_bytes += plan.workspace_bytes;
  Launch launch;
  launch.kernel = std::string("reduce_") + short_name(op.dtype) + "_v" + std::to_string(width(op));
  launch.grid.x =
      static_cast<uint32_t>(ceil_div(op.size / width(op), int64_t{ReduceParams::THREADS}));
  launch.block.x = ReduceParams::THREADS;
  plan.launches.push_back(launch);
}

void run_reduce(const Reduce& op, const Plan& plan, const void* workspace, const float* bias,
                void* y, Executor& executor) {
  const ReduceParams params{static_cast<const float*>(workspace),
                            bias,
                            y,
                            plan.tiling.gemm_m * plan.tiling.gemm_n,
                            static_cast<int>(op.size / width(op)),
                            plan.tiling.split_k,
                            op.H,
                            op.W,
                            op.K,
                            op.relu,
                            op.pool,
                            FastDivmod(op.K / width(op)),
                            FastDivmod(op.pool ? op.H / 2 : 1),
                            FastDivmod(op.pool ? op.W / 2 : 1)};
  executor(plan.launches[1], params,
           {{"workspace", workspace, plan.workspace_bytes, false},
            {"bias", bias, packed_bias(op.K) * 4, false},
            {"out", y, op.size * size_bytes(op.dtype), true}});
}

}  // namespace vgg
