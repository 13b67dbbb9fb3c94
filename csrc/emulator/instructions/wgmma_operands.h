// Operands of wgmma.mma_async: their registers, their bytes in shared memory, and what they hold.
//
// Accumulators: register i of a thread holds C[16 w + lane / 4 + 8 (i / 2 % 2)][8 (i / 4) +
// 2 (lane % 4) + i % 2], with w the warp's position in its warpgroup. A in registers: 16 rows per
// warp, laid out as in mma.m16n8k16.

#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "emulator/core/warpgroup.h"

namespace vgg::emulator {

enum WgmmaFlags : uint8_t {  // Instruction::mode, in addition to A_IN_REGISTERS
  BFLOAT = 2,
  TRANSPOSED_A = 4,
  TRANSPOSED_B = 8,
  NEGATED = 16,  // scale-a or scale-b negates the product
};

// These functions take the four warps of a warpgroup and throw Error.

// Reads the descriptor in register `from`, finds the operand's bytes and begins to read them.
// `seen`: the clock that all four warps have reached.
void begin_operand(Warp** warps, const Instruction& in, Operand from, int rows, bool transposed,
                   const uint32_t* seen, MatrixOperand& operand);
// Marks the accumulator registers of the instruction as in use by all four warps.
std::shared_ptr<Accumulators> begin_accumulators(Warp** warps, const Instruction& in);
// Marks the four registers of A as in use and reads them: to [64, 16].
void begin_a_registers(Warp** warps, const Instruction& in, const Operand* registers,
                       std::vector<float>& to);

// Writes finished accumulators to the registers of one warp.
void store_accumulators(Warp& warp, Accumulators& c);

}  // namespace vgg::emulator
