#include "races.h"

#include <algorithm>

#include "block.h"
#include "lanes.h"

namespace vgg::emulator {
namespace {

// An access in 32 bits: instruction, atomic, whole warp, warp, lane.
constexpr uint32_t LANE_MASK = 31, WARP_SHIFT = 5, TOGETHER_BIT = 1u << 10, ATOMIC_BIT = 1u << 11,
                   INSTRUCTION_SHIFT = 12;

int warp_of(uint32_t access) { return access >> WARP_SHIFT & (MAX_WARPS - 1); }
int lane_of(uint32_t access) {
  return access & TOGETHER_BIT ? RaceDetector::ALL_TOGETHER : access & LANE_MASK;
}

}  // namespace

void RaceDetector::start_block(uint32_t shared_bytes, uint32_t granularity,
                               std::vector<Warp>& warps, bool races) {
  races_ = races;
  shift_ = granularity == 1 ? 0 : granularity == 2 ? 1 : 2;
  const size_t cells = (shared_bytes >> shift_) + 16;
  if (time_ > 1u << 30 || stride_ != cells || warps_ != static_cast<int>(warps.size())) {
    time_ = 1;
    warps_ = static_cast<int>(warps.size());
    stride_ = cells;
    write_access_.assign(cells, 0);
    read_time_.assign(cells, 0);
    reads_.assign(races ? cells * warps_ : 0, 0);
  }
  write_time_.assign(cells, NEVER);
  ++time_;  // reads of earlier blocks lie in the past: they need not be erased
  for (Warp& warp : warps) {
    kernel_ = &warp.block->kernel();
    std::fill(std::begin(warp.seen), std::end(warp.seen), time_ - 1);
    warp.stamp = time_;
    warp.ordered = races ? time_ - 1 : IN_FLIGHT - 2;
  }
}

uint32_t RaceDetector::describe(const Warp& warp, const Instruction& in, int lane) const {
  const auto index = static_cast<uint32_t>(&in - kernel_->code.data());
  const uint32_t who = lane == ALL_TOGETHER ? TOGETHER_BIT : static_cast<uint32_t>(lane);
  return index << INSTRUCTION_SHIFT | static_cast<uint32_t>(warp.index) << WARP_SHIFT | who;
}

std::string RaceDetector::who(uint32_t access) const {
  const int warp = warp_of(access), lane = lane_of(access);
  const std::string text = "warp " + std::to_string(warp);
  if (lane == ALL_TOGETHER) return text + ' ' + threads_of(warp);
  return text + " lane " + std::to_string(lane) + " (thread " +
         std::to_string(warp * LANES + lane) + ')';
}

void RaceDetector::report(const Warp& warp, const Instruction& in, int lane, size_t cell,
                          const char* verb, uint32_t other, const char* other_verb) const {
  const std::string at = kernel_->where(kernel_->code[other >> INSTRUCTION_SHIFT]);
  const bool same_warp = warp_of(other) == warp.index;
  const bool in_flight = write_time_[cell] == IN_FLIGHT;
  fail(warp, in, lane,
       std::string("race: ") + verb + " shared memory byte " + std::to_string(cell << shift_) +
           " that " + who(other) + ' ' + other_verb + " (" + at + ") " +
           (in_flight   ? "by a cp.async that has not been waited for"
            : same_warp ? "without a __syncwarp or a barrier in between"
                        : "without a barrier in between"));
}

void RaceDetector::explain_read(const Warp& warp, const Instruction& in, int lane, size_t cell) {
  const uint32_t time = write_time_[cell], access = write_access_[cell];
  if (time == NEVER) {
    fail(
        warp, in, lane,
        "reads shared memory byte " + std::to_string(cell << shift_) + ", which was never written");
  }
  const int writer = warp_of(access);
  if (time != IN_FLIGHT && (!races_ || time <= warp.seen[writer])) return;
  if (time != IN_FLIGHT && writer == warp.index && lane_of(access) == lane) return;
  report(warp, in, lane, cell, "reads", access, time == IN_FLIGHT ? "is writing" : "wrote");
}

void RaceDetector::explain_write(const Warp& warp, const Instruction& in, int lane, size_t cell,
                                 bool is_atomic) {
  const uint32_t time = write_time_[cell], access = write_access_[cell];
  if (time == IN_FLIGHT) report(warp, in, lane, cell, "writes", access, "is writing");
  if (!races_) return;
  const int writer = warp_of(access);
  const bool ordered = time == NEVER || time <= warp.seen[writer] ||
                       (writer == warp.index && lane_of(access) == lane) ||
                       (is_atomic && (access & ATOMIC_BIT) != 0);
  if (!ordered) report(warp, in, lane, cell, "writes", access, "wrote");
  for (int other = 0; other < warps_; ++other) {
    const uint64_t read = reads_[other * stride_ + cell];
    if (read >> 32 <= warp.seen[other]) continue;
    const auto reader = static_cast<uint32_t>(read);
    if (other == warp.index && (lane_of(reader) == lane || lane_of(reader) == ALL_TOGETHER)) {
      continue;
    }
    report(warp, in, lane, cell, "writes", reader, "read");
  }
}

template <uint32_t COUNT, bool TOGETHER>
void RaceDetector::note_reads_of(const Warp& warp, const Instruction& in, uint32_t active,
                                 const uint64_t* offsets, uint32_t cells) {
  if (COUNT != 0) cells = COUNT;
  const uint32_t ordered = warp.ordered, stamp = warp.stamp;
  const uint32_t* write_time = write_time_.data();
  uint32_t* read_time = read_time_.data();
  uint64_t* reads = reads_.data() + warp.index * stride_;
  const uint64_t high = static_cast<uint64_t>(stamp) << 32;
  const uint64_t together = high | describe(warp, in, ALL_TOGETHER);
  const uint64_t first_lane = high | describe(warp, in, 0);
  for_each_lane(active, [&](int lane) {
    const size_t first = offsets[lane] >> shift_;
    uint32_t unsure = 0;
    for (uint32_t i = 0; i < cells; ++i) unsure |= write_time[first + i] > ordered;
    if (__builtin_expect(unsure, 0)) {
      for (uint32_t i = 0; i < cells; ++i) {
        explain_read(warp, in, TOGETHER ? ALL_TOGETHER : lane, first + i);
      }
    }
    if (!races_) return;
    const uint64_t record = TOGETHER ? together : first_lane + lane;
    for (uint32_t i = 0; i < cells; ++i) reads[first + i] = record;
    for (uint32_t i = 0; i < cells; ++i) {
      // A warp that has not synchronised for long may have an old stamp.
      read_time[first + i] = std::max(read_time[first + i], stamp);
    }
  });
}

template <bool TOGETHER>
void RaceDetector::note_reads(const Warp& warp, const Instruction& in, uint32_t active,
                              const uint64_t* offsets, uint32_t bytes) {
  const uint32_t cells = std::max(bytes >> shift_, 1u);
  if (cells == 4) return note_reads_of<4, TOGETHER>(warp, in, active, offsets, cells);
  if (cells == 1) return note_reads_of<1, TOGETHER>(warp, in, active, offsets, cells);
  note_reads_of<0, TOGETHER>(warp, in, active, offsets, cells);
}

void RaceDetector::read(const Warp& warp, const Instruction& in, uint32_t active,
                        const uint64_t* offsets, uint32_t bytes) {
  note_reads<false>(warp, in, active, offsets, bytes);
}

void RaceDetector::read_together(const Warp& warp, const Instruction& in, uint32_t active,
                                 const uint64_t* offsets, uint32_t bytes) {
  note_reads<true>(warp, in, active, offsets, bytes);
}

template <uint32_t COUNT>
void RaceDetector::note_writes_of(const Warp& warp, const Instruction& in, uint32_t active,
                                  const uint64_t* offsets, uint32_t cells, uint32_t stamp,
                                  bool is_atomic) {
  if (COUNT != 0) cells = COUNT;
  const uint32_t ordered = warp.ordered;
  uint32_t* write_time = write_time_.data();
  uint32_t* write_access = write_access_.data();
  const uint32_t* read_time = read_time_.data();
  const uint32_t first_lane = describe(warp, in, 0) | (is_atomic ? ATOMIC_BIT : 0);
  for_each_lane(active, [&](int lane) {
    const size_t first = offsets[lane] >> shift_;
    uint32_t unsure = 0;
    for (uint32_t i = 0; i < cells; ++i) {
      // Plus one: NEVER becomes 0.
      unsure |= write_time[first + i] + 1 > ordered + 1;
      unsure |= read_time[first + i] > ordered;
    }
    if (__builtin_expect(unsure, 0)) {
      for (uint32_t i = 0; i < cells; ++i) explain_write(warp, in, lane, first + i, is_atomic);
    }
    for (uint32_t i = 0; i < cells; ++i) write_time[first + i] = stamp;
    for (uint32_t i = 0; i < cells; ++i) write_access[first + i] = first_lane + lane;
  });
}

void RaceDetector::note_writes(const Warp& warp, const Instruction& in, uint32_t active,
                               const uint64_t* offsets, uint32_t bytes, uint32_t stamp,
                               bool is_atomic) {
  const uint32_t cells = std::max(bytes >> shift_, 1u);
  if (cells == 4) return note_writes_of<4>(warp, in, active, offsets, cells, stamp, is_atomic);
  if (cells == 1) return note_writes_of<1>(warp, in, active, offsets, cells, stamp, is_atomic);
  note_writes_of<0>(warp, in, active, offsets, cells, stamp, is_atomic);
}

void RaceDetector::write(const Warp& warp, const Instruction& in, uint32_t active,
                         const uint64_t* offsets, uint32_t bytes) {
  note_writes(warp, in, active, offsets, bytes, warp.stamp, false);
}

void RaceDetector::atomic(const Warp& warp, const Instruction& in, uint32_t active,
                          const uint64_t* offsets, uint32_t bytes) {
  for_each_lane(active, [&](int lane) {
    for (size_t i = offsets[lane] >> shift_; i < (offsets[lane] + bytes) >> shift_; ++i) {
      if (write_time_[i] == NEVER) explain_read(warp, in, lane, i);
    }
  });
  note_writes(warp, in, active, offsets, bytes, warp.stamp, true);
}

void RaceDetector::begin_copy(const Warp& warp, const Instruction& in, uint32_t active,
                              const uint64_t* offsets, uint32_t bytes) {
  note_writes(warp, in, active, offsets, bytes, IN_FLIGHT, false);
}

void RaceDetector::end_copy(const Warp& warp, uint32_t offset, uint32_t bytes) {
  for (size_t i = offset >> shift_; i < (offset + bytes) >> shift_; ++i) {
    write_time_[i] = warp.stamp;
  }
}

void RaceDetector::update_ordered(Warp& warp) const {
  if (races_) warp.ordered = *std::min_element(warp.seen, warp.seen + warps_);
}

void RaceDetector::sync_warp(Warp& warp) {
  warp.seen[warp.index] = warp.stamp;
  warp.stamp = ++time_;
  update_ordered(warp);
}

void RaceDetector::release(Warp& warp, uint32_t* seen, bool tick) {
  warp.seen[warp.index] = warp.stamp;
  for (int i = 0; i < warps_; ++i) seen[i] = std::max(seen[i], warp.seen[i]);
  if (tick) {
    warp.stamp = ++time_;
    update_ordered(warp);
  }
}

void RaceDetector::acquire(std::vector<Warp>& warps, uint32_t mask, const uint32_t* seen) {
  ++time_;
  for_each_lane(mask, [&](int member) {
    Warp& warp = warps[member];
    for (int i = 0; i < warps_; ++i) {
      // All that a member did before has a stamp below the new time.
      warp.seen[i] = mask >> i & 1 ? time_ - 1 : std::max(warp.seen[i], seen[i]);
    }
    warp.stamp = time_;
    update_ordered(warp);
  });
}

}  // namespace vgg::emulator
