#include "emulator/run/cluster.h"

#include <algorithm>

namespace vgg::emulator {

Cluster::Cluster(const LaunchState& launch) : launch_(launch) {
  const Kernel& kernel = launch.kernel;
  const uint32_t threads = launch.block.x * launch.block.y * launch.block.z;
  Actors& actors = time.actors;
  actors.warps = static_cast<int>((threads + LANES - 1) / LANES);
  actors.warpgroups = kernel.has_wgmma ? (actors.warps + WARPGROUP - 1) / WARPGROUP : 0;
  actors.mbarriers = kernel.has_mbarriers ? MAX_MBARRIERS : 0;
  actors.blocks = static_cast<int>(launch.cluster.x * launch.cluster.y * launch.cluster.z);
  actors.proxies = kernel.has_async_proxy;
  actors.inits = kernel.has_relaxed_arrivals;
  for (int rank = 0; rank < actors.blocks; ++rank) {
    blocks_.push_back(std::make_unique<Block>(launch, *this, rank));
  }
}

Counters Cluster::counters() const {
  Counters sum;
  for (const auto& block : blocks_) sum += block->counters;
  return sum;
}

bool Cluster::run(uint64_t number) {
  const Dim3 &grid = launch_.grid, &cluster = launch_.cluster;
  const uint64_t columns = grid.x / cluster.x, rows = grid.y / cluster.y;
  const Dim3 first = {static_cast<uint32_t>(number % columns) * cluster.x,
                      static_cast<uint32_t>(number / columns % rows) * cluster.y,
                      static_cast<uint32_t>(number / columns / rows) * cluster.z};
  // Records of earlier blocks are older than `now`. Before the time overflows, it restarts.
  time.now = time.now > 1u << 30 ? 1 : time.now + 1;
  time.last.assign(time.actors.all(), 0);
  random_ = (launch_.options.seed + 1) * 2654435761u ^ static_cast<uint32_t>(number);
  in_flight_.clear();
  nanoseconds_ = 0;
  phase_ = 1;
  released_.assign(time.actors.clock_size(), 0);
  last_block_ = launch_.options.schedule == Schedule::reverse ? size() - 1 : 0;
  for (int rank = 0; rank < size(); ++rank) {
    const Dim3 in_cluster = index_in_cluster(cluster, rank);
    blocks_[rank]->start({first.x + in_cluster.x, first.y + in_cluster.y, first.z + in_cluster.z});
  }
  while (step() || complete_one() || pass_time()) {
    if (launch_.stopped.load(std::memory_order_relaxed)) return false;
  }
  for (const auto& block : blocks_) {
    if (!block->is_done()) fail_deadlock();
  }
  return true;
}

uint32_t Cluster::random() {
  random_ = random_ * 1664525u + 1013904223u;
  return random_ >> 8;
}

bool Cluster::step() {
  const int count = size();
  if (count == 1) return blocks_[0]->step();
  int first = 0, direction = 1;
  switch (launch_.options.schedule) {
    case Schedule::forward:
      break;
    case Schedule::reverse:
      first = count - 1;
      direction = count - 1;
      break;
    case Schedule::round_robin:
      first = last_block_ + 1;
      break;
    case Schedule::random:
      first = static_cast<int>(random());
      break;
  }
  for (int i = 0, rank = first % count; i < count; ++i, rank = (rank + direction) % count) {
    last_block_ = rank;
    if (blocks_[rank]->step()) return true;
  }
  return false;
}

void Cluster::start(AsyncOperation operation) {
  if (!launch_.options.lazy) return operation.complete();
  in_flight_.push_back(std::move(operation));
}

bool Cluster::complete_one() {
  if (in_flight_.empty()) return false;
  size_t i = 0;
  if (launch_.options.schedule == Schedule::reverse) i = in_flight_.size() - 1;
  if (launch_.options.schedule == Schedule::random) i = random() % in_flight_.size();
  const AsyncOperation operation = std::move(in_flight_[i]);
  in_flight_.erase(in_flight_.begin() + static_cast<std::ptrdiff_t>(i));
  operation.complete();
  return true;
}

// When nothing else can happen, a millisecond passes. Returns false if nothing waits for that, or
// if threads have waited for minutes: then it is a deadlock.
bool Cluster::pass_time() {
  constexpr uint64_t STEP_NS = 1000 * 1000, LIMIT_NS = 100'000 * STEP_NS;
  nanoseconds_ += STEP_NS;
  bool woken = false;
  for (const auto& block : blocks_) woken |= block->pass_time();
  return woken && (!launch_.kernel.reads_clock || nanoseconds_ < LIMIT_NS);
}

void Cluster::arrive(Warp& warp, const Instruction& in, uint32_t active, bool releases) {
  if (warp.cluster_arrived & active) {
    fail(warp, in, __builtin_ctz(warp.cluster_arrived & active),
         "arrives at barrier.cluster again without barrier.cluster.wait");
  }
  RaceDetector& races = warp.block->races;
  if (!releases) {
    // The initialisations before the last fence.mbarrier_init, and no other access.
    uint32_t& released = released_[time.actors.first_init() + warp.actor];
    released = std::max(released, warp.fenced);
  } else if (active == warp.live) {
    races.release(warp, released_.data(), true);
  } else {
    races.release_threads(warp, active, released_.data());
  }
  warp.cluster_arrived |= active;
  warp.cluster_phase = phase_;
  complete_barrier();
}

void Cluster::complete_barrier() {
  bool any = false;
  for (const auto& block : blocks_) {
    for (const Warp& warp : block->warps()) {
      const uint32_t arrived = warp.cluster_phase == phase_ ? warp.cluster_arrived : 0;
      if (warp.live & ~arrived) return;
      any |= arrived != 0;
    }
  }
  if (!any) return;
  ++phase_;
  acquired_ = released_;
  ++blocks_[0]->counters.barriers;
  for (const auto& block : blocks_) block->wake(Wait::cluster);
}

void Cluster::leave() { complete_barrier(); }

bool Cluster::has_completed(Warp& warp, const Instruction& in, uint32_t active) {
  if (active & ~warp.cluster_arrived) {
    fail(warp, in, __builtin_ctz(active & ~warp.cluster_arrived),
         "waits at barrier.cluster without barrier.cluster.arrive");
  }
  if (warp.cluster_phase == phase_) return false;
  warp.cluster_arrived &= ~active;
  warp.block->races.acquire_threads(warp, active, acquired_.data());
  return true;
}

void Cluster::check_exit(const Block& block, const Warp& warp, const Instruction& in) const {
  for (const AsyncOperation& operation : in_flight_) {
    if (operation.to != &block) continue;
    fail(warp, in, -1,
         "ends the block while a copy into its shared memory is in flight (" +
             launch_.kernel.where(*operation.instruction) + ')');
  }
}

void Cluster::fail_deadlock() const {
  std::string text = "kernel " + launch_.kernel.name + ":";
  for (const auto& block : blocks_) {
    if (!block->is_done()) text += ' ' + block->name() + ": deadlock:" + block->waiting();
  }
  throw Error(text);
}

}  // namespace vgg::emulator
