#include "emulator/run/block.h"

#include <algorithm>
#include <cstring>

#include "emulator/core/lanes.h"
#include "emulator/run/cluster.h"

namespace vgg::emulator {
namespace {

template <class T>
void add_rank(std::vector<Line>& constants, const std::vector<Operand>& addresses, int rank) {
  for (const Operand address : addresses) {
    auto* lanes = reinterpret_cast<T*>(reinterpret_cast<char*>(constants.data()) +
                                       (address & ~CONSTANT_OPERAND));
    for (int lane = 0; lane < LANES; ++lane) lanes[lane] += static_cast<T>(rank) << RANK_SHIFT;
  }
}

// The kernel's constants as the block of that rank sees them.
std::vector<Line> constants_of_block(const Kernel& kernel, int rank) {
  std::vector<Line> constants = kernel.constants;
  add_rank<uint32_t>(constants, kernel.shared_addresses, rank);
  add_rank<uint64_t>(constants, kernel.wide_shared_addresses, rank);
  return constants;
}

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
  if (rank > 0) constants_ = constants_of_block(kernel, rank);
  const uint32_t threads = launch.block.x * launch.block.y * launch.block.z;
  for (size_t i = 0; i < warps_.size(); ++i) {
    Warp& warp = warps_[i];
    warp.registers = reinterpret_cast<char*>(registers_.data() + i * lines);
    warp.constants =
        reinterpret_cast<const char*>((rank == 0 ? kernel.constants : constants_).data());
    warp.block = this;
    warp.context = &context_;
    warp.warp_id = static_cast<int>(i);
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
      const uint32_t thread = warp.warp_id * LANES + lane;
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
                                 static_cast<uint32_t>(warp.warp_id),
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
  shared.start_block(launch_.shared_bytes, rank());
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
    warp.warpgroup = &warpgroups[warp.warpgroup_id()];
    warp.executed = 0;
    warp.copies.clear();
    warp.first_copy = 0;
    warp.barrier = 0;
    std::fill(std::begin(warp.committed), std::end(warp.committed), 0);
    warp.bulk_stores.clear();
    std::fill(std::begin(warp.bulk_committed), std::end(warp.bulk_committed), 0);
    std::fill(std::begin(warp.polled), std::end(warp.polled), 0);
    warp.registers_held = kernel().launch_registers;
    warp.fenced = 0;
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
      return 1 << 16;  // until it waits, with an occasional check of `stopped`
  }
}

bool Block::pass_time() {
  bool woken = false;
  for (Warp& warp : warps_) {
    for (Group& group : warp.groups) {
      const bool polls = group.wait == Wait::mbarrier && kernel().reads_clock;
      if (!group.waits || (group.wait != Wait::time && !polls)) continue;
      group.waits = false;
      // The next query fails like a first one: see mbarriers.h.
      if (polls) for_each_lane(group.mask, [&](int lane) { warp.polled[lane] = 0; });
      warp.state = Warp::State::ready;
      woken = true;
    }
  }
  return woken;
}

bool Block::step() {
  const int warp = next_warp();
  if (warp < 0) return false;
  run_warp(warps_[warp], time_slice());
  return true;
}

}  // namespace vgg::emulator
