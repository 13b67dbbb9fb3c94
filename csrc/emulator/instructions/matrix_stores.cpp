// stmatrix: the inverse of ldmatrix.

#include <cstring>

#include "emulator/decode/decode.h"
#include "emulator/instructions/instructions.h"
#include "emulator/instructions/memory_access.h"
#include "emulator/run/block.h"

namespace vgg::emulator {
namespace {

// Operands: address, from[count]. Each eight threads have the addresses of the rows of one matrix.
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

void add_matrix_stores(InstructionTable& table) { table.add_family("stmatrix", decode_stmatrix); }

}  // namespace vgg::emulator
