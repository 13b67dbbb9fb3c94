#include "emulator/run/mbarriers.h"

#include <algorithm>

namespace vgg::emulator {
namespace {

constexpr uint32_t MAX_COUNT = (1u << 20) - 1;  // arrivals, and bytes of either sign

std::string at(uint32_t offset) { return "the mbarrier at byte " + std::to_string(offset); }

}  // namespace

void Mbarriers::start_block() { barriers_.clear(); }

void Mbarriers::init(Warp& warp, const Instruction& in, int lane, uint32_t offset, uint32_t count) {
  if (count == 0 || count > MAX_COUNT) {
    fail(warp, in, lane,
         "initialises " + at(offset) + ": expected 1 to " + std::to_string(MAX_COUNT) +
             " arrivals, got " + std::to_string(count));
  }
  for (const Mbarrier& other : barriers_) {
    if (other.offset != offset) continue;
    fail(warp, in, lane,
         "initialises " + at(offset) + " again without mbarrier.inval (" +
             context_.kernel.where(*other.init) + ')');
  }
  if (barriers_.size() == MAX_MBARRIERS) {
    fail(warp, in, lane, "more than " + std::to_string(MAX_MBARRIERS) + " mbarriers in a block");
  }
  races_.reserve_bytes(warp, in, lane, offset);
  const Actors& actors = context_.time.actors;
  // The actor of an invalidated mbarrier may be reused, because stamps only grow.
  int free = 0;
  auto taken = [&](int i) {
    return std::any_of(barriers_.begin(), barriers_.end(), [&](const Mbarrier& other) {
      return other.actor % actors.of_block() == actors.warps + actors.warpgroups + i;
    });
  };
  while (taken(free)) ++free;
  barriers_.emplace_back();
  Mbarrier& barrier = barriers_.back();
  barrier.offset = offset;
  barrier.expected = barrier.pending = count;
  barrier.actor = context_.rank * actors.of_block() + actors.warps + actors.warpgroups + free;
  barrier.released.assign(actors.clock_size(), 0);
  barrier.acquired.assign(actors.clock_size(), 0);
  barrier.init = &in;
  barrier.init_actor = warp.actor;
  barrier.init_lane = lane;
  barrier.init_stamp = warp.stamp;
  barrier.init_access = races_.describe(warp, in, lane);
}

void Mbarriers::invalidate(const Warp& warp, const Instruction& in, int lane, uint32_t offset) {
  Mbarrier& barrier = find(warp, in, lane, offset);
  for (const Warp& other : warps_) {
    for (const Group& group : other.groups) {
      if (!group.waits || group.wait != Wait::mbarrier || group.object != offset) continue;
      fail(warp, in, lane,
           "invalidates " + at(offset) + " while warp " + std::to_string(other.warp_id) +
               " waits there (" + context_.kernel.where(context_.kernel.code[group.pc]) + ')');
    }
  }
  races_.release_bytes(offset);
  barriers_.erase(barriers_.begin() + (&barrier - barriers_.data()));
}

Mbarrier& Mbarriers::at_end_of_copy(const Warp& warp, const Instruction& in, int lane,
                                    uint32_t offset) {
  for (Mbarrier& barrier : barriers_) {
    if (barrier.offset == offset) return barrier;
  }
  fail(warp, in, lane, "copies, but " + at(offset) + " that counts the copy was invalidated");
}

Mbarrier& Mbarriers::find(const Warp& warp, const Instruction& in, int lane, uint32_t offset,
                          bool by_async) {
  const auto found = std::find_if(barriers_.begin(), barriers_.end(),
                                  [&](const Mbarrier& one) { return one.offset == offset; });
  if (found == barriers_.end()) {
    fail(warp, in, lane,
         "uses an mbarrier at byte " + std::to_string(offset) + " that is not initialised");
  }
  if (!context_.options.races) return *found;
  const uint32_t* seen = races_.seen_of(warp, lane);
  const int own = found->init_actor;
  auto who = [&] {
    return " that " + races_.who(found->init_access, warp) + " initialised (" +
           context_.kernel.where(*found->init) + ')';
  };
  const Actors& actors = context_.time.actors;
  const bool seen_init = found->init_stamp <= seen[own] ||
                         (actors.inits && found->init_stamp <= seen[actors.first_init() + own]) ||
                         (own == warp.actor && found->init_lane == lane);
  if (!seen_init) {
    fail(warp, in, lane, "uses " + at(offset) + who() + " without a barrier in between");
  }
  const bool remote = warp.context != &context_;
  const bool shown =
      found->fenced || (actors.proxies && found->init_stamp <= seen[actors.all() + own]);
  if (by_async && !remote && !shown) {
    fail(warp, in, lane,
         "starts a copy that " + at(offset) + " counts," + who() +
             " without a fence.mbarrier_init or fence.proxy.async in between");
  }
  return *found;
}

void Mbarriers::advance(Mbarrier& barrier) {
  if (barrier.pending != 0 || barrier.bytes != 0) return;
  ++barrier.phase;
  barrier.pending = barrier.expected;
  barrier.acquired = barrier.released;
  wake(warps_, Wait::mbarrier, barrier.offset);
}

void Mbarriers::arrive(Warp& warp, const Instruction& in, int lane, Mbarrier& barrier,
                       uint32_t count, bool releases) {
  if (count == 0 || count > barrier.pending) {
    fail(warp, in, lane,
         "arrives " + std::to_string(count) + " times at " + at(barrier.offset) +
             ", which expects " + std::to_string(barrier.pending) + " more of " +
             std::to_string(barrier.expected) + " arrivals in this phase");
  }
  if (releases) races_.release_threads(warp, 1u << lane, barrier.released.data());
  barrier.pending -= count;
  advance(barrier);
}

void Mbarriers::add_bytes(const Warp& warp, const Instruction& in, int lane, Mbarrier& barrier,
                          int64_t bytes) {
  barrier.bytes += bytes;
  if (std::abs(barrier.bytes) > int64_t{MAX_COUNT}) {
    fail(warp, in, lane,
         "makes " + at(barrier.offset) + " expect " + std::to_string(barrier.bytes) +
             " bytes, more than " + std::to_string(MAX_COUNT));
  }
}

void Mbarriers::expect(const Warp& warp, const Instruction& in, int lane, Mbarrier& barrier,
                       uint32_t bytes) {
  if (bytes > MAX_COUNT) {
    fail(warp, in, lane,
         "makes " + at(barrier.offset) + " expect " + std::to_string(bytes) + " bytes, more than " +
             std::to_string(MAX_COUNT));
  }
  add_bytes(warp, in, lane, barrier, bytes);
}

void Mbarriers::complete(const Warp& warp, const Instruction& in, int lane, Mbarrier& barrier,
                         uint32_t bytes, uint32_t stamp) {
  add_bytes(warp, in, lane, barrier, -static_cast<int64_t>(bytes));
  context_.time.last[barrier.actor] = stamp;
  barrier.released[barrier.actor] = stamp;
  advance(barrier);
}

void Mbarriers::fence(const Warp& warp) {
  for (Mbarrier& barrier : barriers_) barrier.fenced |= barrier.init_actor == warp.actor;
}

std::string Mbarriers::describe(uint32_t offset) const {
  for (const Mbarrier& barrier : barriers_) {
    if (barrier.offset != offset) continue;
    std::string text = at(offset) + " (phase " + std::to_string(barrier.phase) + ": " +
                       std::to_string(barrier.expected - barrier.pending) + " of " +
                       std::to_string(barrier.expected) + " arrivals";
    if (barrier.bytes > 0) text += ", " + std::to_string(barrier.bytes) + " bytes missing";
    if (barrier.bytes < 0) {
      text += ", " + std::to_string(-barrier.bytes) + " bytes more than expected";
    }
    return text + ')';
  }
  return "several mbarriers";
}

}  // namespace vgg::emulator
