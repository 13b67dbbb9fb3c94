// Vector clocks of the blocks of one cluster: the actors that take part, and the current time.
//
// Each block has these actors: its warps; its warpgroups, which stand for the reads of their wgmma
// products; its mbarriers, which stand for the writes of asynchronous copies. A kernel without
// wgmma and mbarriers has only warps. A clock has one entry per actor: the latest stamp of that
// actor's accesses that the owner of the clock has seen. Clocks of some kernels have further parts
// with as many entries. If a kernel uses the async proxy (bulk copies, wgmma), one part is for
// writes that a fence.proxy.async has made visible to the async proxy. If it has relaxed arrivals
// at barrier.cluster, the last part is for mbarrier.init: these arrivals release nothing but what
// fence.mbarrier_init fenced.

#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace vgg::emulator {

using Clock = std::vector<uint32_t>;

struct Actors {
  int warps = 0, warpgroups = 0, mbarriers = 0;  // per block
  int blocks = 1;
  bool proxies = false, inits = false;  // further parts of clocks

  int of_block() const { return warps + warpgroups + mbarriers; }
  int all() const { return blocks * of_block(); }
  int first_init() const { return proxies ? 2 * all() : all(); }  // index of the part for inits
  int clock_size() const { return first_init() + (inits ? all() : 0); }
  bool operator==(const Actors& other) const {
    return warps == other.warps && warpgroups == other.warpgroups && mbarriers == other.mbarriers &&
           blocks == other.blocks && proxies == other.proxies && inits == other.inits;
  }
};

struct Time {
  Actors actors;
  uint32_t now = 1;
  std::vector<uint32_t> last;  // per actor: the last stamp of a warpgroup or an mbarrier

  uint32_t tick() { return ++now; }
};

inline void join(uint32_t* clock, const uint32_t* other, int size) {
  for (int i = 0; i < size; ++i) clock[i] = std::max(clock[i], other[i]);
}

}  // namespace vgg::emulator
