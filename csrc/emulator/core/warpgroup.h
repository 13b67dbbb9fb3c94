// A warpgroup (four warps) and its wgmma products in flight. From mma_async until a wait for its
// group, a product owns its accumulators, the registers of A and its tiles in shared memory.

#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "emulator/core/warp.h"

namespace vgg::emulator {

// Flags of one 32-bit register of a warp (128 bytes), in Warp::register_state.
enum RegisterState : uint8_t {
  ACCUMULATES = 1,  // accumulator of a product in flight
  MULTIPLIES = 2,   // holds A of a product in flight
  UNFENCED = 4,     // accessed since the last wgmma.fence
};
constexpr uint32_t REGISTER_BYTES = 4 * LANES;

constexpr uint8_t A_IN_REGISTERS = 1;  // flag in Instruction::mode of mma_async

// Bytes of an operand in shared memory.
struct MatrixOperand {
  bool transposed = false;
  std::vector<uint32_t> pieces;  // offsets of 16-byte pieces: [rows][2], or [16][rows / 8] if
                                 // transposed
  std::vector<uint32_t> ranges;  // the same bytes, in pieces of `range_bytes`: 16 or 32
  uint32_t range_bytes = 16;
};

// Accumulators of products in flight.
struct Accumulators {
  const Operand* registers;
  int count;                // registers per thread
  std::vector<float> tile;  // [64, 2 count], columns in the order of COLUMN (transpose.h)
  uint32_t held = 0;        // mask of warps of the warpgroup whose registers are in use
};

struct Product {
  const Instruction* instruction;
  std::shared_ptr<Accumulators> c;
  MatrixOperand a, b;
  std::vector<float> a_registers;  // [64, 16], if A is in registers
  bool keep = true, computed = false;
  uint32_t waited = 0;  // mask of warps of the warpgroup that have waited for the product
  uint32_t group = 0;   // number of groups committed before
  uint32_t stamp = 0;   // time at which the product ended
};

struct Warpgroup {
  const Instruction* instruction = nullptr;  // the mma_async where warps have arrived
  uint32_t arrived = 0, passed = 0;          // masks of warps
  std::vector<Product> products;             // in flight
};

inline uint8_t& state_of(Warp& warp, Operand place) {
  return warp.register_state[place / REGISTER_BYTES];
}

// Throws Error with `what` and the product that uses the register at `place`.
[[noreturn]] void fail_in_flight(const Warp& warp, const Instruction& in, Operand place,
                                 const std::string& what);
// Throws Error if a warp exits without having waited for a product.
void check_products_at_exit(const Warp& warp, const Instruction& in);
// Handler that precedes an instruction which accesses registers that products may use. Operands:
// registers[count]; the instruction writes the first Instruction::extra of them.
void check_registers(Warp& warp, const Instruction& in, uint32_t active);

}  // namespace vgg::emulator
