// Parameters of the kernels: one plain struct each, with the shape behind every pointer.

#pragma once

#include <cstdint>

#include "dtype.h"

namespace vgg {

// Division of 0 <= n < 2^31 by a divisor that is known on the host: a multiplication and a shift.
// Warren, Hacker's Delight, 10-9.
struct FastDivmod {
  uint32_t divisor = 1, multiplier = 0, shift = 0;

  FastDivmod() = default;
  explicit FastDivmod(int d) : divisor(static_cast<uint32_t>(d)) {
    if (d == 1) return;  // a special case of divide()
    uint32_t log2 = 0;
    while ((uint64_t{1} << log2) < divisor) ++log2;
    const uint64_t power = uint64_t{1} << (31 + log2);
    multiplier = static_cast<uint32_t>((power + divisor - 1) / divisor);
    shift = log2 - 1;
  }
};

// y[m, n] = relu(sum over k of x'[m, k] w[n, k] + bias[n]), where x' is x or its im2col form.
struct GemmParams {
  const void* x;      // conv3x3: [N, H, W, C]; linear: [N, C]
  const void* w;      // [K, w_stride]; columns beyond GEMM_K are zeros
  const float* bias;  // [K, rounded up to 8]
  void* y;            // [GEMM_M, K], with pool [GEMM_M / 4, K]
  float* partial;     // [split_k, GEMM_M, K], written instead of y; or null
  int H, W, C, K;
  int gemm_m;    // with pool: 4 N P Q, the four pixels of a window are neighbours
  int gemm_k;    // 9 C or C
  int w_stride;  // elements, a multiple of 16 bytes
  int steps;     // of BLOCK_K columns, per split
  int relu;
  int vector_y;         // whether y may be written in 16-byte accesses
  FastDivmod n_tiles;   // along GEMM_N
  FastDivmod P, Q;      // pixels (with pool: windows) along H and W
  FastDivmod channels;  // C, for rows that are gathered element by element
};

// The first convolution: three channels, read from unnormalised images.
struct FirstParams {
  const void* x;             // [N, H, W, 3], x_dtype
  const void* w;             // [K, w_stride]: 27 columns, then zeros
  const float* bias;         // [K, rounded up to 8]
  void* y;                   // [N, P, Q, K]
  DType x_dtype;             // uint8, float32 or the dtype of y
  int reversed;              // whether x has the opposite channel order of w (RGB, BGR)
  float scale[3], shift[3];  // x' = x scale + shift by channel of w, before padding with zeros
  int H, W, K;
  int gemm_m;
  int w_stride;
  int relu;
  int vector_y;
  FastDivmod n_tiles, P, Q;
};

// A tensor map that an executor has encoded; see launch/tensor_map.h.
struct alignas(64) TensorMapBytes {
  unsigned char bytes[128];
};

// A convolution of sm_90a whose pixels and filters are copied by TMA; see sm90/persistent_conv.cuh.
struct ConvParams {
  // halo.cuh: [N, H, W, C], boxes of [TILE_H + 2, 8, 64].
  // swap_ab.cuh: [H, W, N, C] by strides, boxes of [4, 16, 8, 64] or [1, 30, 8, 64].
  TensorMapBytes x;
  TensorMapBytes w;  // [K, 9 C], boxes of [BLOCK_N / CLUSTER, 64]
  // halo.cuh: [N, P, Q, K], boxes of [8, 8, 64], with pool [4, 4, 64].
  // swap_ab.cuh: [P, Q, N, K] by strides, boxes of [1, 7, 8, 64].
  TensorMapBytes y;
  const float* bias;  // [K]
  float* partial;     // [split_k, N, H, W, K], written instead of y; or null
  int N, H, W, C, K;
  int split_channels;  // of each split, a multiple of 64; the last split may have fewer
  int units;           // of BLOCK_N channels by the tiles of all blocks of a cluster
  int relu;
  FastDivmod n_tiles;           // along K
  FastDivmod tiles_w, tiles_h;  // that cover an image
};

// A dense layer of sm_90a whose images and weights are copied by TMA; see sm90/dense.cuh.
struct DenseParams {
  static constexpr int MAX_SPLITS = 8;  // blocks per cluster on every GPU with clusters

