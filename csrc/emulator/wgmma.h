// wgmma: products of a warpgroup, four warps, that run while it goes on. What a product uses
// (accumulators, A in registers, tiles in shared memory) is its own from mma_async until a wait for
// its group.

#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "warp.h"

namespace vgg::emulator {

// Flags of the registers of a warp; in Warp::register_state, one for each 128 bytes.
enum RegisterState : uint8_t {
  ACCUMULATES = 1,  // in flight
  MULTIPLIES = 2,   // A of one in flight
  UNFENCED = 4,     // accessed since the last wgmma.fence
};
constexpr uint32_t REGISTER_BYTES = 4 * LANES;

// A tile of 16-bit elements in shared memory, as a descriptor says: 64 bits.
struct MatrixDescriptor {
  uint32_t start, leading, stride;  // bytes
  int base;          // where the pattern of the swizzle starts, in its 128-byte lines
  int swizzle_bits;  // 0 (none) to 3 (128 bytes)

  // The address of the 16 bytes that hold elements 8 i to 8 i + 7 of a line: where K runs fastest,
  // line `line` is a row; where it does not (transposed), `line` is k and i counts along the row.
  uint32_t address(uint32_t line, uint32_t i, bool transposed) const;
};
// False if reserved bits are set.
bool parse_descriptor(uint64_t bits, MatrixDescriptor& to);

struct MatrixOperand {
  bool transposed = false;
  std::vector<uint32_t> pieces;  // offsets in shared memory of 16 bytes each: [rows][2], or
                                 // [16][rows / 8] if transposed
  // The same bytes, in pieces that are as large as can be: 16 or 32 bytes.
  std::vector<uint32_t> ranges;
  uint32_t range_bytes = 16;
  void merge();
};

constexpr uint8_t A_IN_REGISTERS = 1;  // Instruction::mode of mma_async, among others
constexpr int WGMMA_M = 64, WGMMA_K = 16;

// Row-major tiles as float32. B and C have their columns in the order of registers: of each eight
// 0 2 4 6 1 3 5 7.
void expand_a(const char* shared, const MatrixOperand& a, bool bfloat, bool negated, float* to);
void expand_b(const char* shared, const MatrixOperand& b, int columns, bool bfloat, float* to);
void expand_block(const void* lanes, bool bfloat, float* to);  // a register: an 8x8 block
// c [64, columns] += a [64, 16] b [16, columns], K ascending; c = ... unless `keep`.
void multiply_tiles(const float* a, const float* b, float* c, int columns, bool keep);

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

Warpgroup& group_of(const Warp& warp);
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
