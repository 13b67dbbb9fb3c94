// Matrix products by kernels/sm80/gemm.cuh, as convolutions and dense layers use them.

#pragma once

#include <string>
#include <vector>

#include "kernels/params.h"
#include "ops.h"
#include "plan/gemm_tiles.h"
#include "plan/reduce.h"

namespace vgg {

// Throws std::invalid_argument unless `size` fits an int32, with room for a tile.
void check_fits(const char* op, const char* what, int64_t size);
uint32_t checked_blocks(const char* op, int64_t count);

// Throws std::invalid_argument with the usable `names` unless `variant` is one. `need`: what the
// variant needs and the operation lacks; empty if that is unknown.
void check_variant(const char* op, const std::vector<std::string>& names,
                   const std::string& variant, const std::string& need);

// "conv3x3_f16_m128n128"
std::string kernel_entry(const char* op, DType dtype, const std::string& variant);

// `pooled_m` is GEMM_M if the chosen tile pools: odd last rows and columns are left out. `variant`
// is the name of a tile, or empty.
Plan plan_gemm(const char* op, const GemmProblem& problem, int64_t pooled_m, const Reduce& reduce,
               const ArchSpec& arch, const std::string& variant);

struct GemmBuffers {
  Buffer x, w, bias, out;
  void* workspace;
};

// Runs the launches. `params` has the sizes of the operation; arrays and tiles are filled in here.
void run_gemm(const Plan& plan, GemmParams params, const GemmBuffers& buffers, const Reduce& reduce,
              Executor& executor);

}  // namespace vgg
