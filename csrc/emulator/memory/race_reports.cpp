// Errors of the race detector: decides whether an access that failed the quick comparison is an
// error, and describes both sides.

#include <cstring>
#include <string>

#include "emulator/core/lanes.h"
#include "emulator/memory/race_access.h"
#include "emulator/memory/races.h"

namespace vgg::emulator {

std::string RaceDetector::who(uint32_t access, const Warp& by) {
  const int warp = warp_id_of(access), lane = lane_of(access), rank = rank_of(access);
  std::string text = "warp " + std::to_string(warp);
  if (rank != by.context->rank) text = by.context->name_of(rank) + ' ' + text;
  if (lane == ALL_TOGETHER) return text + ' ' + threads_of(warp);
  return text + " lane " + std::to_string(lane) + " (thread " +
         std::to_string(warp * LANES + lane) + ')';
}

int RaceDetector::actor_of(uint32_t access, size_t cell) const {
  if (kind_of(access) == AccessBy::async) return write_actor_[cell];
  return rank_of(access) * actors_.of_block() + warp_id_of(access);
}

int RaceDetector::actor_of_reader(int reader) const {
  const int warps = readers_ - actors_.warpgroups;
  if (reader >= warps) return first_actor_ + actors_.warps + reader - warps;
  if (!remote_) return first_actor_ + reader;
  return reader / actors_.warps * actors_.of_block() + reader % actors_.warps;
}

void RaceDetector::report(const Warp& warp, const Instruction& in, int lane, size_t cell,
                          const char* verb, uint32_t other, const char* other_verb) const {
  const std::string at = kernel_->where(kernel_->code[instruction_of(other)]);
  const bool same_warp = warp_id_of(other) == warp.warp_id && rank_of(other) == warp.context->rank;
  const bool in_flight = write_time_[cell] == IN_FLIGHT;
  const bool async = kind_of(other) == AccessBy::async || !std::strcmp(other_verb, "is reading");
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
             kernel_->where(kernel_->code[instruction_of(access)]) + ')');
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
             kernel_->where(kernel_->code[instruction_of(access)]) + ')');
  }
  if (read_time_[cell] == READING) {
    report(warp, in, lane, cell, "writes", reading_access_[cell], "is reading");
  }
  if (!races_) return;
  const uint32_t* seen = seen_of(warp, lane);
  const int writer = actor_of(access, cell);
  const bool ordered = time == NEVER || time <= seen[writer] ||
                       (writer == warp.actor && lane_of(access) == lane) ||
                       (is_atomic && kind_of(access) == AccessBy::atomic);
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

void RaceDetector::fail_unfenced(const Warp& warp, const Instruction& in, int lane, size_t cell,
                                 const char* verb) const {
  const uint32_t access = write_access_[cell];
  fail(warp, in, lane,
       std::string(verb) + " shared memory byte " + std::to_string(cell << shift_) +
           " through the async proxy, which " + who(access, warp) + " wrote (" +
           kernel_->where(kernel_->code[instruction_of(access)]) +
           ") without a fence.proxy.async in between");
}

void RaceDetector::explain_async_read(const Warp& warp, const Instruction& in, int lane,
                                      size_t cell) const {
  explain_read(warp, in, lane, cell);
  if (races_ && is_unfenced(seen_of(warp, lane), cell)) {
    fail_unfenced(warp, in, lane, cell, "reads");
  }
}

}  // namespace vgg::emulator
