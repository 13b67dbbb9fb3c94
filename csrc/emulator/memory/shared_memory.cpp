#include "emulator/memory/shared_memory.h"

#include <algorithm>
#include <cstring>

#include "emulator/core/lanes.h"

namespace vgg::emulator {

void SharedMemory::start_block(uint32_t bytes, int rank) {
  base_ = SHARED_BASE + (static_cast<uint64_t>(rank) << RANK_SHIFT);
  bytes_ = bytes;
  lines_.resize((bytes + sizeof(Line) - 1) / sizeof(Line) + 1);
  std::memset(lines_.data(), 0xff, lines_.size() * sizeof(Line));
}

void SharedMemory::check(const Warp& warp, const Instruction& in, uint32_t active,
                         uint64_t* addresses, uint32_t bytes, const char* verb) const {
  uint64_t bits = 0, highest = 0;
  for (int i = 0; i < LANES; ++i) {
    addresses[i] -= base_;
    bits |= addresses[i];
    highest = std::max(highest, addresses[i]);
  }
  if (bits % bytes == 0 && highest < bytes_ && highest + bytes <= bytes_) return;
  for_each_lane(active, [&](int lane) {
    const uint64_t rank = (addresses[lane] + base_) >> RANK_SHIFT;
    const Dim3& cluster = warp.context->cluster;
    if (rank != base_ >> RANK_SHIFT && rank < cluster.x * cluster.y * cluster.z) {
      fail(warp, in, lane,
           std::string(verb) + " shared memory of " +
               warp.context->name_of(static_cast<int>(rank)) +
               ", at an address that is not in the thread's own block (shared::cta)");
    }
    const auto offset = static_cast<int64_t>(addresses[lane]);
    const std::string range = std::string(verb) + " shared memory bytes " + std::to_string(offset) +
                              " to " + std::to_string(offset + bytes);
    if (offset < 0 || offset + bytes > bytes_) {
      fail(warp, in, lane, range + ", outside the block's " + std::to_string(bytes_));
    }
    if (offset % bytes != 0) {
      fail(warp, in, lane,
           range + ", which is misaligned: the address must be a multiple of " +
               std::to_string(bytes));
    }
  });
}

void SharedMemory::count_passes(Counters& counters, uint32_t active, const uint64_t* offsets,
                                uint32_t bytes) const {
  // There are 32 banks of 4 bytes. Accesses of 8 or 16 bytes are served for one half or one quarter
  // of the warp at a time. Threads that access the same unit share it.
  const int unit = bytes <= 4 ? 4 : static_cast<int>(bytes);
  const int group = LANES * 4 / unit, shift = __builtin_ctz(unit);
  const uint32_t units = group - 1;  // as a mask
  for (int first = 0; first < LANES; first += group) {
    const uint32_t members = active >> first & static_cast<uint32_t>((uint64_t{1} << group) - 1);
    if (members == 0) continue;
    counters.shared_ideal += 1;
    uint32_t touched = 0;
    uint64_t difference = 0;
    for (int i = first; i < first + group; ++i) {
      touched |= 1u << (offsets[i] >> shift & units);
      difference |= offsets[i] >> shift ^ offsets[first] >> shift;
    }
    if (difference == 0 || __builtin_popcount(touched) == __builtin_popcount(members)) {
      counters.shared_wavefronts += 1;
      continue;
    }
    uint64_t distinct[LANES];
    int count = 0, in_bank[LANES] = {}, passes = 1;
    for_each_lane(members,
                  [&](int member) { distinct[count++] = offsets[first + member] >> shift; });
    std::sort(distinct, distinct + count);
    count = static_cast<int>(std::unique(distinct, distinct + count) - distinct);
    for (int i = 0; i < count; ++i) passes = std::max(passes, ++in_bank[distinct[i] & units]);
    counters.shared_wavefronts += passes;
  }
}

}  // namespace vgg::emulator
