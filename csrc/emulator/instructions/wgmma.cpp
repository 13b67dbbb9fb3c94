// wgmma.mma_async, fence, commit_group, wait_group.

#include <algorithm>
#include <cstdio>

#include "emulator/decode/decode.h"
#include "emulator/instructions/instructions.h"
#include "emulator/instructions/wgmma_operands.h"
#include "emulator/instructions/wgmma_tiles.h"
#include "emulator/run/block.h"
#include "emulator/run/cluster.h"

namespace vgg::emulator {
namespace {

constexpr uint32_t ALL_WARPS = (1u << WARPGROUP) - 1;

void compute(Block& block, Product& product) {
  const Instruction& in = *product.instruction;
  const int columns = 2 * product.c->count;
  const bool bfloat = in.mode & BFLOAT;
  alignas(64) static thread_local float a[WGMMA_M * WGMMA_K], b[WGMMA_K * 256];
  const float* left = product.a_registers.data();
  if (product.a_registers.empty()) {
    expand_a(block.shared.data(), product.a, bfloat, in.mode & NEGATED, a);
    left = a;
  }
  expand_b(block.shared.data(), product.b, columns, bfloat, b);
  multiply_tiles(left, b, product.c->tile.data(), columns, product.keep);
  product.computed = true;
}

void issue(Warp** warps, const Instruction& in) {
  Block& block = *warps[0]->block;
  Warpgroup& group = *warps[0]->warpgroup;
  const Operand* operand = in.operands + 2 * in.count;
  const bool in_registers = in.mode & A_IN_REGISTERS;
  const Operand predicate = operand[in_registers ? 5 : 2];
  const uint32_t keep = *warps[0]->lanes<uint32_t>(predicate);
  Clock seen = warps[0]->seen;
  for (int w = 0; w < WARPGROUP; ++w) {
    if (*warps[w]->lanes<uint32_t>(predicate) != (keep & 1 ? ALL_LANES : 0)) {
      fail(*warps[w], in, -1, "the scale-d operands differ between threads of the warpgroup");
    }
    if (warps[w]->wgmma_committed != warps[0]->wgmma_committed) {
      fail(*warps[w], in, -1,
           "has not committed as many groups as the first warp of its warpgroup");
    }
    for (size_t i = 0; i < seen.size(); ++i) seen[i] = std::min(seen[i], warps[w]->seen[i]);
  }
  Product product;
  product.instruction = &in;
  product.keep = keep & 1;
  product.group = warps[0]->wgmma_committed;
  if (in_registers) begin_a_registers(warps, in, operand, product.a_registers);
  product.c = begin_accumulators(warps, in);
  if (!in_registers) {
    begin_operand(warps, in, operand[0], WGMMA_M, in.mode & TRANSPOSED_A, seen.data(), product.a);
  }
  begin_operand(warps, in, operand[in_registers ? 4 : 1], 2 * in.count, in.mode & TRANSPOSED_B,
                seen.data(), product.b);
  if (!block.options().lazy) compute(block, product);
  group.products.push_back(std::move(product));
  ++block.counters.wgmma;
  block.counters.wgmma_macs += uint64_t{WGMMA_M} * 2 * in.count * WGMMA_K;
}

// Operands: C[count] written, C[count] read, A[4] or its descriptor, descriptor of B, scale-d.
void multiply(Warp& warp, const Instruction& in, uint32_t) {
  Block& block = *warp.block;
  const int first = warp.warpgroup_id() * WARPGROUP;
  if (first + WARPGROUP > static_cast<int>(block.warps().size())) {
    fail(warp, in, -1, "needs a complete warpgroup of four warps");
  }
  Warpgroup& group = *warp.warpgroup;
  const uint32_t bit = 1u << warp.warpgroup_rank();
  if (group.passed & bit) {  // the last warp to arrive issued the product for all four
    group.passed &= ~bit;
    return;
  }
  if (group.arrived != 0 && group.instruction != &in) {
    fail(warp, in, -1,
         "divergent warpgroup: its other warps are at " + block.kernel().where(*group.instruction));
  }
  group.instruction = &in;
  group.arrived |= bit;
  if (group.arrived != ALL_WARPS) {
    return warp.wait_for(Wait::warpgroup, static_cast<uint32_t>(warp.warpgroup_id()));
  }
  group.arrived = 0;
  group.passed = ALL_WARPS & ~bit;
  Warp* warps[WARPGROUP];
  for (int w = 0; w < WARPGROUP; ++w) warps[w] = &block.warps()[first + w];
  issue(warps, in);
  block.wake(Wait::warpgroup, static_cast<uint32_t>(warp.warpgroup_id()));
}

void end_reads(Block& block, int group, Product& product) {
  Time& time = block.cluster().time;
  const Warp& first = block.warps()[group * WARPGROUP];
  product.stamp = time.tick();
  time.last[block.rank() * time.actors.of_block() + time.actors.warps + group] = product.stamp;
  for (const MatrixOperand* operand : {&product.a, &product.b}) {
    for (const uint32_t offset : operand->ranges) {
      block.races.end_async_read(first, *product.instruction, RaceDetector::ALL_TOGETHER, group,
                                 offset, operand->range_bytes, product.stamp);
    }
  }
}

// The first warp that waits for a product ends it. Each warp gets its registers back at its wait.
void wait(Warp& warp, const Instruction& in, uint32_t) {
  Block& block = *warp.block;
  const int first = warp.warpgroup_id() * WARPGROUP;
  if (first + WARPGROUP > static_cast<int>(block.warps().size())) return;
  Warpgroup& group = *warp.warpgroup;
  const uint32_t bit = 1u << warp.warpgroup_rank();
  uint32_t stamp = 0;
  for (Product& product : group.products) {
    if (product.group + static_cast<uint32_t>(in.immediate) >= warp.wgmma_committed) continue;
    if (product.waited & bit) continue;
    if (product.waited == 0) {
      if (!product.computed) compute(block, product);
      end_reads(block, warp.warpgroup_id(), product);
    }
    product.waited |= bit;
    stamp = std::max(stamp, product.stamp);
  }
  if (stamp == 0) return;
  block.races.acquire_stamp(warp, block.cluster().time.actors.warps + warp.warpgroup_id(), stamp);
  // Release the registers that no product in flight uses.
  for (uint8_t& state : warp.register_state) state &= ~MULTIPLIES;
  std::vector<Accumulators*> busy;
  for (Product& product : group.products) {
    if (product.waited & bit) continue;
    busy.push_back(product.c.get());
    if (!(product.instruction->mode & A_IN_REGISTERS)) continue;
    const Operand* a = product.instruction->operands + 2 * product.c->count;
    for (int i = 0; i < 4; ++i) state_of(warp, a[i]) |= MULTIPLIES;
  }
  for (Product& product : group.products) {
    Accumulators& c = *product.c;
    if (!(c.held & bit) || std::find(busy.begin(), busy.end(), &c) != busy.end()) continue;
    store_accumulators(warp, c);
    for (int i = 0; i < c.count; ++i) {
      state_of(warp, c.registers[i]) &= ~ACCUMULATES;
    }
    c.held &= ~bit;
  }
  auto& products = group.products;
  products.erase(std::remove_if(products.begin(), products.end(),
                                [](const Product& product) { return product.waited == ALL_WARPS; }),
                 products.end());
}

void fence(Warp& warp, const Instruction&, uint32_t) {
  for (uint8_t& state : warp.register_state) state &= ~UNFENCED;
  warp.wgmma_fenced = true;
}

void commit(Warp& warp, const Instruction&, uint32_t) { ++warp.wgmma_committed; }

void decode_multiply(Decoder& decoder, const PtxInstruction& from,
                     const std::vector<std::string>& words, Instruction& to) {
  // mma_async.sync.aligned.m64n256k16.f32.f16.f16
  const bool known = words.size() == 7 && words[1] == "sync" && words[2] == "aligned" &&
                     words[4] == "f32" && words[5] == words[6] &&
                     (words[5] == "f16" || words[5] == "bf16");
  int columns = 0, used = 0;
  if (!known || std::sscanf(words[3].c_str(), "m64n%dk16%n", &columns, &used) != 1 ||
      used != static_cast<int>(words[3].size()) || columns % 8 != 0 || columns < 8 ||
      columns > 256) {
    decoder.fail("this matrix product is not modelled");
  }
  const auto& operands = from.operands;
  if (operands.size() < 2) decoder.fail("wrong number of operands");
  const bool in_registers = operands[1].kind == PtxOperand::Kind::vector;
  decoder.expect_operands(in_registers ? 7 : 8);
  auto number = [&](size_t i, int64_t first, int64_t second) {
    const auto value = static_cast<int64_t>(operands[i].bits);
    if (operands[i].kind != PtxOperand::Kind::integer || (value != first && value != second)) {
      decoder.fail("operand " + std::to_string(i) + ": expected " + std::to_string(first) + " or " +
                   std::to_string(second));
    }
    return value == second;
  };
  const bool negated = number(4, 1, -1) != number(5, 1, -1);
  const bool first = number(6, 0, 1), second = in_registers ? first : number(7, 0, 1);
  to.mode = (words[5] == "bf16" ? BFLOAT : 0) | (in_registers ? A_IN_REGISTERS : 0) |
            (negated ? NEGATED : 0) | (!in_registers && first ? TRANSPOSED_A : 0) |
            (second ? TRANSPOSED_B : 0);
  if (operands[0].parts.size() != static_cast<size_t>(columns / 2) ||
      (in_registers && operands[1].parts.size() != 4)) {
    decoder.fail("wrong number of registers");
  }
  for (const PtxOperand& part : operands[0].parts) decoder.write(part, WORD);
  for (const PtxOperand& part : operands[0].parts) decoder.read(part, WORD);
  if (in_registers) {
    for (const PtxOperand& part : operands[1].parts) decoder.read(part, WORD);
  } else {
    decoder.read(operands[1], DOUBLE);
  }
  decoder.read(operands[2], DOUBLE);
  decoder.read(operands[3], PREDICATE);
  to.count = static_cast<uint8_t>(columns / 2);
  to.handler = multiply;
  to.control = Control::wait_aligned;
}

void decode_wgmma(Decoder& decoder, const PtxInstruction& from,
                  const std::vector<std::string>& words, Instruction& to) {
  decoder.kernel().has_wgmma = decoder.kernel().has_async_proxy = true;
  if (!words.empty() && words[0] == "mma_async") return decode_multiply(decoder, from, words, to);
  if (words.size() != 3 || words[1] != "sync" || words[2] != "aligned") {
    decoder.fail("unknown modifiers");
  }
  to.control = Control::aligned;
  if (words[0] == "wait_group") {
    decoder.expect_operands(1);
    to.immediate = static_cast<int64_t>(from.operands[0].bits);
    decoder.read_wgmma_registers();  // keeps their places reserved up to here
    to.handler = wait;
    return;
  }
  decoder.expect_operands(0);
  to.handler = words[0] == "fence" ? fence : words[0] == "commit_group" ? commit : nullptr;
  if (to.handler == nullptr) decoder.fail("unknown wgmma");
}

}  // namespace

void add_wgmma(InstructionTable& table) { table.add_family("wgmma", decode_wgmma); }

}  // namespace vgg::emulator
