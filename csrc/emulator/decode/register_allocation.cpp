// Register allocation by linear scan over live ranges. nvcc's PTX has one register per value, often
// thousands; after allocation the registers of a warp fit in the CPU's caches.

#include <algorithm>

#include "emulator/decode/decode.h"

namespace vgg::emulator {
namespace {

constexpr uint32_t UNIT = 128;  // bytes of one 32-bit register

class Bits {
 public:
  explicit Bits(size_t size) : words_((size + 63) / 64) {}
  bool get(size_t i) const { return words_[i / 64] >> i % 64 & 1; }
  void set(size_t i) { words_[i / 64] |= uint64_t{1} << i % 64; }
  // Computes this |= other & ~without. Returns whether any bit changed.
  bool merge(const Bits& other, const Bits* without) {
    bool changed = false;
    for (size_t i = 0; i < words_.size(); ++i) {
      const uint64_t more = other.words_[i] & ~(without == nullptr ? 0 : without->words_[i]);
      changed |= (more & ~words_[i]) != 0;
      words_[i] |= more;
    }
    return changed;
  }
  template <class F>
  void for_each(F f) const {
    for (size_t i = 0; i < words_.size(); ++i) {
      for (uint64_t word = words_[i]; word != 0; word &= word - 1) {
        f(i * 64 + __builtin_ctzll(word));
      }
    }
  }

 private:
  std::vector<uint64_t> words_;
};

// A sequence of instructions without branches into it or out of it.
struct BasicBlock {
  uint32_t begin, end;
  std::vector<uint32_t> next;  // indices of successors
  Bits read_first, written, live_in, live_out;
};

std::vector<BasicBlock> find_blocks(const Kernel& kernel, size_t registers) {
  const auto& code = kernel.code;
  std::vector<bool> starts(code.size() + 1);
  starts[0] = true;
  auto targets = [&](const Instruction& in) {
    if (in.control == Control::branch) return std::vector<uint32_t>{in.target};
    if (in.control == Control::branch_table) return kernel.tables[in.target];
    return std::vector<uint32_t>{};
  };
  for (size_t i = 0; i < code.size(); ++i) {
    for (uint32_t target : targets(code[i])) starts[target] = true;
    if (code[i].control == Control::branch || code[i].control == Control::branch_table ||
        code[i].control == Control::exit) {
      starts[i + 1] = true;
    }
  }
  std::vector<uint32_t> block_of(code.size());
  std::vector<BasicBlock> blocks;
  for (uint32_t i = 0; i < code.size(); ++i) {
    if (starts[i]) {
      const Bits none(registers);
      blocks.push_back({i, i, {}, none, none, none, none});
    }
    blocks.back().end = i + 1;
    block_of[i] = static_cast<uint32_t>(blocks.size()) - 1;
  }
  for (BasicBlock& block : blocks) {
    const Instruction& last = code[block.end - 1];
    for (uint32_t target : targets(last)) block.next.push_back(block_of[target]);
    const bool guarded = (last.guard & CONSTANT_OPERAND) == 0;
    const bool falls_through = last.control != Control::exit && last.control != Control::branch &&
                               last.control != Control::branch_table;
    if ((guarded || falls_through) && block.end < code.size()) {
      block.next.push_back(block_of[block.end]);
    }
  }
  return blocks;
}

}  // namespace

uint32_t allocate_registers(const Kernel& kernel, const std::vector<RegisterUse>& uses,
                            uint32_t first_free, std::vector<VirtualRegister>& registers) {
  std::vector<BasicBlock> blocks = find_blocks(kernel, registers.size());

  // An instruction reads before it writes. A guarded write may keep the old value.
  size_t at = 0;
  for (BasicBlock& block : blocks) {
    while (at < uses.size() && uses[at].instruction < block.end) {
      size_t next = at;
      while (next < uses.size() && uses[next].instruction == uses[at].instruction) ++next;
      const bool guarded = (kernel.code[uses[at].instruction].guard & CONSTANT_OPERAND) == 0;
      for (size_t i = at; i < next; ++i) {
        const bool reads = !uses[i].is_written || guarded;
        if (reads && !block.written.get(uses[i].reg)) block.read_first.set(uses[i].reg);
      }
      for (size_t i = at; i < next; ++i) {
        if (uses[i].is_written) block.written.set(uses[i].reg);
      }
      at = next;
    }
  }
  for (bool changed = true; changed;) {
    changed = false;
    for (size_t i = blocks.size(); i-- > 0;) {
      BasicBlock& block = blocks[i];
      for (uint32_t next : block.next) {
        changed |= block.live_out.merge(blocks[next].live_in, nullptr);
      }
      changed |= block.live_in.merge(block.read_first, nullptr);
      changed |= block.live_in.merge(block.live_out, &block.written);
    }
  }

  struct Range {
    uint32_t first = ~0u, last = 0;
    void extend(uint32_t i) {
      first = std::min(first, i);
      last = std::max(last, i);
    }
  };
  std::vector<Range> ranges(registers.size());
  for (const RegisterUse& use : uses) ranges[use.reg].extend(use.instruction);
  for (const BasicBlock& block : blocks) {
    block.live_in.for_each([&](size_t reg) { ranges[reg].extend(block.begin); });
    block.live_out.for_each([&](size_t reg) { ranges[reg].extend(block.end - 1); });
  }

  std::vector<size_t> order;
  uint32_t bytes = first_free;
  for (size_t i = 0; i < registers.size(); ++i) {
    if (registers[i].letter == PREDICATE) {
      registers[i].place = bytes;
      bytes += 4;
    } else if (ranges[i].first != ~0u) {
      order.push_back(i);
    }
  }
  bytes = (bytes + UNIT - 1) / UNIT * UNIT;
  std::sort(order.begin(), order.end(),
            [&](size_t a, size_t b) { return ranges[a].first < ranges[b].first; });
  // Registers of 32 and 64 bits never share a place: diverged threads of a warp may use it at the
  // same time in their own lanes, and lanes of 64 bits have other offsets.
  for (const bool wide : {false, true}) {
    const uint32_t size = wide ? 2 * UNIT : UNIT;
    std::vector<uint32_t> busy_until;  // last instruction of the current user, per place
    for (size_t i : order) {
      if ((registers[i].letter == DOUBLE) != wide) continue;
      const auto free = std::find_if(busy_until.begin(), busy_until.end(),
                                     [&](uint32_t until) { return until < ranges[i].first; });
      registers[i].place = bytes + static_cast<uint32_t>(free - busy_until.begin()) * size;
      if (free == busy_until.end()) {
        busy_until.push_back(ranges[i].last);
      } else {
        *free = ranges[i].last;
      }
    }
    bytes += static_cast<uint32_t>(busy_until.size()) * size;
  }
  return bytes;
}

}  // namespace vgg::emulator
