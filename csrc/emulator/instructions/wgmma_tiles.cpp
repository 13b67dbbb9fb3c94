// Arithmetic of wgmma and the layout of its tiles.
//
// Products are exact and summed in float32, in ascending order of K. Tensor cores sum in another
// order and round differently: results agree within the usual error bounds, not bit for bit.

#include "emulator/instructions/wgmma_tiles.h"

#include <algorithm>
#include <cstring>

#include "emulator/core/float16.h"
#include "emulator/core/transpose.h"

#if defined(__F16C__) || defined(__FMA__)
#include <immintrin.h>
#endif

namespace vgg::emulator {
namespace {

constexpr int VECTOR = 8;
typedef float Vector __attribute__((vector_size(VECTOR * sizeof(float))));

inline Vector load(const float* from) {
  Vector value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

inline void multiply_add(float factor, const Vector& column, Vector& sum) {
#if defined(__FMA__) && defined(__AVX__)
  sum = reinterpret_cast<Vector>(_mm256_fmadd_ps(
      _mm256_set1_ps(factor), reinterpret_cast<__m256>(column), reinterpret_cast<__m256>(sum)));
#else
  sum += factor * column;
#endif
}

void expand8(const char* from, bool bfloat, float* to) {
#ifdef __F16C__
  if (!bfloat) {
    const __m128i half = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
    return _mm256_storeu_ps(to, _mm256_cvtph_ps(half));
  }
#endif
  uint16_t elements[8];
  std::memcpy(elements, from, sizeof(elements));
  for (int i = 0; i < 8; ++i) {
    to[i] = bfloat ? float_from_bfloat(elements[i]) : float_from_half(elements[i]);
  }
}

// Computes ROWS rows of c by WIDTH vectors in registers.
template <int ROWS, int WIDTH>
inline void multiply_block(const float* a, const float* b, float* c, int columns, bool keep) {
  Vector sum[ROWS][WIDTH];
  for (int row = 0; row < ROWS; ++row) {
    for (int i = 0; i < WIDTH; ++i) {
      sum[row][i] = keep ? load(c + row * columns + i * VECTOR) : Vector{};
    }
  }
  for (int k = 0; k < WGMMA_K; ++k) {
    Vector line[WIDTH];
    for (int i = 0; i < WIDTH; ++i) line[i] = load(b + k * columns + i * VECTOR);
    for (int row = 0; row < ROWS; ++row) {
      for (int i = 0; i < WIDTH; ++i) multiply_add(a[row * WGMMA_K + k], line[i], sum[row][i]);
    }
  }
  for (int row = 0; row < ROWS; ++row) {
    std::memcpy(c + row * columns, sum[row], sizeof(sum[row]));
  }
}

}  // namespace

bool parse_descriptor(uint64_t bits, MatrixDescriptor& to) {
  constexpr uint64_t USED = 0xc00e'3fff'3fff'3fffu;
  auto field = [&](int shift) { return static_cast<uint32_t>(bits >> shift & 0x3fff) << 4; };
  const int mode = static_cast<int>(bits >> 62);
  to = {field(0), field(16), field(32), static_cast<int>(bits >> 49 & 7), mode == 0 ? 0 : 4 - mode};
  return (bits & ~USED) == 0;
}

uint32_t MatrixDescriptor::address(uint32_t line, uint32_t i, bool transposed) const {
  const uint32_t span = 16u << swizzle_bits, per_span = 1u << swizzle_bits;  // bytes; pieces
  uint32_t at = start;
  if (!transposed) {
    at += line / 8 * stride + line % 8 * span + (swizzle_bits == 0 ? i * leading : i * 16);
  } else if (swizzle_bits == 0) {
    at += i * stride + line % 8 * 16 + line / 8 * leading;
  } else {
    at += i / per_span * leading + i % per_span * 16 + line % 8 * span + line / 8 * stride;
  }
  const uint32_t phase = ((at >> 7) - static_cast<uint32_t>(base)) & (per_span - 1);
  return at ^ phase << 4;
}

void merge_pieces(MatrixOperand& operand) {
  const std::vector<uint32_t>& pieces = operand.pieces;
  uint32_t& bytes = operand.range_bytes = 32;
  for (size_t i = 0; i + 1 < pieces.size(); i += 2) {
    if ((pieces[i] ^ pieces[i + 1]) != 16) bytes = 16;
  }
  for (size_t i = 0; i < pieces.size(); i += bytes / 16) {
    operand.ranges.push_back(pieces[i] & ~(bytes - 16));
  }
}

void expand_block(const void* lanes, bool bfloat, float* to) {
  for (int i = 0; i < 8; ++i) expand8(static_cast<const char*>(lanes) + 16 * i, bfloat, to + 8 * i);
}

void expand_a(const char* shared, const MatrixOperand& a, bool bfloat, bool negated, float* to) {
  float piece[8];
  for (size_t i = 0; i < a.pieces.size(); ++i) {
    expand8(shared + a.pieces[i], bfloat, piece);
    if (!a.transposed) {
      std::memcpy(to + i * 8, piece, sizeof(piece));
      continue;
    }
    const size_t k = i / (WGMMA_M / 8), row = i % (WGMMA_M / 8) * 8;
    for (int j = 0; j < 8; ++j) to[(row + j) * WGMMA_K + k] = piece[j];
  }
  if (!negated) return;
  for (int i = 0; i < WGMMA_M * WGMMA_K; ++i) to[i] = -to[i];
}

void expand_b(const char* shared, const MatrixOperand& b, int columns, bool bfloat, float* to) {
  if (b.transposed) {
    float piece[8];
    for (size_t i = 0; i < b.pieces.size(); ++i) {
      expand8(shared + b.pieces[i], bfloat, piece);
      for (int j = 0; j < 8; ++j) to[i * 8 + j] = piece[COLUMN[j]];
    }
    return;
  }
  for (int column = 0; column < columns; column += 8) {
    for (int half = 0; half < 2; ++half) {
      Vector16 from[8], lines[8];
      for (int j = 0; j < 8; ++j) {
        const uint32_t piece = b.pieces[(column + COLUMN[j]) * 2 + half];
        std::memcpy(&from[j], shared + piece, sizeof(from[j]));
      }
      transpose(from, lines);
      for (int k = 0; k < 8; ++k) {
        expand8(reinterpret_cast<const char*>(&lines[k]), bfloat,
                to + (half * 8 + k) * columns + column);
      }
    }
  }
}

void multiply_tiles(const float* a, const float* b, float* c, int columns, bool keep) {
  constexpr int ROWS = 4, WIDTH = 2;
  int column = 0;
  for (; column + WIDTH * VECTOR <= columns; column += WIDTH * VECTOR) {
    for (int row = 0; row < WGMMA_M; row += ROWS) {
      multiply_block<ROWS, WIDTH>(a + row * WGMMA_K, b + column, c + row * columns + column,
                                  columns, keep);
    }
  }
  for (; column < columns; column += VECTOR) {
    for (int row = 0; row < WGMMA_M; row += ROWS) {
      multiply_block<ROWS, 1>(a + row * WGMMA_K, b + column, c + row * columns + column, columns,
                              keep);
    }
  }
}

}  // namespace vgg::emulator
