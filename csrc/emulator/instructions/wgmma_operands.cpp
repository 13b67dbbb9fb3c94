#include "emulator/instructions/wgmma_operands.h"

#include <algorithm>
#include <cstring>

#include "emulator/core/lanes.h"
#include "emulator/instructions/wgmma_tiles.h"
#include "emulator/run/block.h"

namespace vgg::emulator {
namespace {

constexpr uint32_t POISON = 0x7fc0dead;  // NaN, the content of registers in flight

// Copies between the registers of a warp and its rows of the tile.
template <bool TO_TILE>
void move_accumulators(Warp& warp, Accumulators& c) {
  const int columns = 2 * c.count;
  float* rows = c.tile.data() + warp.warpgroup_rank() * 16 * columns;
  for (int i = 0; i < c.count; ++i) {
    auto* lanes = warp.lanes<float>(c.registers[i]);
    float* block = rows + (i / 2 % 2 * 8) * columns + i / 4 * 8 + i % 2 * 4;
    for (int row = 0; row < 8; ++row) {
      if (TO_TILE) {
        std::memcpy(block + row * columns, lanes + 4 * row, 16);
      } else {
        std::memcpy(lanes + 4 * row, block + row * columns, 16);
      }
    }
  }
}

uint64_t uniform(Warp** warps, const Instruction& in, Operand operand) {
  const uint64_t value = warps[0]->lanes<uint64_t>(operand)[0];
  for (int w = 0; w < WARPGROUP; ++w) {
    const auto* lanes = warps[w]->lanes<uint64_t>(operand);
    for (int lane = 0; lane < LANES; ++lane) {
      if (lanes[lane] == value) continue;
      fail(*warps[w], in, lane, "the descriptors differ between threads of the warpgroup");
    }
  }
  return value;
}

}  // namespace

void begin_operand(Warp** warps, const Instruction& in, Operand from, int rows, bool transposed,
                   const uint32_t* seen, MatrixOperand& operand) {
  Block& block = *warps[0]->block;
  MatrixDescriptor descriptor;
  if (!parse_descriptor(uniform(warps, in, from), descriptor)) {
    fail(*warps[0], in, -1, "the descriptor has reserved bits set");
  }
  // GPUs ignore the leading dimension's offset of a swizzled operand whose rows are contiguous. It
  // is where the rank ends up if an address enters a descriptor with more than its lowest 18 bits.
  if (!transposed && descriptor.swizzle_bits > 0 && block.rank() > 0 && descriptor.leading > 16) {
    fail(*warps[0], in, -1,
         "the descriptor's leading dimension byte offset is " + std::to_string(descriptor.leading) +
             ", which a swizzled operand does not use: expected 0 or 16. Mask the address "
             "(0x3ffff): it holds the block's rank in the cluster, " +
             std::to_string(block.rank()));
  }
  const uint32_t lines = (1u << descriptor.swizzle_bits) - 1;
  if (((descriptor.start >> 7) & lines) != (static_cast<uint32_t>(descriptor.base) & lines)) {
    fail(*warps[0], in, -1,
         "the descriptor starts at byte " +
             std::to_string(static_cast<int>(descriptor.start - SHARED_BASE)) +
             ", inside the pattern of its swizzle: set its base offset");
  }
  operand.transposed = transposed;
  const int outer = transposed ? WGMMA_K : rows, inner = transposed ? rows / 8 : WGMMA_K / 8;
  operand.pieces.reserve(outer * inner);
  for (int line = 0; line < outer; ++line) {
    for (int i = 0; i < inner; ++i) {
      const uint32_t offset = descriptor.address(line, i, transposed) - SHARED_BASE;
      if (offset >= block.shared.bytes() || offset + 16 > block.shared.bytes()) {
        fail(*warps[0], in, -1,
             "reads shared memory bytes " + std::to_string(static_cast<int>(offset)) + " to " +
                 std::to_string(static_cast<int>(offset) + 16) + ", outside the block's " +
                 std::to_string(block.shared.bytes()));
      }
      operand.pieces.push_back(offset);
    }
  }
  merge_pieces(operand);
  const uint32_t bytes = operand.range_bytes;
  for (const uint32_t offset : operand.ranges) {
    if (block.races.find_unreadable(seen, offset, bytes) >= 0) {
      for (int w = 0; w < WARPGROUP; ++w) {
        block.races.check_async_read(*warps[w], in, RaceDetector::ALL_TOGETHER, offset, bytes);
      }
    }
    block.races.begin_async_read(*warps[0], in, RaceDetector::ALL_TOGETHER, offset, bytes);
  }
  block.counters.wgmma_shared_bytes += operand.pieces.size() * 16;
}

std::shared_ptr<Accumulators> begin_accumulators(Warp** warps, const Instruction& in) {
  std::shared_ptr<Accumulators> c;
  for (const Product& product : warps[0]->warpgroup->products) {
    const Accumulators& other = *product.c;
    if (other.count == in.count &&
        std::equal(in.operands, in.operands + in.count, other.registers)) {
      c = product.c;
    }
  }
  if (c == nullptr) {
    c = std::make_shared<Accumulators>();
    c->registers = in.operands;
    c->count = in.count;
    c->tile.resize(static_cast<size_t>(WGMMA_M) * 2 * in.count);
  }
  for (int w = 0; w < WARPGROUP; ++w) {
    Warp& warp = *warps[w];
    if (is_active(c->held, w)) continue;  // products of one shape in sequence need no fence
    for (int i = 0; i < in.count; ++i) {
      uint8_t& state = state_of(warp, in.operands[i]);
      if (state & (ACCUMULATES | MULTIPLIES)) {
        fail_in_flight(warp, in, in.operands[i], "accumulates in a register of another tile");
      }
      if (state & UNFENCED || !warp.wgmma_fenced) {
        fail(warp, in, -1,
             "accumulates in registers without a wgmma.fence after their last access");
      }
      state |= ACCUMULATES;
    }
    move_accumulators<true>(warp, *c);
    for (int i = 0; i < in.count; ++i) {
      std::fill_n(warp.lanes<uint32_t>(in.operands[i]), LANES, POISON);
    }
    c->held |= 1u << w;
  }
  return c;
}

void begin_a_registers(Warp** warps, const Instruction& in, const Operand* registers,
                       std::vector<float>& to) {
  to.resize(WGMMA_M * WGMMA_K);
  for (int w = 0; w < WARPGROUP; ++w) {
    Warp& warp = *warps[w];
    for (int i = 0; i < 4; ++i) {
      uint8_t& state = state_of(warp, registers[i]);
      if (state & ACCUMULATES) fail_in_flight(warp, in, registers[i], "multiplies registers");
      if (state & UNFENCED || !warp.wgmma_fenced) {
        fail(warp, in, -1, "multiplies registers without a wgmma.fence after their last access");
      }
      state |= MULTIPLIES;
      float block[8][8];
      expand_block(warp.lanes<uint32_t>(registers[i]), in.mode & BFLOAT, block[0]);
      const float sign = in.mode & NEGATED ? -1 : 1;
      for (int row = 0; row < 8; ++row) {
        float* line = to.data() + (w * 16 + i % 2 * 8 + row) * WGMMA_K + i / 2 * 8;
        for (int k = 0; k < 8; ++k) line[k] = sign * block[row][k];
      }
    }
  }
}

void store_accumulators(Warp& warp, Accumulators& c) { move_accumulators<false>(warp, c); }

}  // namespace vgg::emulator
