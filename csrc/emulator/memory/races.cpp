#include "emulator/memory/races.h"

#include <algorithm>
#include <cstring>

#include "emulator/core/lanes.h"

namespace vgg::emulator {
namespace {

// An access in 32 bits: instruction, kind, rank of the block, warp, lane.
constexpr uint32_t LANE_MASK = 31, WARP_SHIFT = 5, RANK_SHIFT = 10, RANK_MASK = 15, KIND_SHIFT = 14,
                   INSTRUCTION_SHIFT = 16;
enum Kind : uint32_t { THREAD, TOGETHER, ATOMIC, ASYNC };

int warp_of(uint32_t access) { return access >> WARP_SHIFT & (MAX_WARPS - 1); }
int rank_of(uint32_t access) { return access >> RANK_SHIFT & RANK_MASK; }
uint32_t kind_of(uint32_t access) { return access >> KIND_SHIFT & 3; }
int lane_of(uint32_t access) {
  return kind_of(access) == TOGETHER ? RaceDetector::ALL_TOGETHER : access & LANE_MASK;
}

}  // namespace

bool RaceDetector::is_async(uint32_t access) { return kind_of(access) == ASYNC; }
uint32_t RaceDetector::as_async(uint32_t access) { return access | ASYNC << KIND_SHIFT; }
uint32_t RaceDetector::instruction_of(uint32_t access) { return access >> INSTRUCTION_SHIFT; }

void RaceDetector::start_block(uint32_t shared_bytes, uint32_t granularity,
                               std::vector<Warp>& warps, int rank, bool remote, bool races) {
  const Actors& actors = time_.actors;
  races_ = races;
  rank_ = rank;
  remote_ = remote;
  shift_ = granularity == 1 ? 0 : granularity == 2 ? 1 : 2;
  const size_t cells = (shared_bytes >> shift_) + 16;
  if (time_.now < forgotten_ || stride_ != cells || !(actors_ == actors)) {
    actors_ = actors;
    stride_ = cells;
    first_actor_ = rank * actors.of_block();
    readers_ = actors.warps * (remote ? actors.blocks : 1) + actors.groups;
    write_access_.assign(cells, 0);
    read_time_.assign(cells, 0);
    reads_.assign(races ? cells * readers_ : 0, 0);
    if (actors.proxies) {
      write_actor_.assign(cells, 0);
      reading_.assign(cells, 0);
      reading_access_.assign(cells, 0);
    }
  }
  forgotten_ = time_.now;
  write_time_.assign(cells, NEVER);
  for (Warp& warp : warps) {  // reads of earlier blocks lie in the past: they need not be erased
    kernel_ = &warp.context->kernel;
    warp.actor = first_actor_ + warp.index;
    warp.seen.assign(actors.clock_size(), time_.now - 1);
    warp.lanes_ahead = 0;
    warp.stamp = time_.now;
    warp.ordered = races ? time_.now - 1 : MBARRIER - 2;
  }
}

uint32_t RaceDetector::describe(const Warp& warp, const Instruction& in, int lane) const {
  const auto index = static_cast<uint32_t>(&in - kernel_->code.data());
  const uint32_t who = lane == ALL_TOGETHER ? TOGETHER << KIND_SHIFT : static_cast<uint32_t>(lane);
  const auto rank = static_cast<uint32_t>(warp.context->rank);
  return index << INSTRUCTION_SHIFT | rank << RANK_SHIFT |
         static_cast<uint32_t>(warp.index) << WARP_SHIFT | who;
}

std::string RaceDetector::who(uint32_t access, const Warp& by) {
  const int warp = warp_of(access), lane = lane_of(access), rank = rank_of(access);
  std::string text = "warp " + std::to_string(warp);
  if (rank != by.context->rank) text = by.context->name_of(rank) + ' ' + text;
  if (lane == ALL_TOGETHER) return text + ' ' + threads_of(warp);
  return text + " lane " + std::to_string(lane) + " (thread " +
         std::to_string(warp * LANES + lane) + ')';
}

int RaceDetector::actor_of(uint32_t access, size_t cell) const {
  if (kind_of(access) == ASYNC) return write_actor_[cell];
  return rank_of(access) * actors_.of_block() + warp_of(access);
}

int RaceDetector::reader_of(const Warp& warp) const {
  return remote_ ? warp.context->rank * actors_.warps + warp.index : warp.index;
}

int RaceDetector::actor_of_reader(int reader) const {
  const int warps = readers_ - actors_.groups;
  if (reader >= warps) return first_actor_ + actors_.warps + reader - warps;
  if (!remote_) return first_actor_ + reader;
  return reader / actors_.warps * actors_.of_block() + reader % actors_.warps;
}

const uint32_t* RaceDetector::seen_of(const Warp& warp, int lane) const {
  if (lane == ALL_TOGETHER || !is_active(warp.lanes_ahead, lane)) return warp.seen.data();
  return warp.lane_seen.data() + lane * warp.seen.size();
}

void RaceDetector::report(const Warp& warp, const Instruction& in, int lane, size_t cell,
                          const char* verb, uint32_t other, const char* other_verb) const {
  const std::string at = kernel_->where(kernel_->code[other >> INSTRUCTION_SHIFT]);
  const bool same_warp = warp_of(other) == warp.index && rank_of(other) == warp.context->rank;
  const bool in_flight = write_time_[cell] == IN_FLIGHT;
  const bool async = kind_of(other) == ASYNC || !std::strcmp(other_verb, "is reading");
  fail(warp, in, lane,
       std::string("race: ") + verb + " shared memory byte " + std::to_string(cell << shift_) +
           " that " + who(other, warp) + ' ' + other_verb + " (" + at + ") " +
           (async       ? "asynchronously, and which has not been waited for"
            : in_flight ? "by a cp.async that has not been waited for"
            : same_warp ? "without a __syncwarp or a barrier in between"
                        : "without a barrier in between"));
}

void RaceDetector::explain_read(const Warp& warp, const Instruction& in, int lane,
                                size_t cell) const {
  const uint32_t time = write_time_[cell], access = write_access_[cell];
  if (time == NEVER) {
    fail(
        warp, in, lane,
        "reads shared memory byte " + std::to_string(cell << shift_) + ", which was never written");
  }
  if (time == MBARRIER) {
    fail(warp, in, lane,
         "reads shared memory byte " + std::to_string(cell << shift_) + " of an mbarrier (" +
             kernel_->where(kernel_->code[access >> INSTRUCTION_SHIFT]) + ')');
  }
  if (time != IN_FLIGHT) {
    const int writer = actor_of(access, cell);
    if (!races_ || time <= seen_of(warp, lane)[writer]) return;
    if (writer == warp.actor && lane_of(access) == lane) return;
  }
  report(warp, in, lane, cell, "reads", access, time == IN_FLIGHT ? "is writing" : "wrote");
}

void RaceDetector::explain_write(const Warp& warp, const Instruction& in, int lane, size_t cell,
                                 bool is_atomic) {
  const uint32_t time = write_time_[cell], access = write_access_[cell];
  if (time == IN_FLIGHT) report(warp, in, lane, cell, "writes", access, "is writing");
  if (time == MBARRIER) {
    fail(warp, in, lane,
         "writes shared memory byte " + std::to_string(cell << shift_) + " of an mbarrier (" +
             kernel_->where(kernel_->code[access >> INSTRUCTION_SHIFT]) + ')');
  }
  if (read_time_[cell] == READING) {
    report(warp, in, lane, cell, "writes", reading_access_[cell], "is reading");
  }
  if (!races_) return;
  const uint32_t* seen = seen_of(warp, lane);
  const int writer = actor_of(access, cell);
  const bool ordered = time == NEVER || time <= seen[writer] ||
                       (writer == warp.actor && lane_of(access) == lane) ||
                       (is_atomic && kind_of(access) == ATOMIC);
  if (!ordered) report(warp, in, lane, cell, "writes", access, "wrote");
  for (int other = 0; other < readers_; ++other) {
    const uint64_t read = reads_[other * stride_ + cell];
    const int reader_actor = actor_of_reader(other);
    if (read >> 32 <= seen[reader_actor]) continue;
    const auto reader = static_cast<uint32_t>(read);
    if (reader_actor == warp.actor &&
        (lane_of(reader) == lane || lane_of(reader) == ALL_TOGETHER)) {
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
  uint64_t* reads = reads_.data() + reader_of(warp) * stride_;
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
  const uint32_t first_lane = describe(warp, in, 0) | (is_atomic ? ATOMIC << KIND_SHIFT : 0);
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

}  // namespace vgg::emulator
