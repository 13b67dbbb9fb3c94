// Race detector: synchronisation, which passes on clocks.

#include <algorithm>

#include "emulator/core/lanes.h"
#include "emulator/memory/races.h"

namespace vgg::emulator {

// Considers the actors that may have accessed this block's memory. A warpgroup or an mbarrier that
// was idle since the warp last saw it does not lower the minimum: its next access gets a later
// stamp.
void RaceDetector::update_ordered(Warp& warp) const {
  if (!races_) return;
  const Actors& actors = actors_;
  const int warps = actors.warps, all = actors.of_block();
  uint32_t ordered = time_.now;
  for (int block = remote_ ? 0 : rank_; block < (remote_ ? actors.blocks : rank_ + 1); ++block) {
    const uint32_t* seen = warp.seen.data() + block * all;
    ordered = std::min(ordered, *std::min_element(seen, seen + warps));
    const uint32_t* last = time_.last.data() + block * all;
    for (int i = warps; i < all; ++i) {
      ordered = std::min(ordered, seen[i] >= last[i] ? ordered : seen[i]);
    }
  }
  warp.ordered = ordered;
}

void RaceDetector::gather_lanes(Warp& warp) {
  const int size = actors_.clock_size();
  for_each_lane(warp.lanes_ahead, [&](int lane) {
    join(warp.seen.data(), warp.lane_seen.data() + lane * size, size);
  });
  warp.lanes_ahead = 0;
}

void RaceDetector::sync_warp(Warp& warp) {
  if (warp.lanes_ahead != 0) gather_lanes(warp);
  warp.seen[warp.actor] = warp.stamp;
  warp.stamp = time_.tick();
  update_ordered(warp);
}

void RaceDetector::release(Warp& warp, uint32_t* seen, bool tick) {
  if (warp.lanes_ahead != 0) gather_lanes(warp);
  warp.seen[warp.actor] = warp.stamp;
  join(seen, warp.seen.data(), actors_.clock_size());
  if (tick) {
    warp.stamp = time_.tick();
    update_ordered(warp);
  }
}

void RaceDetector::acquire(std::vector<Warp>& warps, uint32_t mask, const uint32_t* seen) {
  const uint32_t now = time_.tick();
  for_each_lane(mask, [&](int member) {
    Warp& warp = warps[member];
    join(warp.seen.data(), seen, actors_.clock_size());
    for_each_lane(mask, [&](int other) {
      // All earlier accesses of a member have a stamp below `now`.
      warp.seen[first_actor_ + other] = now - 1;
    });
    warp.stamp = now;
    update_ordered(warp);
  });
}

void RaceDetector::release_threads(Warp& warp, uint32_t active, uint32_t* seen) {
  const int size = actors_.clock_size();
  if ((active & warp.lanes_ahead) != active) join(seen, warp.seen.data(), size);
  for_each_lane(active & warp.lanes_ahead,
                [&](int lane) { join(seen, seen_of(warp, lane), size); });
  seen[warp.actor] = std::max(seen[warp.actor], warp.stamp);
  warp.stamp = time_.tick();
}

void RaceDetector::acquire_threads(Warp& warp, uint32_t active, const uint32_t* seen) {
  const int size = actors_.clock_size();
  if (active == warp.live) {
    const uint32_t own = warp.seen[warp.actor];
    join(warp.seen.data(), seen, size);
    warp.seen[warp.actor] = own;  // its lanes see each other only after a __syncwarp
    for_each_lane(warp.lanes_ahead, [&](int lane) {
      join(warp.lane_seen.data() + lane * size, warp.seen.data(), size);
    });
    return update_ordered(warp);
  }
  if (warp.lane_seen.size() != LANES * warp.seen.size()) {
    warp.lane_seen.resize(LANES * warp.seen.size());
  }
  for_each_lane(active, [&](int lane) {
    uint32_t* ahead = warp.lane_seen.data() + lane * size;
    if (!is_active(warp.lanes_ahead, lane)) std::copy_n(warp.seen.data(), size, ahead);
    const uint32_t own = ahead[warp.actor];
    join(ahead, seen, size);
    ahead[warp.actor] = own;
  });
  warp.lanes_ahead |= active;
}

void RaceDetector::acquire_stamp(Warp& warp, int actor_in_block, uint32_t stamp) {
  const int actor = first_actor_ + actor_in_block;
  warp.seen[actor] = std::max(warp.seen[actor], stamp);
  for_each_lane(warp.lanes_ahead, [&](int lane) {
    uint32_t& seen = warp.lane_seen[lane * warp.seen.size() + actor];
    seen = std::max(seen, stamp);
  });
  update_ordered(warp);
}

void RaceDetector::fence_proxy(Warp& warp, uint32_t active) {
  if (!actors_.proxies) return;
  const int all = actors_.all();
  auto fence = [&](uint32_t* seen) {
    join(seen + all, seen, all);
    seen[all + warp.actor] = warp.stamp;
  };
  fence(warp.seen.data());
  for_each_lane(active & warp.lanes_ahead,
                [&](int lane) { fence(warp.lane_seen.data() + lane * actors_.clock_size()); });
  warp.stamp = time_.tick();
}

}  // namespace vgg::emulator
