// One tile of a matrix product on CUDA cores: float32 FFMA, float32 accumulators.
//
//     acc[BLOCK_M, BLOCK_N] = A[GEMM_M, GEMM_K] B[GEMM_N, GEMM_K]^T
//
// A block of 256 threads computes 64 x 64; a thread 4 neighbouring rows x 4 neighbouring columns.
// All threads load: a thread fetches 16 bytes of one row of A and of one row of B per step of
// BLOCK_K, into registers, while the previous step is multiplied from shared memory; the tiles
// there are float32 and K-major, in two stages. Loop invariant: on entry to step k, stage
// k % 2 holds columns [k BLOCK_K, (k + 1) BLOCK_K) of both tiles, and acc the product of all
// columns before them.
//
// The rows of A and B are read through a Row, which finds the elements: it has TAPS segments of
// `length` elements; `segment(tap)` is where one starts, unless `is_zero(tap)`. A dense row is one
// segment; an im2col row is nine, one for each pixel under the filter.

#pragma once

#include "launch.cuh"

namespace vgg::smxx {

constexpr int BLOCK_M = 64, BLOCK_N = 64, GEMM_THREADS = 256;
constexpr int THREAD_M = 4, THREAD_N = 4;

// Columns per step: four threads share a row, each takes one 16-byte vector of it.
template <class T>
constexpr int BLOCK_K = 4 * VECTOR<T>;

// Keeps the transposing stores free of bank conflicts: the four threads that store columns of
// the same row would otherwise hit the same bank.
template <class T>
__device__ constexpr int swizzle(int k, int m) {
  return m ^ (k / VECTOR<T> * 8);
}

template <class T>
struct GemmSmem {
  float a[2][BLOCK_K<T>][BLOCK_M];  // column m of row k at swizzle(k, m)
  float b[2][BLOCK_K<T>][BLOCK_N];
};

template <class T>
struct DenseRow {
  static constexpr int TAPS = 1;
  const T* row;  // [length]
  int length;
  bool inside;  // the matrix

  __device__ bool is_zero(int) const { return !inside; }
  __device__ const T* segment(int) const { return row; }
};

template <class T>
__device__ DenseRow<T> dense_row(const void* matrix /* [rows, length] */, int row, int rows,
                                 int length) {
  const T* first = static_cast<const T*>(matrix) + static_cast<int64_t>(row) * length;
  return {first, length, row < rows};
}

// Reads along one row, BLOCK_K columns further at each step.
template <class T, bool ALIGNED, class Row>
class RowReader {
 public:
  using Frag = Pack<T, VECTOR<T>>;

  __device__ RowReader(const Row& row, int column) : row_(row), tap_(0), at_(column) { wrap(); }

  // The next vector of this thread, zeros beyond the row's end.
  __device__ Frag next() {
    Frag frag;
    if constexpr (ALIGNED) {  // length % VECTOR == 0: a vector never crosses a segment's end
      frag = read<VECTOR<T>>();
      at_ += BLOCK_K<T>;
    } else {
#pragma unroll
      for (int i = 0; i < VECTOR<T>; ++i) {
        frag.e[i] = read<1>().e[0];
        ++at_;
        wrap();
      }
      at_ += BLOCK_K<T> - VECTOR<T>;
    }
    wrap();
    return frag;
  }

 private:
  template <int SIZE>
  __device__ Pack<T, SIZE> read() const {
    if (tap_ < Row::TAPS && !row_.is_zero(tap_)) return load<SIZE>(row_.segment(tap_) + at_);
    Pack<T, SIZE> zeros;
#pragma unroll
    for (int i = 0; i < SIZE; ++i) zeros.e[i] = from_float<T>(0.0f);
    return zeros;
  }

  __device__ void wrap() {
    while (at_ >= row_.length && tap_ < Row::TAPS) {
      at_ -= row_.length;
      ++tap_;
    }
  }

  Row row_;
  int tap_, at_;  // the next element is segment(tap_)[at_]
};

template <class T>
__device__ void store_column_major(float (*tile_smem)[BLOCK_M], int row, int column,
                                   const Pack<T, VECTOR<T>>& frag) {
#pragma unroll
  for (int i = 0; i < VECTOR<T>; ++i) {
    tile_smem[column + i][swizzle<T>(column, row)] = to_float(frag.e[i]);
  }
}

// acc [THREAD_M, THREAD_N] of rows 4 (tid / 16) + i and columns 4 (tid % 16) + j of the tile.
// row_a and row_b: row tid / 4 of the tile's A and B, which this thread loads.
template <class T, bool ALIGNED, class RowA, class RowB>
__device__ void gemm_tile(GemmSmem<T>& smem, const RowA& row_a, const RowB& row_b, int gemm_k,
                          float (&acc)[THREAD_M][THREAD_N]) {
  const int load_row = threadIdx.x / 4, load_column = threadIdx.x % 4 * VECTOR<T>;
  const int m = threadIdx.x / 16 * THREAD_M, n = threadIdx.x % 16 * THREAD_N;
  RowReader<T, ALIGNED, RowA> a(row_a, load_column);
  RowReader<T, ALIGNED, RowB> b(row_b, load_column);

  auto store_to_shared = [&](int stage, const auto& a_frag, const auto& b_frag) {
    store_column_major<T>(smem.a[stage], load_row, load_column, a_frag);
    store_column_major<T>(smem.b[stage], load_row, load_column, b_frag);
  };
  auto multiply = [&](int stage) {
#pragma unroll
    for (int k = 0; k < BLOCK_K<T>; ++k) {
      const auto a_frag = load<THREAD_M>(&smem.a[stage][k][swizzle<T>(k, m)]);
      const auto b_frag = load<THREAD_N>(&smem.b[stage][k][swizzle<T>(k, n)]);
#pragma unroll
      for (int i = 0; i < THREAD_M; ++i) {
#pragma unroll
        for (int j = 0; j < THREAD_N; ++j) acc[i][j] = fmaf(a_frag.e[i], b_frag.e[j], acc[i][j]);
      }
    }
  };

  int stage = 0;
  store_to_shared(stage, a.next(), b.next());
  __syncthreads();  // the first step's tiles are written before they are read
  for (int k = BLOCK_K<T>;; k += BLOCK_K<T>) {
    const auto a_frag = a.next();  // zeros after the last step, without an access
    const auto b_frag = b.next();
    multiply(stage);
    if (k >= gemm_k) return;
    stage ^= 1;
    store_to_shared(stage, a_frag, b_frag);
    __syncthreads();  // written before read; and the other stage read before it is overwritten
  }
}

// y[n .. n + 3] = relu(acc + bias) of one output row, K wide, as far as the row goes.
template <class T>
__device__ void write_row(T* y /* [K] */, const float* bias /* [K] */, int n, int K, bool relu,
                          const float (&acc)[THREAD_N]) {
  Pack<T, THREAD_N> out;
#pragma unroll
  for (int j = 0; j < THREAD_N; ++j) {
    const float v = acc[j] + (n + j < K ? bias[n + j] : 0.0f);
    out.e[j] = from_float<T>(relu ? relu_nan(v) : v);
  }
  if (K % THREAD_N == 0 && reinterpret_cast<uintptr_t>(y) % sizeof(out) == 0) {
    if (n < K) store(y + n, out);
  } else {
#pragma unroll
    for (int j = 0; j < THREAD_N; ++j) {
      if (n + j < K) y[n + j] = out.e[j];
    }
  }
}

}  // namespace vgg::smxx
