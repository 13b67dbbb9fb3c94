// Barriers of a block, and the text for deadlocks.

#include <algorithm>

#include "emulator/core/lanes.h"
#include "emulator/run/block.h"

namespace vgg::emulator {

uint32_t Block::uniform_value(const Warp& warp, const Instruction& in, Operand operand,
                              uint32_t active) const {
  const auto* lanes = warp.lanes<uint32_t>(operand);
  const uint32_t value = lanes[__builtin_ctz(active)];
  for_each_lane(active, [&](int lane) {
    if (lanes[lane] != value)
      fail(warp, in, lane, "the operands differ between threads of the warp");
  });
  return value;
}

void Block::arrive_at_barrier(Warp& warp, const Instruction& in, uint32_t active) {
  const uint32_t id = uniform_value(warp, in, in.operands[0], active);
  const uint32_t count = uniform_value(warp, in, in.operands[1], active);
  if (id >= MAX_BARRIERS)
    fail(warp, in, -1, "expected a barrier from 0 to 15, got " + std::to_string(id));
  uint32_t threads = 0;
  for (const Warp& other : warps_) {
    threads += __builtin_popcount(other.existing);
    if (count != 0 || other.state != Warp::State::done) continue;
    fail(warp, in, -1,
         "waits at barrier " + std::to_string(id) + ", but warp " + std::to_string(other.warp_id) +
             " has exited (" + kernel().where(*other.at) + ')');
  }
  if (count % LANES != 0)
    fail(warp, in, -1, "expected a multiple of 32 threads, got " + std::to_string(count));
  Barrier& barrier = barriers_[id];
  const uint32_t expected = count == 0 ? threads : count;
  if (barrier.arrived == 0) {
    barrier.expected = expected;
    barrier.first = &in;
    barrier.whole_block = count == 0;
  } else if (barrier.expected != expected) {
    fail(warp, in, -1,
         "waits at barrier " + std::to_string(id) + " for " + std::to_string(expected) +
             " threads; other warps wait there for " + std::to_string(barrier.expected) + " (" +
             kernel().where(*barrier.first) + ')');
  }
  // A warp counts as 32 threads, as on a GPU.
  barrier.arrived += count == 0 ? __builtin_popcount(warp.existing) : LANES;
  if (barrier.arrived > barrier.expected) {
    fail(warp, in, -1,
         "more threads arrive at barrier " + std::to_string(id) + " than it expects (" +
             std::to_string(barrier.expected) + ')');
  }
  barrier.seen.resize(warp.seen.size());
  races.release(warp, barrier.seen.data(), in.control == Control::arrive);
  if (in.control == Control::barrier) {
    warp.state = Warp::State::at_barrier;
    warp.at = &in;
    warp.barrier = static_cast<int>(id);
    barrier.waiting |= 1u << warp.warp_id;
    if (in.mode != 0) {  // bar.red
      const uint32_t votes = *warp.lanes<uint32_t>(in.operands[3]) & active;
      barrier.popc += __builtin_popcount(votes);
      barrier.all &= votes == active;
      barrier.any |= votes != 0;
    }
  }
  if (barrier.arrived == barrier.expected) complete(barrier);
}

void Block::complete(Barrier& barrier) {
  races.acquire(warps_, barrier.waiting, barrier.seen.data());
  for_each_lane(barrier.waiting, [&](int member) {
    Warp& warp = warps_[member];
    warp.state = Warp::State::ready;
    const Instruction& in = *warp.at;
    if (in.mode == 1) {
      auto* to = warp.lanes<uint32_t>(in.operands[2]);
      for (int lane = 0; lane < LANES; ++lane) to[lane] = barrier.popc;
    } else if (in.mode != 0) {
      const bool vote = in.mode == 2 ? barrier.all : barrier.any;
      *warp.lanes<uint32_t>(in.operands[2]) = vote ? ALL_LANES : 0;
    }
  });
  Clock seen = std::move(barrier.seen);  // keeps its memory
  std::fill(seen.begin(), seen.end(), 0);
  barrier = Barrier();
  barrier.seen = std::move(seen);
  ++counters.barriers;
}

std::string Block::status(const Warp& warp) const {
  if (warp.state == Warp::State::done) return " exited, " + kernel().where(*warp.at);
  if (warp.state == Warp::State::at_barrier) {
    const Barrier& barrier = barriers_[warp.barrier];
    return " at barrier " + std::to_string(warp.barrier) + " (" + std::to_string(barrier.arrived) +
           " of " + std::to_string(barrier.expected) + " threads), " + kernel().where(*warp.at);
  }
  std::string text;
  for (const Group& group : warp.groups) {
    const std::string who = group.mask == warp.existing ? "" : ' ' + lanes_of(group.mask);
    text += (text.empty() ? "" : " and") + who;
    switch (group.wait) {
      case Wait::threads:
        text += " waiting for the other threads";
        break;
      case Wait::mbarrier:
        text += " at " + mbarriers.describe(group.object);
        break;
      case Wait::registers:
        text += " waiting for registers (" + std::to_string(free_registers) +
                " are free for each of the 32 threads of a warp)";
        break;
      case Wait::warpgroup:
        text += " waiting for the other warps of its warpgroup";
        break;
      case Wait::cluster:
        text += " waiting at the barrier of its cluster";
        break;
      case Wait::time:
        text += " sleeping";
        break;
    }
    text += ", " + kernel().where(kernel().code[group.pc]);
  }
  return text;
}

std::string Block::waiting() const {
  std::string text;
  for (size_t i = 0; i < warps_.size();) {
    const Warp& first = warps_[i];
    const std::string what = status(first);
    size_t end = i + 1;
    while (end < warps_.size() && status(warps_[end]) == what) ++end;
    text += i == 0 ? " " : "; ";
    text += end == i + 1
                ? "warp " + std::to_string(i) + ' ' + threads_of(first.warp_id, first.existing)
                : "warps " + std::to_string(i) + '-' + std::to_string(end - 1);
    text += what;
    i = end;
  }
  return text;
}

}  // namespace vgg::emulator
