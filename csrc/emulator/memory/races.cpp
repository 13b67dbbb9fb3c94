#include "emulator/memory/races.h"

#include <algorithm>

#include "emulator/core/lanes.h"
#include "emulator/memory/race_access.h"

namespace vgg::emulator {

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
    readers_ = actors.warps * (remote ? actors.blocks : 1) + actors.warpgroups;
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
  for (Warp& warp : warps) {  // reads of earlier blocks have old stamps and need not be erased
    kernel_ = &warp.context->kernel;
    warp.actor = first_actor_ + warp.warp_id;
    warp.seen.assign(actors.clock_size(), time_.now - 1);
    warp.lanes_ahead = 0;
    warp.stamp = time_.now;
    warp.ordered = races ? time_.now - 1 : MBARRIER - 2;
  }
}

uint32_t RaceDetector::describe(const Warp& warp, const Instruction& in, int lane) const {
  const auto index = static_cast<uint32_t>(&in - kernel_->code.data());
  const uint32_t who =
      lane == ALL_TOGETHER ? kind_bits(AccessBy::together) : static_cast<uint32_t>(lane);
  const auto rank = static_cast<uint32_t>(warp.context->rank);
  return index << ACCESS_INSTRUCTION_SHIFT | rank << ACCESS_RANK_SHIFT |
         static_cast<uint32_t>(warp.warp_id) << ACCESS_WARP_SHIFT | who;
}

int RaceDetector::reader_of(const Warp& warp) const {
  return remote_ ? warp.context->rank * actors_.warps + warp.warp_id : warp.warp_id;
}

const uint32_t* RaceDetector::seen_of(const Warp& warp, int lane) const {
  if (lane == ALL_TOGETHER || !is_active(warp.lanes_ahead, lane)) return warp.seen.data();
  return warp.lane_seen.data() + lane * warp.seen.size();
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
      // The stamp of a warp without recent synchronisation may be older than the recorded one.
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
  const uint32_t first_lane = describe(warp, in, 0) | (is_atomic ? kind_bits(AccessBy::atomic) : 0);
  for_each_lane(active, [&](int lane) {
    const size_t first = offsets[lane] >> shift_;
    uint32_t unsure = 0;
    for (uint32_t i = 0; i < cells; ++i) {
      // Plus one, so that NEVER becomes 0.
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
