// mma.sync: D[16, 8] = A[16, K] B[K, 8] + C[16, 8], accumulated in float32, K in ascending order.
//
// Tensor cores sum in another order and round differently: results agree within the usual error
// bounds, not bit for bit.
//
// Fragments: a register of 16-bit operands, seen as uint16_t[64], is an 8x8 block: row-major for A,
// column-major for B. The four blocks of A are (0,0) (8,0) (0,8) (8,8), the two blocks of B (0,0)
// (8,0). Registers 2 i and 2 i + 1 of C hold the even and the odd columns of rows 8 i to 8 i + 7. A
// register of tf32 operands is an 8x4 block in the same way.

#include <cmath>
#include <cstring>

#include "emulator/core/float16.h"
#include "emulator/core/transpose.h"
#include "emulator/decode/decode.h"
#include "emulator/instructions/instructions.h"
#include "emulator/run/block.h"

#if defined(__F16C__) || defined(__FMA__)
#include <immintrin.h>
#endif

namespace vgg::emulator {
namespace {

constexpr int M = 16, N = 8;

// A row of 8 columns.
typedef float Row __attribute__((vector_size(N * sizeof(float))));

// Products of two operands are exact: fused and separate operations round alike.
inline void multiply_add(float factor, const Row& column, Row& sum) {
#if defined(__FMA__) && defined(__AVX__)
  const __m256 factors = _mm256_set1_ps(factor);
  sum = reinterpret_cast<Row>(
      _mm256_fmadd_ps(factors, reinterpret_cast<__m256>(column), reinterpret_cast<__m256>(sum)));
#else
  sum += factor * column;
#endif
}

// Transposes an 8x8 block of B, with its columns in the order of COLUMN.
inline void transpose_columns(const uint32_t* lanes, Vector16* to /* [8] */) {
  Vector16 from[8];
  for (int i = 0; i < 8; ++i) std::memcpy(&from[i], lanes + 4 * COLUMN[i], 16);
  transpose(from, to);
}

// Formats of operands. `expand` converts one register to float32 in the order of memory;
// `expand_transposed` converts one register of B to rows.
template <class Format>
struct Format16 {
  static constexpr int BLOCK_K = 8;
  static void expand_transposed(const uint32_t* lanes, float* to /* [8, N] */) {
    Vector16 transposed[8];
    transpose_columns(lanes, transposed);
    Format::expand(transposed, to);
  }
};

struct HalfFormat : Format16<HalfFormat> {
  static void expand(const void* lanes, float* to /* [64] */) {
#ifdef __F16C__
    for (int i = 0; i < 8; ++i) {
      const __m128i half = _mm_loadu_si128(reinterpret_cast<const __m128i*>(lanes) + i);
      _mm256_storeu_ps(to + 8 * i, _mm256_cvtph_ps(half));
    }
#else
    uint16_t half[64];
    std::memcpy(half, lanes, sizeof(half));
    for (int i = 0; i < 64; ++i) to[i] = float_from_half(half[i]);
#endif
  }
};

struct BfloatFormat : Format16<BfloatFormat> {
  static void expand(const void* lanes, float* to /* [64] */) {
    uint16_t half[64];
    std::memcpy(half, lanes, sizeof(half));
    for (int i = 0; i < 64; ++i) to[i] = float_from_bfloat(half[i]);
  }
};

// Tensor cores ignore the low 13 bits of tf32 operands.
struct Tf32Format {
  static constexpr int BLOCK_K = 4;
  static void expand(const uint32_t* lanes, float* to /* [32] */) {
    for (int i = 0; i < LANES; ++i) to[i] = bit_cast<float>(lanes[i] & 0xffffe000u);
  }
  static void expand_transposed(const uint32_t* lanes, float* to /* [4, N] */) {
    float columns[LANES];
    expand(lanes, columns);
    for (int k = 0; k < BLOCK_K; ++k) {
      for (int n = 0; n < N; ++n) to[k * N + n] = columns[COLUMN[n] * BLOCK_K + k];
    }
  }
};

// Operands: D[4], A, B, C[4], with 2 K / BLOCK_K registers of A and half as many of B.
template <class Format, int K>
void multiply(Warp& warp, const Instruction& in, uint32_t) {
  constexpr int BLOCK_K = Format::BLOCK_K, BLOCKS = K / BLOCK_K;
  const Operand* operand_a = in.operands + 4;
  const Operand* operand_b = operand_a + 2 * BLOCKS;
  const Operand* operand_c = operand_b + BLOCKS;

  alignas(64) float a[2 * BLOCKS][8][BLOCK_K];  // [block][row][k]
  alignas(64) float b[K][N];                    // in the order of COLUMN
  for (int i = 0; i < 2 * BLOCKS; ++i) {
    Format::expand(warp.lanes<uint32_t>(operand_a[i]), &a[i][0][0]);
  }
  for (int i = 0; i < BLOCKS; ++i) {
    Format::expand_transposed(warp.lanes<uint32_t>(operand_b[i]), b[i * BLOCK_K]);
  }

  Row sum[2][8];
  for (int half = 0; half < 2; ++half) {
    const auto* even = warp.lanes<char>(operand_c[2 * half]);
    const auto* odd = warp.lanes<char>(operand_c[2 * half + 1]);
    Row row_sum[8];  // stays in registers
    for (int row = 0; row < 8; ++row) {
      std::memcpy(&row_sum[row], even + 16 * row, 16);
      std::memcpy(reinterpret_cast<char*>(&row_sum[row]) + 16, odd + 16 * row, 16);
    }
    for (int k = 0; k < K; ++k) {
      Row column;
      std::memcpy(&column, b[k], sizeof(column));
      for (int row = 0; row < 8; ++row) {
        const float factor = a[k / BLOCK_K * 2 + half][row][k % BLOCK_K];
        multiply_add(factor, column, row_sum[row]);
      }
    }
    std::memcpy(sum[half], row_sum, sizeof(row_sum));
  }
  for (int half = 0; half < 2; ++half) {
    auto* even = warp.lanes<char>(in.operands[2 * half]);
    auto* odd = warp.lanes<char>(in.operands[2 * half + 1]);
    for (int row = 0; row < 8; ++row) {
      std::memcpy(even + 16 * row, &sum[half][row], 16);
      std::memcpy(odd + 16 * row, reinterpret_cast<const char*>(&sum[half][row]) + 16, 16);
    }
  }
  Counters& counters = warp.block->counters;
  ++counters.mma;
  counters.mma_macs += M * N * K;
}

struct Shape {
  Handler handler;
  int registers_a, registers_b;
};

void decode_mma(Decoder& decoder, const PtxInstruction& from, const std::vector<std::string>&,
                Instruction& to) {
  static const std::unordered_map<std::string, Shape> shapes = {
      {"m16n8k16.row.col.f32.f16.f16.f32", {&multiply<HalfFormat, 16>, 4, 2}},
      {"m16n8k8.row.col.f32.f16.f16.f32", {&multiply<HalfFormat, 8>, 2, 1}},
      {"m16n8k16.row.col.f32.bf16.bf16.f32", {&multiply<BfloatFormat, 16>, 4, 2}},
      {"m16n8k8.row.col.f32.bf16.bf16.f32", {&multiply<BfloatFormat, 8>, 2, 1}},
      {"m16n8k8.row.col.f32.tf32.tf32.f32", {&multiply<Tf32Format, 8>, 4, 2}},
      {"m16n8k4.row.col.f32.tf32.tf32.f32", {&multiply<Tf32Format, 4>, 2, 1}},
  };
  const std::string prefix = "mma.sync.aligned.";
  const auto found = from.opcode.compare(0, prefix.size(), prefix) == 0
                         ? shapes.find(from.opcode.substr(prefix.size()))
                         : shapes.end();
  if (found == shapes.end()) decoder.fail("this matrix product is not modelled");
  const Shape& shape = found->second;
  decoder.expect_operands(4);
  auto registers = [&](int operand, int count, bool write) {
    const PtxOperand& value = from.operands[operand];
    const std::vector<PtxOperand> parts =
        value.kind == PtxOperand::Kind::vector ? value.parts : std::vector<PtxOperand>{value};
    if (parts.size() != static_cast<size_t>(count)) decoder.fail("wrong number of registers");
    for (const PtxOperand& part : parts) {
      if (write) {
        decoder.write(part, WORD);
      } else {
        decoder.read(part, WORD);
      }
    }
  };
  registers(0, 4, true);
  registers(1, shape.registers_a, false);
  registers(2, shape.registers_b, false);
  registers(3, 4, false);
  to.handler = shape.handler;
  to.control = Control::aligned;
}

}  // namespace

void add_matrix_products(InstructionTable& table) { table.add_family("mma", decode_mma); }

}  // namespace vgg::emulator
