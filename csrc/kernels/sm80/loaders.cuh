// Loaders of operand tiles. All threads load. Each thread copies one chunk of 16 bytes of every
// LOAD_ROWS-th row, always of the same column of the tile, and keeps the addresses of these rows in
// registers: a step of the main loop costs one multiply-add of addresses per row.
//
// A loader is made for the first row and column of a tile, and the tile's place in stage 0.
// `fetch(offset)` starts the copy of the next BLOCK_K columns to the stage that lies `offset` bytes
// after stage 0. Columns beyond GEMM_K, rows beyond GEMM_M and pixels outside the image become
// zeros.

#pragma once

#include "kernels/fast_divmod.cuh"
#include "kernels/params.h"
#include "kernels/sm80/tile.cuh"
#include "kernels/smxx/element.cuh"
#include "ptx/arithmetic.cuh"
#include "ptx/cp_async.cuh"

namespace vgg::sm80 {

// The pixel under the centre of the filter, for one row of the implicit GEMM.
struct Pixel {
  int index;        // (n H + h) W + w
  uint32_t inside;  // bit 3 r + s: whether pixel (h + r - 1, w + s - 1) is in the image
};

// Returns the pixel of a row of the implicit GEMM. Rows are output pixels in order or, if they are
// pooled, the pixels of windows in the order of Mma::window_pixel.
template <class Mma, bool POOL, class Params>
__device__ __forceinline__ Pixel pixel_of_row(const Params& p, int m0, int row) {
  int h, w, m;
  if constexpr (POOL) {
    const WindowPixel in_tile = Mma::window_pixel(row);
    m = m0 / 4 + in_tile.window;
    const int n = divide(divide(m, p.Q, w), p.P, h);
    h = 2 * h + in_tile.dy;
    w = 2 * w + in_tile.dx;
    m = 4 * m < p.gemm_m ? (n * p.H + h) * p.W + w : -1;
  } else {
    m = m0 + row;
    divide(divide(m, p.Q, w), p.P, h);
    if (m >= p.gemm_m) m = -1;
  }
  const uint32_t rows = 0b000111000u | (h > 0 ? 0b111u : 0) | (h < p.H - 1 ? 0b111000000u : 0);
  // @inside_columns
  const uint32_t columns =
      0b010010010u | (w > 0 ? 0b001001001u : 0) | (w < p.W - 1 ? 0b100100100u : 0);
  return {m, m < 0 ? 0 : rows & columns};
}

// Loader of im2col rows of x [N, H, W, C], where C is a multiple of the chunk.
template <class Tile, class Mma, bool POOL>
class Im2colRows {
  using T = typename Tile::T;
  static constexpr int ROWS = Tile::BLOCK_M / Tile::LOAD_ROWS;
  static_assert(Tile::BLOCK_M % Tile::LOAD_ROWS == 0 && Tile::LOAD_ROWS % 8 == 0);

 public:
  __device__ __forceinline__ Im2colRows(const GemmParams& p, unsigned char* tile_smem, int m0,
                                        int k0)
      : C_(p.C), row_end_bytes_((static_cast<int64_t>(p.W) - 3) * p.C * sizeof(T)) {
    const int row = Tile::load_row(), k = k0 + Tile::load_chunk() * Tile::CHUNK;
    to_ = ptx::kept(ptx::shared_address(tile_smem) + Tile::place(row, Tile::load_chunk()));
    tap_ = k / C_;
    c_ = k - tap_ * C_;
    from_ = static_cast<const T*>(p.x) +
            (static_cast<int64_t>(tap_ / 3 - 1) * p.W + tap_ % 3 - 1) * C_ + c_;
#pragma unroll
    for (int i = 0; i < ROWS; ++i) {
      const Pixel pixel = pixel_of_row<Mma, POOL>(p, m0, row + i * Tile::LOAD_ROWS);
      index_[i] = ptx::kept(pixel.index);
      inside_[i] = ptx::kept(pixel.inside);
    }
  }

  __device__ __forceinline__ void fetch(int offset) {
    const int tap = 1 << tap_;
#pragma unroll
    for (int i = 0; i < ROWS; ++i) {
      // One multiply-add: the index of the pixel times the bytes of a pixel.
      const int64_t pixel_bytes = static_cast<int64_t>(index_[i]) * (C_ * int{sizeof(T)});
      // @copy_pixels
      ptx::cp_async_16(to_ + offset + i * Tile::LOAD_ROWS * Tile::ROW_BYTES,
                       reinterpret_cast<const char*>(from_) + pixel_bytes, inside_[i] & tap);
    }
    // The channels of the next pixel follow in memory, so that `from_` jumps only when the next row
    // of the filter begins.
    from_ += Tile::BLOCK_K;
    c_ += Tile::BLOCK_K;
    while (c_ >= C_) {
      c_ -= C_;
      ++tap_;
      if (tap_ == 3 || tap_ == 6) {
        from_ = reinterpret_cast<const T*>(reinterpret_cast<const char*>(from_) + row_end_bytes_);
      }
    }
  }

