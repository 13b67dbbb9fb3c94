#include "emulator/run/block.h"

#include <algorithm>
#include <cstring>

#include "emulator/core/lanes.h"
#include "emulator/run/cluster.h"

namespace vgg::emulator {
namespace {

constexpr uint32_t NOWHERE = ~0u;

}  // namespace

Block::Block(const LaunchState& launch, Cluster& cluster, int rank)
    : races(cluster.time),
      mbarriers(context_, races, warps_),
      context_{launch.kernel, launch.options, cluster.time, launch.cluster, rank},
      launch_(launch),
      cluster_(cluster),
      warps_((launch.block.x * launch.block.y * launch.block.z + LANES - 1) / LANES) {
  const Kernel& kernel = launch.kernel;
  const size_t lines = (kernel.register_bytes + sizeof(Line) - 1) / sizeof(Line) + 1;
  registers_.resize(lines * warps_.size());
  local_.resize(static_cast<size_t>(kernel.local_bytes) * warps_.size() * LANES);
  const uint32_t threads = launch.block.x * launch.block.y * launch.block.z;
  for (size_t i = 0; i < warps_.size(); ++i) {
    Warp& warp = warps_[i];
    warp.registers = reinterpret_cast<char*>(registers_.data() + i * lines);
    warp.constants = reinterpret_cast<const char*>(kernel.constants.data());
    warp.block = this;
    warp.context = &context_;
    warp.index = static_cast<int>(i);
    const uint32_t rest = threads - static_cast<uint32_t>(i) * LANES;
    warp.existing = rest >= LANES ? ALL_LANES : (1u << rest) - 1;
  }
}

void Block::fill_specials(Warp& warp) {
  const Dim3& grid = launch_.grid;
  const Dim3& block = launch_.block;
  const Dim3& index = context_.index;
  for (const auto& [special, place] : launch_.kernel.specials) {
    auto* lanes = warp.lanes<uint32_t>(place);
    const Dim3& cluster = launch_.cluster;
    const Dim3 rank = index_in_cluster(cluster, context_.rank);
    for (int lane = 0; lane < LANES; ++lane) {
      const uint32_t thread = warp.index * LANES + lane;
      const uint32_t values[] = {thread % block.x,
                                 thread / block.x % block.y,
                                 thread / block.x / block.y,
                                 index.x,
                                 index.y,
                                 index.z,
                                 block.x,
                                 block.y,
                                 block.z,
                                 grid.x,
                                 grid.y,
                                 grid.z,
                                 static_cast<uint32_t>(warp.index),
                                 static_cast<uint32_t>(warps_.size()),
                                 rank.x,
                                 rank.y,
                                 rank.z,
                                 cluster.x,
                                 cluster.y,
                                 cluster.z,
                                 index.x / cluster.x,
                                 index.y / cluster.y,
                                 index.z / cluster.z,
                                 grid.x / cluster.x,
                                 grid.y / cluster.y,
                                 grid.z / cluster.z,
                                 static_cast<uint32_t>(context_.rank),
                                 cluster.x * cluster.y * cluster.z};
      lanes[lane] = values[static_cast<int>(special)];
    }
  }
}

void Block::start(Dim3 index) {
  const Dim3& grid = launch_.grid;
  context_.number =
      static_cast<uint32_t>((uint64_t{index.z} * grid.y + index.y) * grid.x + index.x);
  context_.index = index;
  context_.is_early = launch_.early;
  random_ = (options().seed + 1) * 2654435761u ^ (number() + 1) * 2246822519u;
  if (random_ == 0) random_ = 1;
  last_warp_ = options().schedule == Schedule::reverse ? static_cast<int>(warps_.size()) - 1 : 0;
  shared.start_block(launch_.shared_bytes);
  std::fill(std::begin(barriers_), std::end(barriers_), Barrier());
  mbarriers.start_block();
  warpgroups.assign((warps_.size() + WARPGROUP - 1) / WARPGROUP, {});
  free_registers = 0;
  live_warps_ = static_cast<int>(warps_.size());
  accesses_.clear();
  for (Warp& warp : warps_) {
    warp.state = Warp::State::ready;
    warp.live = warp.existing;
    warp.groups.assign(1, {0, warp.existing, false});
    warp.at = nullptr;
    warp.group = &warpgroups[warp.index / WARPGROUP];
    warp.executed = 0;
    warp.copies.clear();
    warp.first_copy = 0;
    warp.barrier = 0;
    std::fill(std::begin(warp.committed), std::end(warp.committed), 0);
    warp.bulk_stores.clear();
    std::fill(std::begin(warp.bulk_committed), std::end(warp.bulk_committed), 0);
    std::fill(std::begin(warp.polled), std::end(warp.polled), 0);
    warp.registers_held = kernel().launch_registers;
    warp.fenced.clear();
    if (kernel().has_wgmma) {
      warp.register_state.assign(kernel().register_bytes / REGISTER_BYTES + 1, 0);
    }
    warp.cluster_arrived = 0;
    warp.cluster_phase = 0;
    warp.wgmma_committed = 0;
    warp.wgmma_fenced = false;
    fill_specials(warp);
  }
  races.start_block(launch_.shared_bytes, kernel().shared_granularity, warps_, rank(),
                    kernel().reads_other_blocks, options().races);
}

int Block::next_warp() {
  const int count = static_cast<int>(warps_.size());
  auto ready = [&](int i) { return warps_[i].state == Warp::State::ready; };
  int first = 0, step = 1;
  switch (options().schedule) {
    case Schedule::forward:
      break;
    case Schedule::reverse:
      first = count - 1;
      step = count - 1;
      break;
    case Schedule::round_robin:
      first = last_warp_ + 1;
      break;
    case Schedule::random:
      random_ ^= random_ << 13;
      random_ ^= random_ >> 17;
      random_ ^= random_ << 5;
      first = static_cast<int>(random_ >> 8);
      break;
  }
  for (int i = 0, warp = first % count; i < count; ++i, warp = (warp + step) % count) {
    if (ready(warp)) return last_warp_ = warp;
  }
  return -1;
}

uint64_t Block::time_slice() {
  switch (options().schedule) {
    case Schedule::round_robin:
      return 1;
    case Schedule::random:
      return 1 + (random_ & 31);
    default:
      return 1 << 16;  // until it waits, but for a look at `stopped` now and then
  }
}

bool Block::step() {
  const int warp = next_warp();
  if (warp < 0) return false;
  run_warp(warps_[warp], time_slice());
  return true;
}

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
           "still runs after " + std::to_string(limit) + " instructions: an endless loop?");
    }
    uint32_t pc = warp.groups[current].pc;
    const uint32_t mask = warp.groups[current].mask;
    const bool alone = warp.groups.size() == 1;
    uint32_t meet = NOWHERE;  // where the next group is
    for (const Group& other : warp.groups) {
      if (other.pc > pc) meet = std::min(meet, other.pc);
    }
    const uint64_t steps = std::min(budget, limit - warp.executed);
    uint64_t left = steps;
    const Instruction* at = nullptr;  // needs control()
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
  if (in.control == Control::wait) return ask(warp, current, in, active);
  if (!gather(warp, current, in, active)) return;
  if (in.control == Control::wait_aligned) return ask(warp, current, in, active);
  if (in.control == Control::barrier || in.control == Control::arrive) {
    warp.groups[current].pc = pc + 1;
    arrive_at_barrier(warp, in, active);
  } else {
    in.handler(warp, in, active);
    warp.groups[current].pc = pc + 1;
  }
}

void Block::ask(Warp& warp, size_t current, const Instruction& in, uint32_t active) {
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
        fail(warp, in, lane, "the member mask does not name the thread itself");
      }
      needed |= members[lane];
    });
    needed &= warp.live;
  } else if ((warp.live & needed) != needed) {
    fail(warp, in, -1,
         "needs every thread of the warp, but " + lanes_of(needed & ~warp.live) +
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
    if (index[lane] >= table.size()) fail(warp, in, lane, "index beyond the table");
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
