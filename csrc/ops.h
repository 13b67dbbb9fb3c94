// The C++ API. Each operation of a VGG has a description, `plan` (choose the launches for an
// architecture) and `run` (enqueue them).
//
// Arrays are dense, row-major and in channels-last (NHWC) order, of storage(dtype); tf32 is only
// for matrix products. Arithmetic is float32 for all dtypes. Results are rounded to the dtype once,
// factors of tf32 before the multiplication. Callers check shapes and pointers (see bindings/):
// sizes are >= 1, dimensions of matrix products fit an int32.

#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "dtype.h"
#include "launch/executor.h"
#include "plan/arch.h"
#include "plan/plan.h"

namespace vgg {

// y = relu(pool(conv(x, w)) + bias): 3x3, stride 1, padding 1; max-pool 2x2, stride 2.
struct Conv3x3 {
  DType dtype;    // of w, rounded for tf32, and y
  DType x_dtype;  // storage(dtype); if C == 3 also uint8 and float32
  int N, H, W, C, K;
  bool relu, pool;
  bool aligned;  // whether x and y start at a multiple of 16 bytes
};
struct Conv3x3Arrays {
  const void* x;      // [N, H, W, C]
  const void* w;      // [K, packed_columns(9 C)]
  const float* bias;  // [packed_bias(K)]
  void* y;            // [N, H, W, K], or [N, H / 2, W / 2, K] with pool
  void* workspace;    // [workspace_bytes] of the plan; null if that is 0
};
// Normalisation of pixels if x_dtype is not dtype or C == 3: x scale + shift by channel of w.
struct Normalization {
  std::array<float, 3> scale{1, 1, 1}, shift{0, 0, 0};
  bool reversed = false;  // x has the opposite channel order of w
};
// `variant` is one of conv3x3_variants(); empty: the variant with the least estimated time. Throws
// std::invalid_argument with the usable variants if the variant cannot be used.
Plan plan(const Conv3x3& op, const ArchSpec& arch, const std::string& variant = {});
// Returns the usable variants.
std::vector<std::string> conv3x3_variants(const Conv3x3& op, const ArchSpec& arch);
void run(const Conv3x3& op, const Plan& plan, const Conv3x3Arrays& arrays,
         const Normalization& normalization, Executor& executor);

// y = pool(relu(conv(relu(conv(x, w1) + bias1), w2) + bias2)): 3 -> K1 -> K2 channels, both as
// Conv3x3. The tensor in between is rounded to the dtype, and never stored in global memory.
struct FusedConv1Block {
  DType dtype;    // of w1, w2 and y
  DType x_dtype;  // uint8, float32 or dtype
  int N, H, W, K1, K2;
  bool aligned;  // whether y starts at a multiple of 16 bytes
};
struct FusedConv1BlockArrays {
  const void* x;       // [N, H, W, 3]
  const void* w1;      // [K1, packed_columns(27)]
  const float* bias1;  // [packed_bias(K1)]
  const void* w2;      // [K2, packed_columns(9 K1)]
  const float* bias2;  // [packed_bias(K2)]
  void* y;             // [N, H / 2, W / 2, K2]
};
// Whether there is a kernel for the block; if not, run two convolutions.
bool has_plan(const FusedConv1Block& op, const ArchSpec& arch);
Plan plan(const FusedConv1Block& op, const ArchSpec& arch);
void run(const FusedConv1Block& op, const Plan& plan, const FusedConv1BlockArrays& arrays,
         const Normalization& normalization, Executor& executor);

// y = relu(x w^T + bias)
struct Linear {
  DType dtype;
  int N, C, K;
  bool relu;
  bool aligned;
};
struct LinearArrays {
  const void* x;      // [N, C]
  const void* w;      // [K, packed_columns(C)]
  const float* bias;  // [packed_bias(K)]
  void* y;            // [N, K]
  void* workspace;
};
// Throws and chooses like the functions of Conv3x3; `variant` is one of linear_variants().
Plan plan(const Linear& op, const ArchSpec& arch, const std::string& variant = {});
std::vector<std::string> linear_variants(const Linear& op, const ArchSpec& arch);
void run(const Linear& op, const Plan& plan, const LinearArrays& arrays, Executor& executor);

// Packed weights: zeros extend rows of GEMM_K columns to a multiple of 16 bytes, and the bias to a
// multiple of 8 channels.
constexpr int64_t packed_columns(int64_t gemm_k, DType dtype) {
  return round_up(gemm_k, 16 / size_bytes(dtype));
}
constexpr int64_t packed_bias(int64_t K) { return round_up(K, 8); }

// Maximum over windows of 2x2, stride 2, no padding. NaN propagates.
struct MaxPool2x2 {
  DType dtype;
  int N, H, W, C;
  bool aligned;
};
Plan plan(const MaxPool2x2& op, const ArchSpec& arch);
void run(const MaxPool2x2& op, const Plan& plan, const void* x, void* y, Executor& executor);

// Adaptive average: bin i of an axis covers [floor(i H / grid), ceil((i + 1) H / grid)).
struct AvgPool {
  DType dtype;
  int N, H, W, C, grid;
  bool aligned;
};
Plan plan(const AvgPool& op, const ArchSpec& arch);
void run(const AvgPool& op, const Plan& plan, const void* x, void* y, Executor& executor);

// Adaptive maximum over the bins of AvgPool. NaN propagates.
struct AdaptiveMaxPool {
  DType dtype;
  int N, H, W, C, grid;
  bool aligned;
};
Plan plan(const AdaptiveMaxPool& op, const ArchSpec& arch);
void run(const AdaptiveMaxPool& op, const Plan& plan, const void* x, void* y, Executor& executor);

// y = exp(x - max(x)) / sum(exp(x - max(x))) along each row of [rows, n]; y may be x.
struct Softmax {
  DType dtype;
  int rows, n;
  bool aligned;
};
Plan plan(const Softmax& op, const ArchSpec& arch);
void run(const Softmax& op, const Plan& plan, const void* x, void* y, Executor& executor);

// y = max(x, 0), elementwise. NaN propagates; y may be x.
struct Relu {
  DType dtype;
  int64_t size;
  bool aligned;
};
Plan plan(const Relu& op, const ArchSpec& arch);
void run(const Relu& op, const Plan& plan, const void* x, void* y, Executor& executor);

// y = x scale + shift by channel, one rounding after the product and the sum. y may be x.
struct Affine {
  DType dtype;
  int64_t pixels;  // N H W
  int C;
  bool aligned;
};
struct AffineArrays {
  const void* x;       // [pixels, C]
  const float* scale;  // [packed_bias(C)]
  const float* shift;  // [packed_bias(C)]
  void* y;             // [pixels, C]
};
Plan plan(const Affine& op, const ArchSpec& arch);
void run(const Affine& op, const Plan& plan, const AffineArrays& arrays, Executor& executor);

// y[n, j, i] = x[n, i, j] in another dtype: NCHW <-> NHWC (rows and columns are C and H W). If
// rows == 1, only the dtype changes. x may be uint8; y has a floating dtype.
struct Convert {
  DType x_dtype, dtype;
  int64_t N;
  int rows, columns;
};
Plan plan(const Convert& op, const ArchSpec& arch);
void run(const Convert& op, const Plan& plan, const void* x, void* y, Executor& executor);

}  // namespace vgg
