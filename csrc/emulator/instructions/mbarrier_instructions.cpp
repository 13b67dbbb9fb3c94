// mbarrier.*

#include "emulator/decode/decode.h"
#include "emulator/instructions/instructions.h"
#include "emulator/instructions/memory_access.h"
#include "emulator/run/block.h"

namespace vgg::emulator {
namespace {

enum Flags : uint8_t {  // Instruction::mode
  SYNCHRONISES = 1,     // releases or acquires
  EXPECTS_BYTES = 2,
  PARITY = 4,  // the operand is the parity of the phase; otherwise a state
};

// The state that mbarrier.arrive returns: the current phase and its pending arrivals.
constexpr int COUNT_BITS = 20;
uint64_t state_of(const Mbarrier& barrier) { return barrier.phase << COUNT_BITS | barrier.pending; }

SharedPlace place_of(const Warp& warp, const Instruction& in, const Addresses& at, int lane) {
  const SharedPlace place = locate_shared(warp, in, lane, at.of[lane], in.space, MBARRIER_BYTES,
                                          MBARRIER_BYTES, "uses as an mbarrier");
  if (place.block != warp.block) place.block->note_access(warp.actor, warp.stamp, warp, in);
  return place;
}

SharedPlace own_place(const Warp& warp, const Instruction& in, const Addresses& at, int lane) {
  const SharedPlace place = place_of(warp, in, at, lane);
  if (place.block != warp.block)
    fail(warp, in, lane, "expected an mbarrier of the thread's own block");
  return place;
}

// Operands: address, count.
void init(Warp& warp, const Instruction& in, uint32_t active) {
  const Addresses at = read_addresses(warp, active, in.operands[0], in.wide_address, in.immediate);
  const auto* count = warp.lanes<uint32_t>(in.operands[1]);
  for_each_lane(active, [&](int lane) {
    const SharedPlace place = own_place(warp, in, at, lane);
    place.block->mbarriers.init(warp, in, lane, place.offset, count[lane]);
  });
}

// Operand: address.
void invalidate(Warp& warp, const Instruction& in, uint32_t active) {
  const Addresses at = read_addresses(warp, active, in.operands[0], in.wide_address, in.immediate);
  for_each_lane(active, [&](int lane) {
    const SharedPlace place = own_place(warp, in, at, lane);
    place.block->mbarriers.invalidate(warp, in, lane, place.offset);
  });
}

// Operands: address, bytes.
template <bool COMPLETES>
void count_bytes(Warp& warp, const Instruction& in, uint32_t active) {
  const Addresses at = read_addresses(warp, active, in.operands[0], in.wide_address, in.immediate);
  const auto* bytes = warp.lanes<uint32_t>(in.operands[1]);
  for_each_lane(active, [&](int lane) {
    const SharedPlace place = place_of(warp, in, at, lane);
    Mbarriers& mbarriers = place.block->mbarriers;
    Mbarrier& barrier = mbarriers.find(warp, in, lane, place.offset);
    if (COMPLETES) {
      mbarriers.complete(warp, in, lane, barrier, bytes[lane], warp.stamp);
    } else {
      mbarriers.expect(warp, in, lane, barrier, bytes[lane]);
    }
  });
}

// Operands: state, address, count or bytes.
void arrive(Warp& warp, const Instruction& in, uint32_t active) {
  const Addresses at = read_addresses(warp, active, in.operands[1], in.wide_address, in.immediate);
  const auto* value = warp.lanes<uint32_t>(in.operands[2]);
  for_each_lane(active, [&](int lane) {
    const SharedPlace place = place_of(warp, in, at, lane);
    if (in.count != 0 && place.block != warp.block) {
      fail(warp, in, lane, "reads the state of an mbarrier in another block");
    }
    Mbarriers& mbarriers = place.block->mbarriers;
    Mbarrier& barrier = mbarriers.find(warp, in, lane, place.offset);
    warp.lanes<uint64_t>(in.operands[0])[lane] = state_of(barrier);
    const bool expects = in.mode & EXPECTS_BYTES;
    if (expects) mbarriers.expect(warp, in, lane, barrier, value[lane]);
    mbarriers.arrive(warp, in, lane, barrier, expects ? 1 : value[lane], in.mode & SYNCHRONISES);
  });
}

bool is_complete(const Warp& warp, const Instruction& in, int lane, const Mbarrier& barrier) {
  if (in.mode & PARITY) {
    return (barrier.phase & 1) != (warp.lanes<uint32_t>(in.operands[2])[lane] & 1);
  }
  const uint64_t asked = warp.lanes<uint64_t>(in.operands[2])[lane] >> COUNT_BITS;
  if (asked > barrier.phase || asked + 1 < barrier.phase) {
    fail(warp, in, lane,
         "queries phase " + std::to_string(asked) + " of an mbarrier in phase " +
             std::to_string(barrier.phase) + ": expected the current or the previous phase");
  }
  return asked < barrier.phase;
}

// Operands: predicate, address, state or parity.
void wait(Warp& warp, const Instruction& in, uint32_t active) {
  Block& block = *warp.block;
  const Addresses at = read_addresses(warp, active, in.operands[1], in.wide_address, in.immediate);
  uint32_t complete = 0, object = ANY_OBJECT;
  bool asks_again = true;
  const Clock* acquired = nullptr;
  bool one = true;  // all threads query the same mbarrier
  for_each_lane(active, [&](int lane) {
    const SharedPlace place = own_place(warp, in, at, lane);
    const Mbarrier& barrier = block.mbarriers.find(warp, in, lane, place.offset);
    if (acquired == nullptr) object = place.offset;
    one &= acquired == nullptr || acquired == &barrier.acquired;
    acquired = &barrier.acquired;
    if (is_complete(warp, in, lane, barrier)) {
      complete |= 1u << lane;
      warp.polled[lane] = 0;
      return;
    }
    const uint64_t key = uint64_t{place.offset} << 32 | (barrier.phase & 0x7fffffff) | 1u << 31;
    asks_again &= warp.polled[lane] == key;
    warp.polled[lane] = key;
  });
  if (complete == 0 && asks_again) return warp.wait_for(Wait::mbarrier, one ? object : ANY_OBJECT);
  uint32_t* result = warp.lanes<uint32_t>(in.operands[0]);
  *result = (*result & ~active) | complete;
  if (complete == 0 || !(in.mode & SYNCHRONISES)) return;
  if (one) return block.races.acquire_threads(warp, complete, acquired->data());
  for_each_lane(complete, [&](int lane) {
    const SharedPlace place = own_place(warp, in, at, lane);
    const Mbarrier& barrier = block.mbarriers.find(warp, in, lane, place.offset);
    block.races.acquire_threads(warp, 1u << lane, barrier.acquired.data());
  });
}

uint32_t pending_count(uint64_t state) {
  return static_cast<uint32_t>(state & ((1u << COUNT_BITS) - 1));
}

void decode_mbarrier(Decoder& decoder, const PtxInstruction& from,
                     const std::vector<std::string>& words, Instruction& to) {
  Modifiers modifiers(words);
  const std::string kind = modifiers.take_one_of(
      {"init", "inval", "arrive", "expect_tx", "complete_tx", "test_wait", "try_wait"});
  const bool waits = kind == "test_wait" || kind == "try_wait";
  const bool arrives = kind == "arrive", counts = kind == "expect_tx" || kind == "complete_tx";
  bool remote = false;
  if (modifiers.take("shared") || modifiers.take("shared::cta")) {
    to.space = Space::shared;
  } else if ((arrives || counts) && modifiers.take("shared::cluster")) {
    to.space = Space::cluster;
    remote = true;
  } else {
    to.space = Space::generic;
  }
  to.mode = SYNCHRONISES;
  if (arrives || waits || counts) {
    modifiers.take_one_of({"cta", "cluster"});
    if (modifiers.take("relaxed")) {
      to.mode = 0;
    } else if (arrives) {
      modifiers.take("release");
    } else if (waits) {
      modifiers.take("acquire");
    }
  }
  if (arrives && modifiers.take("expect_tx")) to.mode |= EXPECTS_BYTES;
  if (waits && modifiers.take("parity")) to.mode |= PARITY;
  if (kind.empty() || !modifiers.take("b64") || !modifiers.empty()) {
    decoder.fail("this use of an mbarrier is not modelled");
  }
  decoder.kernel().has_mbarriers = true;
  const size_t operands = from.operands.size();
  if (kind == "inval") {
    decoder.expect_operands(1);
    decoder.read_address(from.operands[0], to);
    to.handler = invalidate;
  } else if (kind == "init" || counts) {
    decoder.expect_operands(2);
    decoder.read_address(from.operands[0], to);
    decoder.read(from.operands[1], WORD);
    to.handler = kind == "init"        ? init
                 : kind == "expect_tx" ? count_bytes<false>
                                       : count_bytes<true>;
  } else if (arrives) {
    const bool expects = to.mode & EXPECTS_BYTES;
    if (operands != 3 && (operands != 2 || expects)) decoder.fail("wrong number of operands");
    if (remote && from.operands[0].name != "_") {
      decoder.fail("mbarrier.arrive on shared::cluster does not return a state");
    }
    decoder.write(from.operands[0], DOUBLE);
    decoder.read_address(from.operands[1], to);
    if (operands == 3) {
      decoder.read(from.operands[2], WORD);
    } else {
      decoder.read_constant(1, WORD);
    }
    to.count = from.operands[0].name != "_";
    to.handler = arrive;
  } else {
    if (operands != 3 && (operands != 4 || kind == "test_wait")) {  // the fourth is a time limit
      decoder.fail("wrong number of operands");
    }
    decoder.write(from.operands[0], PREDICATE);
    decoder.read_address(from.operands[1], to);
    decoder.read(from.operands[2], to.mode & PARITY ? WORD : DOUBLE);
    to.handler = wait;
    to.control = Control::wait;
  }
}

}  // namespace

void add_mbarriers(InstructionTable& table) {
  table.add_family("mbarrier", decode_mbarrier);
  table.add<pending_count>("mbarrier.pending_count.b64");
}

}  // namespace vgg::emulator
