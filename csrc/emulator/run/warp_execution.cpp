// Execution of one warp: the loop over instructions, divergence and reconvergence.

#include <algorithm>

#include "emulator/core/lanes.h"
#include "emulator/run/block.h"

namespace vgg::emulator {
namespace {

constexpr uint32_t NOWHERE = ~0u;

}  // namespace

size_t Block::pick_group(Warp& warp) {
  auto& groups = warp.groups;
  if (groups.size() == 1 && !groups[0].waits) return 0;
  for (size_t i = 0; i < groups.size(); ++i) {
    for (size_t j = groups.size() - 1; j > i; --j) {
      if (groups[i].pc != groups[j].pc) continue;
      groups[i].mask |= groups[j].mask;
      groups[i].waits = false;
      groups[i].wait = Wait::threads;
      groups.erase(groups.begin() + j);
    }
  }
  size_t best = groups.size();
  for (size_t i = 0; i < groups.size(); ++i) {
    if (!groups[i].waits && (best == groups.size() || groups[i].pc < groups[best].pc)) best = i;
  }
  if (best < groups.size()) return best;
  for (const Group& group : groups) {
    if (group.wait != Wait::threads) warp.state = Warp::State::waiting;
  }
  if (warp.state != Warp::State::waiting) fail_never_meet(warp);
  return best;
}

void Block::run_warp(Warp& warp, uint64_t budget) {
  const Instruction* code = kernel().code.data();
  const uint64_t limit = options().instruction_limit;
  while (warp.state == Warp::State::ready && budget > 0) {
    const size_t current = pick_group(warp);
    if (warp.state == Warp::State::waiting) return;
    if (warp.executed >= limit) {
      fail(warp, code[warp.groups[current].pc], -1,
           "is still running after " + std::to_string(limit) + " instructions (an endless loop?)");
    }
    uint32_t pc = warp.groups[current].pc;
    const uint32_t mask = warp.groups[current].mask;
    const bool alone = warp.groups.size() == 1;
    uint32_t meet = NOWHERE;  // position of the next group
    for (const Group& other : warp.groups) {
      if (other.pc > pc) meet = std::min(meet, other.pc);
    }
    const uint64_t steps = std::min(budget, limit - warp.executed);
    uint64_t left = steps;
    const Instruction* at = nullptr;  // an instruction that needs control()
    uint32_t active = 0;
    while (left > 0) {
      const Instruction& in = code[pc];
      active = mask & (*warp.lanes<uint32_t>(in.guard) ^ in.guard_flip);
      --left;
      if (in.control == Control::none) {
        if (active != 0) in.handler(warp, in, active);
        ++pc;
      } else if (in.control == Control::branch && alone && (active == mask || active == 0)) {
        pc = active != 0 ? in.target : pc + 1;
      } else if (in.control == Control::aligned && active == ALL_LANES) {
        in.handler(warp, in, active);
        ++pc;
      } else {
        at = &in;
        break;
      }
      if (pc == meet) break;
    }
    warp.groups[current].pc = pc;
    warp.executed += steps - left;
    budget -= steps - left;
    if (at != nullptr) control(warp, current, *at, active);
  }
}

void Block::split(Warp& warp, size_t current, uint32_t leaving, uint32_t pc) {
  if (leaving == 0) return;
  warp.groups[current].mask &= ~leaving;
  if (warp.groups[current].mask == 0) {
    warp.groups[current] = {pc, leaving, false};
  } else {
    warp.groups.push_back({pc, leaving, false});
  }
}

void Block::control(Warp& warp, size_t current, const Instruction& in, uint32_t active) {
  const uint32_t pc = warp.groups[current].pc, mask = warp.groups[current].mask;
  if (active == 0) {
    warp.groups[current].pc = pc + 1;
    return;
  }
  switch (in.control) {
    case Control::branch:
      if (active == mask) {
        warp.groups[current].pc = in.target;
      } else {
        split(warp, current, active, in.target);
        warp.groups[current].pc = pc + 1;
      }
      return;
    case Control::branch_table:
      return branch_to_table(warp, current, in, active);
    case Control::exit:
      return exit(warp, current, in, active);
    default:
      break;
  }
  if (active != mask) split(warp, current, mask & ~active, pc + 1);
  if (in.control == Control::wait) return try_or_wait(warp, current, in, active);
  if (!gather(warp, current, in, active)) return;
  if (in.control == Control::wait_aligned) return try_or_wait(warp, current, in, active);
  if (in.control == Control::barrier || in.control == Control::arrive) {
    warp.groups[current].pc = pc + 1;
    arrive_at_barrier(warp, in, active);
  } else {
    in.handler(warp, in, active);
    warp.groups[current].pc = pc + 1;
  }
}

void Block::try_or_wait(Warp& warp, size_t current, const Instruction& in, uint32_t active) {
  warp.must_wait = false;
  in.handler(warp, in, active);
  Group& group = warp.groups[current];
  if (!warp.must_wait) {
    ++group.pc;
    return;
  }
  group.waits = true;
  group.wait = warp.wait;
  group.object = warp.wait_object;
}

bool Block::gather(Warp& warp, size_t current, const Instruction& in, uint32_t& active) {
  uint32_t needed = warp.existing;
  if (in.control == Control::member_mask) {
    const auto* members = warp.lanes<uint32_t>(in.operands[in.count]);
    needed = 0;
    for_each_lane(active, [&](int lane) {
      if (!is_active(members[lane], lane)) {
        fail(warp, in, lane, "the member mask does not contain the thread itself");
      }
      needed |= members[lane];
    });
    needed &= warp.live;
  } else if ((warp.live & needed) != needed) {
    fail(warp, in, -1,
         "needs all threads of the warp, but " + lanes_of(needed & ~warp.live) +
             (warp.at != nullptr ? " exited (" + kernel().where(*warp.at) + ')' : " exited"));
  } else if ((in.control == Control::aligned || in.control == Control::wait_aligned) &&
             needed != ALL_LANES) {
    fail(warp, in, -1, "needs 32 threads in the warp");
  }
  if ((needed & ~active) == 0) return true;
  warp.groups[current].waits = true;
  warp.groups[current].wait = Wait::threads;
  return false;
}

void Block::branch_to_table(Warp& warp, size_t current, const Instruction& in, uint32_t active) {
  const auto* index = warp.lanes<uint32_t>(in.operands[0]);
  const auto& table = kernel().tables[in.target];
  const uint32_t pc = warp.groups[current].pc, mask = warp.groups[current].mask;
  warp.groups.erase(warp.groups.begin() + current);
  if (mask != active) warp.groups.push_back({pc + 1, mask & ~active, false});
  for_each_lane(active, [&](int lane) {
    if (index[lane] >= table.size()) fail(warp, in, lane, "branch index beyond the table");
    warp.groups.push_back({table[index[lane]], 1u << lane, false});
  });
}

void Block::fail_never_meet(const Warp& warp) {
  const Instruction& in = kernel().code[warp.groups[0].pc];
  std::string text = "divergent warp: its threads never meet:";
  for (const Group& group : warp.groups) {
    text += (&group == &warp.groups[0] ? " " : "; ") + lanes_of(group.mask) + " wait at " +
            kernel().where(kernel().code[group.pc]);
  }
  fail(warp, in, -1, text);
}

}  // namespace vgg::emulator