  TensorMapBytes x;   // [N, C], boxes of [BLOCK_M, 64]
  TensorMapBytes w;   // [K, C], boxes of [128, 64]
  const float* bias;  // [K, rounded up to 8]
  void* y;            // [N, K]
  int N, K;
  int steps, all_steps;  // of 64 columns: in a split, and in C
  int relu;
  FastDivmod image_tiles;
};

// The first two convolutions and the pool after them; see sm90/fused_conv1_block.cuh.
struct FusedConv1BlockParams {
  TensorMapBytes w2;         // [64, 9 * 64], boxes of [64, 64]
  TensorMapBytes y;          // [N, P, Q, 64], boxes of [7, 8, 64]
  const void* x;             // [N, H, W, 3], x_dtype
  const void* w1;            // [64, 32]: 27 columns, then zeros
  const float* bias1;        // [64]
  const float* bias2;        // [64]
  DType x_dtype;             // uint8, float32 or the dtype of y
  int reversed;              // as in FirstParams
  float scale[3], shift[3];  // as in FirstParams
  int H, W;
  int tiles;
  FastDivmod tiles_w, tiles_h;  // that cover an image
};

// y = relu(pool(sum over s of partial[s]) + bias)
struct ReduceParams {
  static constexpr int THREADS = 256;

  const float* partial;  // [split_k, rows, K]
  const float* bias;     // [K, rounded up to 8]
  void* y;               // [rows, K], with pool [N, P, Q, K]
  int64_t size;          // of one split: rows * K
  int packs;             // in y, of the channels that a thread computes
  int split_k, H, W, K;
  int relu, pool;
  FastDivmod row_packs;  // packs in a row of y
  FastDivmod P, Q;       // H / 2, W / 2
};

// THREADS is the number of threads in a block.

struct MaxPool2x2Params {
  static constexpr int THREADS = 256;
  const void* x;  // [N, H, W, C]
  void* y;        // [N, H / 2, W / 2, C]
  int H, W, C;
  int packs;               // of SIZE channels in y; below 2^31
  FastDivmod pixel_packs;  // C / SIZE
  FastDivmod P, Q;         // H / 2, W / 2
};

// Parameters of avgpool and adaptive_maxpool.
struct AdaptivePoolParams {
  static constexpr int THREADS = 128;
  const void* x;  // [N, H, W, C]
  void* y;        // [N, grid, grid, C]
  int H, W, C;
  int packs;               // of SIZE channels in y; below 2^31
  FastDivmod pixel_packs;  // C / SIZE
  FastDivmod grid;         // grid H and grid W are below 2^31
};

struct SoftmaxParams {
  const void* x;  // [rows, n]
  void* y;        // [rows, n]; may be x
  int n;
};

struct ReluParams {
  static constexpr int THREADS = 256;
  static constexpr int PACKS = 4;  // per thread
  const void* x;                   // [size]
  void* y;                         // [size]; may be x
  int64_t size;
};

// y[m, c] = x[m, c] scale[c] + shift[c]
struct AffineParams {
  static constexpr int THREADS = 256;
  static constexpr int PACKS = 4;  // per thread
  const void* x;                   // [pixels, C]
  const float* scale;              // [C, rounded up to 8]
  const float* shift;              // [C, rounded up to 8]
  void* y;                         // [pixels, C]; may be x
  int packs;                       // of SIZE channels in y; below 2^31
  FastDivmod pixel_packs;          // C / SIZE
};

// y[n, j, i] = x[n, i, j], in the dtype of y
struct ConvertParams {
  static constexpr int THREADS = 256;
  static constexpr int LOG2_TILE = 10, TILE = 1 << LOG2_TILE;  // elements per block
  const void* x;                                               // [N, rows, columns]
  void* y;                                                     // [N, columns, rows]
  int rows, columns;
  int log2_tile_rows;                  // a tile is [2^log2_tile_rows, TILE / 2^log2_tile_rows]
  FastDivmod row_tiles, column_tiles;  // that cover x's last two axes
};

// y = x, in the dtype of y
struct CastParams {
  static constexpr int THREADS = 256;
  static constexpr int ITEMS = 4;  // elements per thread
  const void* x;                   // [size]
  void* y;                         // [size]
  int64_t size;
};

}  // namespace vgg
