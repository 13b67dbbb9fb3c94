// The end of threads, warps and blocks, and the conditions for it.

#include <algorithm>

#include "emulator/core/lanes.h"
#include "emulator/run/block.h"
#include "emulator/run/cluster.h"

namespace vgg::emulator {

void Block::exit(Warp& warp, size_t current, const Instruction& in, uint32_t active) {
  check_exit(warp, in, active);
  const uint32_t staying = warp.groups[current].mask & ~active;
  warp.live &= ~active;
  warp.at = &in;
  cluster_.leave();
  if (staying != 0) {
    warp.groups[current].mask = staying;
    ++warp.groups[current].pc;
  } else {
    warp.groups.erase(warp.groups.begin() + current);
  }
  for (Group& group : warp.groups) group.waits = false;  // to check again which threads are missing
  if (warp.live != 0) return;
  warp.state = Warp::State::done;
  --live_warps_;
  check_registers_held(warp, in);
  counters.instructions += warp.executed;
  if (is_done()) {
    if (is_early()) {
      fail(warp, in, -1,
           "ends its block without griddepcontrol.wait in an early launch: the next launch would "
           "not wait for the launches before this one");
    }
    cluster_.check_exit(*this, warp, in);
    check_accesses(warp, in);
  }
  for (int id = 0; id < MAX_BARRIERS; ++id) {
    const Barrier& barrier = barriers_[id];
    if (barrier.arrived == 0 || !barrier.whole_block) continue;
    fail(warp, in, -1,
         "exits while other warps wait for it at barrier " + std::to_string(id) + " (" +
             kernel().where(*barrier.first) + ')');
  }
}

void Block::note_access(int actor, uint32_t stamp, const Warp& by, const Instruction& in) {
  accesses_.resize(cluster_.time.actors.all());
  accesses_[actor] = {stamp, &in, &by};
}

void Block::check_accesses(const Warp& warp, const Instruction& in) {
  if (accesses_.empty() || !options().races) return;
  Clock seen = warp.seen;
  const auto size = static_cast<int>(seen.size());
  for (const Warp& other : warps_) {
    join(seen.data(), other.seen.data(), size);
    for_each_lane(other.lanes_ahead,
                  [&](int lane) { join(seen.data(), other.lane_seen.data() + lane * size, size); });
  }
  for (size_t actor = 0; actor < accesses_.size(); ++actor) {
    const Access& access = accesses_[actor];
    if (access.stamp <= seen[actor]) continue;
    fail(warp, in, -1,
         "ends its block while warp " + std::to_string(access.warp->warp_id) + " of " +
             access.warp->block->name() + " may still access its shared memory (" +
             kernel().where(*access.instruction) + "): a barrier.cluster is missing in between");
  }
}

void Block::check_registers_held(const Warp& warp, const Instruction& in) {
  const size_t first = warp.warpgroup_id() * WARPGROUP;
  for (size_t i = first; i < std::min(first + WARPGROUP, warps_.size()); ++i) {
    const Warp& other = warps_[i];
    if (other.state != Warp::State::done || other.registers_held == warp.registers_held) continue;
    fail(warp, in, -1,
         "ends with " + std::to_string(warp.registers_held) + " registers, but warp " +
             std::to_string(other.warp_id) + " of its warpgroup with " +
             std::to_string(other.registers_held) +
             ": all warps of a warpgroup must execute setmaxnreg");
  }
}

void Block::check_exit(Warp& warp, const Instruction& in, uint32_t active) {
  for (const AsyncCopy& copy : warp.copies) {
    if ((copy.mask & active) == 0) continue;
    fail(warp, in, __builtin_ctz(copy.mask & active),
         "exits with a cp.async that it has not waited for (" + kernel().where(*copy.instruction) +
             ')');
  }
  if (kernel().has_wgmma) check_products_at_exit(warp, in);
  for (const BulkStore& store : warp.bulk_stores) {
    if (!is_active(active, store.lane)) continue;
    fail(warp, in, store.lane,
         "exits with a bulk store that it has not waited for (" +
             kernel().where(*store.instruction) + ')');
  }
}

}  // namespace vgg::emulator
