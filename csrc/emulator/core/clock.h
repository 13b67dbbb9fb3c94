// Vector clocks of the blocks that run together: who takes part, and what time it is.
//
// Actors are, of each block: its warps; its warpgroups, as readers of what their wgmma read; its
// mbarriers, as writers of what asynchronous copies write. A kernel without any of these has warps
// alone. A clock has one entry for each actor: up to which stamp it has seen what that one did.
// Where asynchronous copies or wgmma read shared memory, a second half says the same of writes that
// a fence.proxy.async has since shown to the async proxy.

#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace vgg::emulator {

using Clock = std::vector<uint32_t>;

struct Actors {
  int warps = 0, groups = 0, barriers = 0;  // of a block
  int blocks = 1;
  bool proxies = false;

  int of_block() const { return warps + groups + barriers; }
  int all() const { return blocks * of_block(); }
  int clock_size() const { return proxies ? 2 * all() : all(); }
  bool operator==(const Actors& other) const {
    return warps == other.warps && groups == other.groups && barriers == other.barriers &&
           blocks == other.blocks && proxies == other.proxies;
  }
};

struct Time {
  Actors actors;
  uint32_t now = 1;
  std::vector<uint32_t> last;  // by actor: when a warpgroup or an mbarrier last did something

  uint32_t tick() { return ++now; }
};

inline void join(uint32_t* clock, const uint32_t* other, int size) {
  for (int i = 0; i < size; ++i) clock[i] = std::max(clock[i], other[i]);
}

}  // namespace vgg::emulator
