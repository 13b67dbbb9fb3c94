// Shared memory of a block: contents, bounds checks, bank conflicts.

#pragma once

#include <cstdint>
#include <vector>

#include "emulator/core/warp.h"

namespace vgg::emulator {

class SharedMemory {
 public:
  // `rank`: position of the block in its cluster.
  void start_block(uint32_t bytes, int rank);
  uint32_t bytes() const { return bytes_; }
  uint64_t base() const { return base_; }  // address of the first byte
  char* data() { return reinterpret_cast<char*>(lines_.data()); }

  // Checks bounds and alignment, and turns addresses into offsets. Throws Error, also for addresses
  // in other blocks: these are in shared::cluster, but not in shared::cta.
  void check(const Warp& warp, const Instruction& in, uint32_t active, uint64_t* addresses,
             uint32_t bytes, const char* verb) const;

  // Adds the passes over the banks that an access of the active threads needs to `counters`.
  void count_passes(Counters& counters, uint32_t active, const uint64_t* offsets,
                    uint32_t bytes) const;

 private:
  uint32_t bytes_ = 0;
  uint64_t base_ = SHARED_BASE;
  std::vector<Line> lines_;
};

}  // namespace vgg::emulator
