// cp.async. Its bytes are in flight until the issuing thread waits for them. With Options::lazy
// they arrive at the wait, otherwise at once.

#include <algorithm>
#include <cstring>

#include "emulator/decode/decode.h"
#include "emulator/instructions/bulk_copies.h"
#include "emulator/instructions/instructions.h"
#include "emulator/instructions/memory_access.h"
#include "emulator/run/block.h"

namespace vgg::emulator {
namespace {

enum Source : uint8_t { ALL, SOURCE_SIZE, IGNORE_PREDICATE };  // Instruction::mode

void copy_lane(Block& block, const AsyncCopy& copy, int lane) {
  char* to = block.shared.data() + copy.to[lane];
  if (copy.read_bytes[lane] == 16) {  // the usual case
    std::memcpy(to, copy.from[lane], 16);
    return;
  }
  const uint32_t bytes = copy.instruction->bytes, from_memory = copy.read_bytes[lane];
  if (from_memory != 0) std::memcpy(to, copy.from[lane], from_memory);
  std::memset(to + from_memory, 0, bytes - from_memory);
}

// Operands: to, from [, bytes to read, or a predicate to read none].
void cp_async(Warp& warp, const Instruction& in, uint32_t active) {
  Block& block = *warp.block;
  const uint32_t bytes = in.bytes;
  Addresses to = read_addresses(warp, active, in.operands[0], in.wide_address, in.immediate);
  const auto offset = static_cast<int32_t>(in.target);
  const Addresses from = read_addresses(warp, active, in.operands[1], true, offset);
  block.shared.check(warp, in, active, to.of, bytes, "writes");
  block.shared.count_passes(block.counters, active, to.of, bytes);

  warp.copies.emplace_back();
  AsyncCopy& copy = warp.copies.back();
  copy.instruction = &in;
  copy.mask = active;
  for (int lane = 0; lane < LANES; ++lane) {
    copy.to[lane] = static_cast<uint32_t>(to.of[lane]);
    copy.from[lane] = reinterpret_cast<const char*>(from.of[lane]);
    copy.group[lane] = warp.committed[lane];
  }
  uint32_t sizes[LANES];
  for (uint32_t& size : sizes) size = bytes;
  if (in.mode == SOURCE_SIZE)
    std::memcpy(sizes, warp.lanes<uint32_t>(in.operands[2]), sizeof(sizes));
  if (in.mode == IGNORE_PREDICATE) {
    const uint32_t ignored = *warp.lanes<uint32_t>(in.operands[2]);
    for (int lane = 0; lane < LANES; ++lane) sizes[lane] = is_active(ignored, lane) ? 0 : bytes;
  }
  uint32_t reading = 0, whole = 0, too_large = 0;
  for (int lane = 0; lane < LANES; ++lane) {
    copy.read_bytes[lane] = static_cast<uint8_t>(sizes[lane]);
    reading |= static_cast<uint32_t>(sizes[lane] > 0) << lane;
    whole |= static_cast<uint32_t>(sizes[lane] == bytes) << lane;
    too_large |= static_cast<uint32_t>(sizes[lane] > bytes) << lane;
  }
  reading &= active;
  whole &= active;
  if (too_large & active) {
    fail(warp, in, __builtin_ctz(too_large & active), "the source size exceeds the copy size");
  }
  for_each_lane(reading, [&](int lane) { block.counters.cp_async_bytes += sizes[lane]; });
  if (whole == active) {
    block.global().check_read(warp, in, active, from.of, bytes, block.number());
  } else {
    for_each_lane(reading, [&](int lane) {
      if (from.of[lane] % bytes != 0) {
        fail(warp, in, lane, "copies from a misaligned global address");
      }
      // A source smaller than the copy may end at any byte.
      const bool part = copy.read_bytes[lane] != bytes;
      for (uint32_t i = 0; i < copy.read_bytes[lane]; i += part ? 1 : bytes) {
        block.global().check_read_one(warp, in, lane, from.of[lane] + i, part ? 1 : bytes,
                                      block.number());
      }
    });
  }
  block.races.begin_copy(warp, in, active, to.of, bytes);
  if (!block.options().lazy) {
    for_each_lane(active, [&](int lane) { copy_lane(block, copy, lane); });
  }
  ++block.counters.cp_async;
  block.counters.load_sectors += count_sectors(from.of, reading);
}

void commit_group(Warp& warp, const Instruction&, uint32_t active) {
  for_each_lane(active, [&](int lane) { ++warp.committed[lane]; });
}

// Completes the copies for which done(lane, group) is true. If it is true for a group, it is true
// for all earlier groups.
template <class F>
void complete_copies(Warp& warp, uint32_t active, F done) {
  Block& block = *warp.block;
  for (size_t i = warp.first_copy; i < warp.copies.size(); ++i) {
    AsyncCopy& copy = warp.copies[i];
    uint32_t ready = 0;
    for (int lane = 0; lane < LANES; ++lane) {
      ready |= static_cast<uint32_t>(done(lane, copy.group[lane])) << lane;
    }
    if ((ready & active) == 0) break;
    for_each_lane(copy.mask & active & ready, [&](int lane) {
      if (block.options().lazy) copy_lane(block, copy, lane);
      block.races.end_copy(warp, copy.to[lane], copy.instruction->bytes);
    });
    copy.mask &= ~(active & ready);
  }
  while (warp.first_copy < warp.copies.size() && warp.copies[warp.first_copy].mask == 0) {
    ++warp.first_copy;
  }
  if (2 * warp.first_copy >= warp.copies.size()) {  // rare enough to be cheap
    warp.copies.erase(warp.copies.begin(), warp.copies.begin() + warp.first_copy);
    warp.first_copy = 0;
  }
}

void wait_group(Warp& warp, const Instruction& in, uint32_t active) {
  const auto may_stay = static_cast<uint32_t>(in.immediate);
  complete_copies(warp, active, [&](int lane, uint32_t group) {
    return group + may_stay < warp.committed[lane];
  });
}

void wait_all(Warp& warp, const Instruction&, uint32_t active) {
  complete_copies(warp, active, [](int, uint32_t) { return true; });
}

void decode_cp(Decoder& decoder, const PtxInstruction& from,
               const std::vector<std::string>& modifiers, Instruction& to) {
  auto is = [&](size_t i, const char* text) {
    return i < modifiers.size() && modifiers[i] == text;
  };
  if (is(0, "async") && is(1, "bulk")) return decode_bulk_copy(decoder, from, modifiers, to);
  if (is(0, "async") && modifiers.size() == 2) {
    if (is(1, "commit_group")) {
      to.handler = commit_group;
      return decoder.expect_operands(0);
    }
    if (is(1, "wait_all")) {
      to.handler = wait_all;
      return decoder.expect_operands(0);
    }
    if (is(1, "wait_group")) {
      decoder.expect_operands(1);
      to.handler = wait_group;
      to.immediate = static_cast<int64_t>(from.operands[0].bits);
      return;
    }
  }
  const bool known_space = is(2, "shared") || is(2, "shared::cta");
  const bool known =
      is(0, "async") && (is(1, "ca") || is(1, "cg")) && known_space && is(3, "global") &&
      (modifiers.size() == 4 ||
       (modifiers.size() == 5 && (is(4, "L2::64B") || is(4, "L2::128B") || is(4, "L2::256B"))));
  if (!known) decoder.fail("this copy is not modelled");
  if (from.operands.size() != 4) decoder.expect_operands(3);
  const uint64_t bytes = from.operands[2].bits;
  if (from.operands[2].kind != PtxOperand::Kind::integer ||
      !(bytes == 16 || (is(1, "ca") && (bytes == 4 || bytes == 8)))) {
    decoder.fail("copies 16 bytes, or .ca: 4 or 8");
  }
  to.handler = cp_async;
  to.bytes = static_cast<uint8_t>(bytes);
  Instruction source;
  decoder.read_address(from.operands[0], to);
  decoder.read_address(from.operands[1], source);
  if (!source.wide_address) decoder.fail("the source is to have a 64-bit address");
  to.target = static_cast<uint32_t>(source.immediate);
  if (from.operands.size() == 4) {
    const bool predicate = decoder.register_letter(from.operands[3]) == PREDICATE;
    decoder.read(from.operands[3], predicate ? PREDICATE : WORD);
    to.mode = predicate ? IGNORE_PREDICATE : SOURCE_SIZE;
  }
}

}  // namespace

void add_async_copies(InstructionTable& table) { table.add_family("cp", decode_cp); }

}  // namespace vgg::emulator
