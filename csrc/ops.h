// The C++ API: one function per operation of a VGG, on arrays in GPU memory.
//
// An operation is described by a plain struct, which is also what its kernel receives: every
// pointer has its shape behind it. Arrays are dense, row-major and in channels-last (NHWC) order.
// Arithmetic is float32 whatever the dtype; results are rounded to the dtype once.
//
// Callers have checked shapes (see bindings.cpp): sizes are >= 1 but for N, and GEMM dimensions
// fit an int32. Functions enqueue on `stream` of the current device and return at once; they
// throw CudaError where a launch fails.

#pragma once

#include <cstdint>
#include <stdexcept>

struct CUstream_st;

namespace vgg {

using Stream = CUstream_st*;  // cudaStream_t, without a CUDA header

enum class DType { float32, float16, bfloat16 };

struct CudaError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// y = relu(pool(conv(x, w)) + bias): 3x3, stride 1, padding 1; max-pool 2x2, stride 2.
struct Conv3x3 {
  DType dtype;
  const void* x;      // [N, H, W, C]
  const void* w;      // [K, 3, 3, C]
  const float* bias;  // [K]
  void* y;            // [N, H, W, K], or [N, H / 2, W / 2, K] with pool
  int N, H, W, C, K;
  bool relu, pool;
};
void conv3x3(const Conv3x3& op, Stream stream);

// y = relu(x w^T + bias)
struct Linear {
  DType dtype;
  const void* x;      // [N, C]
  const void* w;      // [K, C]
  const float* bias;  // [K]
  void* y;            // [N, K]
  int N, C, K;
  bool relu;
};
void linear(const Linear& op, Stream stream);

// Maximum over windows of 2x2, stride 2, no padding. NaN propagates.
struct MaxPool2x2 {
  DType dtype;
  const void* x;  // [N, H, W, C]
  void* y;        // [N, H / 2, W / 2, C]
  int N, H, W, C;
};
void maxpool2x2(const MaxPool2x2& op, Stream stream);

// Adaptive average: bin i of an axis covers [floor(i H / grid), ceil((i + 1) H / grid)).
struct AvgPool {
  DType dtype;
  const void* x;  // [N, H, W, C]
  void* y;        // [N, grid, grid, C]
  int N, H, W, C, grid;
};
void avgpool(const AvgPool& op, Stream stream);

// y = exp(x - max(x)) / sum(exp(x - max(x))) along each row; y may be x.
struct Softmax {
  DType dtype;
  const void* x;  // [rows, n]
  void* y;        // [rows, n]
  int rows, n;
};
void softmax(const Softmax& op, Stream stream);

// y = max(x, 0), elementwise; NaN propagates; y may be x.
struct Relu {
  DType dtype;
  const void* x;  // [size]
  void* y;        // [size]
  int64_t size;
};
void relu(const Relu& op, Stream stream);

}  // namespace vgg