 private:
  const int C_;
  const int64_t row_end_bytes_;
  const T* from_;  // this thread's chunk, relative to pixel 0
  uint32_t to_;
  int tap_, c_;
  int index_[ROWS], inside_[ROWS];  // of Pixel
};

// Loader of rows of a matrix [rows, stride] whose number of columns is a multiple of the chunk. Row
// i of the tile is row first_row + ROW_OF_TILE(i) of the matrix.
template <class Tile, int TILE_ROWS, int (*ROW_OF_TILE)(int)>
class DenseRows {
  using T = typename Tile::T;
  static constexpr int ROWS = TILE_ROWS < Tile::LOAD_ROWS ? 1 : TILE_ROWS / Tile::LOAD_ROWS;
  static_assert(TILE_ROWS <= Tile::LOAD_ROWS || TILE_ROWS % Tile::LOAD_ROWS == 0);

 public:
  __device__ __forceinline__ DenseRows(const void* matrix, unsigned char* tile_smem, int first_row,
                                       int rows, int columns, int stride, int k0)
      : stride_(stride), column_(k0 + Tile::load_chunk() * Tile::CHUNK) {
    const int row = Tile::load_row();
    to_ = ptx::kept(ptx::shared_address(tile_smem) + Tile::place(row, Tile::load_chunk()));
#pragma unroll
    for (int i = 0; i < ROWS; ++i) {
      const int tile_row = row + i * Tile::LOAD_ROWS;
      const bool inside = tile_row < TILE_ROWS && first_row + ROW_OF_TILE(tile_row) < rows;
      columns_[i] = ptx::kept(inside ? columns : 0);
    }
    from_ = static_cast<const T*>(matrix) +
            static_cast<int64_t>(first_row + ROW_OF_TILE(row)) * stride + column_;
  }

  __device__ __forceinline__ void fetch(int offset) {
#pragma unroll
    for (int i = 0; i < ROWS; ++i) {
      if (TILE_ROWS >= Tile::LOAD_ROWS || threadIdx.x < TILE_ROWS * Tile::ROW_CHUNKS) {
        // ROW_OF_TILE permutes bits, so that it maps the sum of a row below LOAD_ROWS and a
        // multiple of LOAD_ROWS to the sum of their images.
        // @copy_rows
        ptx::cp_async_16(to_ + offset + i * Tile::LOAD_ROWS * Tile::ROW_BYTES,
                         from_ + static_cast<int64_t>(ROW_OF_TILE(i * Tile::LOAD_ROWS)) * stride_,
                         column_ < columns_[i]);
      }
    }
    from_ += Tile::BLOCK_K;
    column_ += Tile::BLOCK_K;
  }

 private:
  const T* from_;  // this thread's chunk of its first row
  const int64_t stride_;
  int column_;
  uint32_t to_;
  int columns_[ROWS];  // of this thread's rows; 0 for rows beyond the matrix
};

// Loader of both kinds of rows if chunks are not aligned to 16 bytes: element by element, through
// registers. It is the slow path for unusual numbers of channels. A dense row is treated as a pixel
// under a filter of one tap.
template <class Tile, class Mma, bool POOL>
class GatheredRows {
  using T = typename Tile::T;
  static constexpr int ROWS = Tile::BLOCK_M / Tile::LOAD_ROWS;

 public:
  __device__ __forceinline__ GatheredRows(const GemmParams& p, unsigned char* tile_smem, int m0,
                                          int k0)
      : p_(p), k_(k0 + Tile::load_chunk() * Tile::CHUNK) {
    const int row = Tile::load_row();
    to_ = tile_smem + Tile::place(row, Tile::load_chunk());
#pragma unroll
    for (int i = 0; i < ROWS; ++i) {
      const int tile_row = row + i * Tile::LOAD_ROWS;
      if (is_dense()) {
        pixel_[i] = {m0 + tile_row, m0 + tile_row < p.gemm_m ? 1u : 0u};
      } else {
        pixel_[i] = pixel_of_row<Mma, POOL>(p, m0, tile_row);
      }
    }
  }

  __device__ __forceinline__ void fetch(int offset) {
#pragma unroll
    for (int i = 0; i < ROWS; ++i) {
      smxx::Pack<T, Tile::CHUNK> chunk;
#pragma unroll
      for (int e = 0; e < Tile::CHUNK; ++e) chunk.e[e] = element(pixel_[i], k_ + e);
      smxx::store(reinterpret_cast<T*>(to_ + offset + i * Tile::LOAD_ROWS * Tile::ROW_BYTES),
                  chunk);
    }
    k_ += Tile::BLOCK_K;
  }

 private:
  __device__ __forceinline__ bool is_dense() const { return p_.gemm_k == p_.C; }

  __device__ __forceinline__ T element(const Pixel& pixel, int k) const {
    if (k >= p_.gemm_k) return smxx::from_float<T>(0.0f);
    int c = k, tap = 0;
    int64_t index = pixel.index;
    if (!is_dense()) {
      tap = divide(k, p_.channels, c);
      index += static_cast<int64_t>(tap / 3 - 1) * p_.W + tap % 3 - 1;
    }
    if (!(pixel.inside >> tap & 1)) return smxx::from_float<T>(0.0f);
    return static_cast<const T*>(p_.x)[index * p_.C + c];
  }

  const GemmParams& p_;
  int k_;  // the column of this thread's next chunk
  unsigned char* to_;
  Pixel pixel_[ROWS];
};

}  // namespace vgg::sm80
