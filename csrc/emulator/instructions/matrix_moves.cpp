// ldmatrix, stmatrix, movmatrix: 8x8 matrices of 16-bit elements.

#include <cstring>

#include "emulator/decode/decode.h"
#include "emulator/instructions/instructions.h"
#include "emulator/instructions/memory_access.h"
#include "emulator/run/block.h"

namespace vgg::emulator {
namespace {

// Operands: to[count], address. Threads 8 i to 8 i + 7 hold the addresses of the rows of matrix i.
template <bool TRANSPOSED>
void load_matrix(Warp& warp, const Instruction& in, uint32_t active) {
  Block& block = *warp.block;
  const int rows = in.count * 8;
  const uint32_t readers = rows == LANES ? ALL_LANES : (1u << rows) - 1;
  Addresses at =
      read_addresses(warp, active & readers, in.operands[in.count], in.wide_address, in.immediate);
  block.shared.check(warp, in, readers, at.of, 16, "reads");
  block.shared.count_passes(block.counters, readers, at.of, 16);
  block.races.read_together(warp, in, readers, at.of, 16);
  const char* shared = block.shared.data();
  for (int matrix = 0; matrix < in.count; ++matrix) {
    auto* to = warp.lanes<uint32_t>(in.operands[matrix]);
    if (!TRANSPOSED) {
      for (int row = 0; row < 8; ++row) {
        std::memcpy(to + row * 4, shared + at.of[matrix * 8 + row], 16);
      }
      continue;
    }
    uint16_t element[8][8];
    for (int row = 0; row < 8; ++row) {
      std::memcpy(element[row], shared + at.of[matrix * 8 + row], 16);
    }
    for (int lane = 0; lane < LANES; ++lane) {
      const int row = lane % 4 * 2, column = lane / 4;
      to[lane] = element[row][column] | static_cast<uint32_t>(element[row + 1][column]) << 16;
    }
  }
  ++block.counters.ldmatrix;
}

void decode_ldmatrix(Decoder& decoder, const PtxInstruction& from,
                     const std::vector<std::string>& modifiers, Instruction& to) {
  std::string name;
  bool transposed = false;
  for (const std::string& modifier : modifiers) {
    if (modifier == "trans" && !transposed) {
      transposed = true;
    } else if (modifier == "x1" || modifier == "x2" || modifier == "x4") {
      to.count = static_cast<uint8_t>(modifier[1] - '0');
    } else {
      name += modifier + '.';
    }
  }
  if (to.count == 0 ||
      (name != "sync.aligned.m8n8.shared.b16." && name != "sync.aligned.m8n8.shared::cta.b16.")) {
    decoder.fail("unknown ldmatrix");
  }
  decoder.expect_operands(2);
  const PtxOperand& value = from.operands[0];
  const std::vector<PtxOperand> registers =
      value.kind == PtxOperand::Kind::vector ? value.parts : std::vector<PtxOperand>{value};
  if (registers.size() != to.count) decoder.fail("wrong number of registers");
  for (const PtxOperand& reg : registers) decoder.write(reg, WORD);
  decoder.read_address(from.operands[1], to);
  to.control = Control::aligned;
  to.handler = transposed ? &load_matrix<true> : &load_matrix<false>;
}

// movmatrix: transposes an 8x8 matrix of 16-bit elements in registers.
void move_matrix(Warp& warp, const Instruction& in, uint32_t) {
  uint16_t element[8][8];
  uint32_t result[LANES];
  std::memcpy(element, warp.lanes<uint32_t>(in.operands[1]), sizeof(element));
  for (int lane = 0; lane < LANES; ++lane) {
    const int row = lane % 4 * 2, column = lane / 4;
    result[lane] = element[row][column] | static_cast<uint32_t>(element[row + 1][column]) << 16;
  }
  std::memcpy(warp.lanes<uint32_t>(in.operands[0]), result, sizeof(result));
}

// Operands: address, from[count]. Threads 8 i to 8 i + 7 hold the addresses of the rows of matrix
// i.
template <bool TRANSPOSED>
void store_matrix(Warp& warp, const Instruction& in, uint32_t active) {
  Block& block = *warp.block;
  const int rows = in.count * 8;
  const uint32_t writers = rows == LANES ? ALL_LANES : (1u << rows) - 1;
  Addresses at =
      read_addresses(warp, active & writers, in.operands[0], in.wide_address, in.immediate);
  block.shared.check(warp, in, writers, at.of, 16, "writes");
  block.shared.count_passes(block.counters, writers, at.of, 16);
  block.races.write(warp, in, writers, at.of, 16);
  char* shared = block.shared.data();
  for (int matrix = 0; matrix < in.count; ++matrix) {
    const auto* from = warp.lanes<uint32_t>(in.operands[1 + matrix]);
    uint16_t element[8][8];
    for (int lane = 0; lane < LANES; ++lane) {
      const int row = lane / 4, column = lane % 4 * 2;
      for (int i = 0; i < 2; ++i) {
        const auto value = static_cast<uint16_t>(from[lane] >> 16 * i);
        (TRANSPOSED ? element[column + i][row] : element[row][column + i]) = value;
      }
    }
    for (int row = 0; row < 8; ++row) {
      std::memcpy(shared + at.of[matrix * 8 + row], element[row], 16);
    }
  }
  ++block.counters.stmatrix;
}

void decode_stmatrix(Decoder& decoder, const PtxInstruction& from,
                     const std::vector<std::string>& words, Instruction& to) {
  Modifiers modifiers(words);
  const std::string count = modifiers.take_one_of({"x1", "x2", "x4"});
  const bool transposed = modifiers.take("trans");
  const bool shared = modifiers.take("shared") || modifiers.take("shared::cta");
  if (count.empty() || !shared || !modifiers.take("sync") || !modifiers.take("aligned") ||
      !modifiers.take("m8n8") || !modifiers.take("b16") || !modifiers.empty()) {
    decoder.fail("unknown stmatrix");
  }
  to.count = static_cast<uint8_t>(count[1] - '0');
  decoder.expect_operands(2);
  const PtxOperand& value = from.operands[1];
  const std::vector<PtxOperand> registers =
      value.kind == PtxOperand::Kind::vector ? value.parts : std::vector<PtxOperand>{value};
  if (registers.size() != to.count) decoder.fail("wrong number of registers");
  decoder.read_address(from.operands[0], to);
  for (const PtxOperand& reg : registers) decoder.read(reg, WORD);
  to.control = Control::aligned;
  to.handler = transposed ? &store_matrix<true> : &store_matrix<false>;
}

}  // namespace

void add_matrix_moves(InstructionTable& table) {
  table.add_family("ldmatrix", decode_ldmatrix);
  table.add_family("stmatrix", decode_stmatrix);
  table.add("movmatrix.sync.aligned.m8n8.trans.b16", move_matrix, "ww", Control::aligned);
}

}  // namespace vgg::emulator
