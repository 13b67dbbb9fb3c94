// Race detector: asynchronous reads and writes of shared memory, and the bytes of mbarriers.

#include <algorithm>

#include "emulator/core/lanes.h"
#include "emulator/memory/race_access.h"
#include "emulator/memory/races.h"

namespace vgg::emulator {

// Whether the last write to the cell is a plain write that is not yet visible to the async proxy.
bool RaceDetector::is_unfenced(const uint32_t* clock, size_t cell) const {
  const uint32_t time = write_time_[cell], access = write_access_[cell];
  if (time >= MBARRIER || is_async(access)) return false;
  return time > clock[actors_.all() + actor_of(access, cell)];
}

void RaceDetector::begin_async_write(const Warp& warp, const Instruction& in, int lane,
                                     uint32_t offset, uint32_t bytes, bool generic_proxy) {
  const uint32_t* seen = seen_of(warp, lane);
  const uint32_t access = as_async(describe(warp, in, lane));
  const uint32_t ordered = warp.context->rank == rank_ ? warp.ordered : 0;
  for (size_t i = offset >> shift_; i < (offset + bytes) >> shift_; ++i) {
    if (write_time_[i] + 1 > ordered + 1 || read_time_[i] > ordered) {
      explain_write(warp, in, lane, i, false);
    }
    if (races_ && !generic_proxy && is_unfenced(seen, i))
      fail_unfenced(warp, in, lane, i, "writes");
    write_time_[i] = IN_FLIGHT;
    write_access_[i] = access;
  }
}

void RaceDetector::end_async_write(uint32_t offset, uint32_t bytes, int actor, uint32_t stamp) {
  const size_t first = offset >> shift_, last = (offset + bytes) >> shift_;
  std::fill(write_time_.begin() + first, write_time_.begin() + last, stamp);
  std::fill(write_actor_.begin() + first, write_actor_.begin() + last, actor);
}

int64_t RaceDetector::find_unreadable(const uint32_t* clock, uint32_t offset,
                                      uint32_t bytes) const {
  // Neighbouring cells usually have the same writer.
  uint32_t good_time = 0, good_access = 0;
  for (size_t i = offset >> shift_; i < (offset + bytes) >> shift_; ++i) {
    const uint32_t time = write_time_[i], access = write_access_[i];
    if (time == good_time && access == good_access) continue;
    if (time >= MBARRIER) return static_cast<int64_t>(i);
    if (races_ && (time > clock[actor_of(access, i)] || is_unfenced(clock, i))) {
      return static_cast<int64_t>(i);
    }
    good_time = time;
    good_access = access;
  }
  return -1;
}

void RaceDetector::check_async_read(const Warp& warp, const Instruction& in, int lane,
                                    uint32_t offset, uint32_t bytes) const {
  const uint32_t* seen = seen_of(warp, lane);
  const uint32_t end = offset + bytes;
  while (offset < end) {
    const int64_t cell = find_unreadable(seen, offset, end - offset);
    if (cell < 0) return;
    explain_async_read(warp, in, lane, cell);  // returns for writes of the thread itself
    offset = static_cast<uint32_t>(cell + 1) << shift_;
  }
}

void RaceDetector::begin_async_read(const Warp& warp, const Instruction& in, int lane,
                                    uint32_t offset, uint32_t bytes) {
  const uint32_t access =
      lane == ALL_TOGETHER ? describe(warp, in, lane) : as_async(describe(warp, in, lane));
  for (size_t i = offset >> shift_; i < (offset + bytes) >> shift_; ++i) {
    ++reading_[i];
    reading_access_[i] = access;
    read_time_[i] = READING;
  }
}

void RaceDetector::end_async_read(const Warp& warp, const Instruction& in, int lane,
                                  int warpgroup_id, uint32_t offset, uint32_t bytes,
                                  uint32_t stamp) {
  const size_t first = offset >> shift_, last = (offset + bytes) >> shift_;
  for (size_t i = first; i < last; ++i) {
    if (--reading_[i] == 0) read_time_[i] = stamp;
  }
  if (!races_) return;
  const int reader =
      warpgroup_id < 0 ? reader_of(warp) : readers_ - actors_.warpgroups + warpgroup_id;
  const uint64_t record = static_cast<uint64_t>(stamp) << 32 | describe(warp, in, lane);
  std::fill(reads_.begin() + reader * stride_ + first, reads_.begin() + reader * stride_ + last,
            record);
}

void RaceDetector::reserve_bytes(const Warp& warp, const Instruction& in, int lane,
                                 uint32_t offset) {
  uint64_t offsets[LANES];
  std::fill(std::begin(offsets), std::end(offsets), offset);
  write(warp, in, 1u << lane, offsets, MBARRIER_BYTES);
  std::fill_n(write_time_.begin() + (offset >> shift_), MBARRIER_BYTES >> shift_, MBARRIER);
}

void RaceDetector::release_bytes(uint32_t offset) {
  std::fill_n(write_time_.begin() + (offset >> shift_), MBARRIER_BYTES >> shift_, NEVER);
}

}  // namespace vgg::emulator
