// A warpgroup, four warps, and the wgmma products that it has in flight. What a product uses
// (accumulators, A in registers, tiles in shared memory) is its own from mma_async until a wait for
// its group.

#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "emulator/core/warp.h"

namespace vgg::emulator {

// Flags of the registers of a warp; in Warp::register_state, one for each 128 bytes.
enum RegisterState : uint8_t {
  ACCUMULATES = 1,  // in flight
  MULTIPLIES = 2,   // A of one in flight
  UNFENCED = 4,     // accessed since the last wgmma.fence
};
constexpr uint32_t REGISTER_BYTES = 4 * LANES;

constexpr uint8_t A_IN_REGISTERS = 1;  // Instruction::mode of mma_async, among others

struct MatrixOperand {
  bool transposed = false;
  std::vector<uint32_t> pieces;  // offsets in shared memory of 16 bytes each: [rows][2], or
                                 // [16][rows / 8] if transposed
  // The same bytes, in pieces that are as large as can be: 16 or 32 bytes.
  std::vector<uint32_t> ranges;
  uint32_t range_bytes = 16;
  void merge();
};

// Accumulators in flight.
struct Accumulators {
  const Operand* registers;
  int count;                // of a thread
  std::vector<float> tile;  // [64, 2 count], columns as above
  int products = 0;         // that have not been computed or waited for
  uint32_t held = 0;        // warps of the group whose registers are not valid
};

struct Product {
  const Instruction* instruction;
  std::shared_ptr<Accumulators> c;
  MatrixOperand a, b;
  std::vector<float> a_registers;  // [64, 16], if A is in registers
  bool keep = true, computed = false;
  uint32_t waited = 0;  // warps of the group
  uint32_t group = 0;   // groups that were committed before
  uint32_t stamp = 0;   // when it ended
};

struct Warpgroup {
  const Instruction* instruction = nullptr;  // that warps of it have arrived at
  uint32_t arrived = 0, passed = 0;          // warps
  std::vector<Product> products;             // in flight
};

inline Warpgroup& group_of(const Warp& warp) { return *warp.group; }
inline int in_group(const Warp& warp) { return warp.index % WARPGROUP; }
inline uint8_t& state_of(Warp& warp, Operand place) {
  return warp.register_state[place / REGISTER_BYTES];
}

// Throws Error: `what`, of the register at `place`, and which product uses it.
[[noreturn]] void fail_in_flight(const Warp& warp, const Instruction& in, Operand place,
                                 const std::string& what);
// Of a warp that exits; throws Error.
void check_products_at_exit(const Warp& warp, const Instruction& in);
// Before an instruction: accesses registers that products may use. Operands: registers[count], of
// which the first Instruction::extra are written.
void check_registers(Warp& warp, const Instruction& in, uint32_t active);

}  // namespace vgg::emulator
