// Who last wrote and read each cell of shared memory, and whether that happened before.
//
// The blocks of a cluster have one time (clock.h), which ticks at every synchronisation. A warp
// stamps its accesses with the time of its last synchronisation; `Warp::seen[a]` is up to which
// stamp it has seen what actor a did (its own entry: what its other threads did). An access of
// actor a happened before one of warp v if its stamp is <= v.seen[a]; `Warp::ordered` is the least
// of them, so that nearly all checks are one comparison.
//
// What happens asynchronously takes place some time between a beginning and an end. In between,
// nobody may touch bytes that are written, or write bytes that are read. Afterwards, a copy that an
// mbarrier counts was done by the actor of that mbarrier; what wgmma read, by that of its
// warpgroup.

#pragma once

#include <cstdint>
#include <vector>

#include "emulator/core/clock.h"
#include "emulator/core/warp.h"

namespace vgg::emulator {

class RaceDetector {
 public:
  static constexpr int ALL_TOGETHER = 32;  // as a lane: see read_together

  explicit RaceDetector(Time& time) : time_(time) {}

  // Forgets everything. `granularity`: bytes of a cell; `rank`: of the block in its cluster;
  // `remote`: whether other blocks of the cluster read this one's memory.
  void start_block(uint32_t shared_bytes, uint32_t granularity, std::vector<Warp>& warps, int rank,
                   bool remote, bool races);

  // Accesses of the active threads to `bytes` bytes of shared memory each; throw Error.
  void read(const Warp& warp, const Instruction& in, uint32_t active, const uint64_t* offsets,
            uint32_t bytes);
  void write(const Warp& warp, const Instruction& in, uint32_t active, const uint64_t* offsets,
             uint32_t bytes);
  void atomic(const Warp& warp, const Instruction& in, uint32_t active, const uint64_t* offsets,
              uint32_t bytes);
  // The warp reads as one, of which nobody can be late: ldmatrix.
  void read_together(const Warp& warp, const Instruction& in, uint32_t active,
                     const uint64_t* offsets, uint32_t bytes);
  // A write that takes place some time between these two calls.
  void begin_copy(const Warp& warp, const Instruction& in, uint32_t active, const uint64_t* offsets,
                  uint32_t bytes);
  void end_copy(const Warp& warp, uint32_t offset, uint32_t bytes);

  // Of the async proxy: one thread's (or, lane ALL_TOGETHER, one warp's) copy or read of `bytes`
  // bytes. Ends are given the actor that did it, and a stamp.
  void begin_async_write(const Warp& warp, const Instruction& in, int lane, uint32_t offset,
                         uint32_t bytes, bool generic_proxy = false);
  void end_async_write(uint32_t offset, uint32_t bytes, int actor, uint32_t stamp);
  // The first cell that may not be read by whoever has seen `clock`, or -1; then explain.
  int64_t find_unreadable(const uint32_t* clock, uint32_t offset, uint32_t bytes) const;
  void explain_async_read(const Warp& warp, const Instruction& in, int lane, size_t cell) const;
  void check_async_read(const Warp& warp, const Instruction& in, int lane, uint32_t offset,
                        uint32_t bytes) const;
  void begin_async_read(const Warp& warp, const Instruction& in, int lane, uint32_t offset,
                        uint32_t bytes);
  // `group`: of a warpgroup, else -1: read by `warp` as of now.
  void end_async_read(const Warp& warp, const Instruction& in, int lane, int group, uint32_t offset,
                      uint32_t bytes, uint32_t stamp);

  // The bytes of an mbarrier, which nothing else may touch until `release_bytes`.
  void reserve_bytes(const Warp& warp, const Instruction& in, int lane, uint32_t offset);
  void release_bytes(uint32_t offset);

  // Synchronisation. What `warp` did so far is published in `seen`, then it ticks.
  void sync_warp(Warp& warp);
  void release(Warp& warp, uint32_t* seen, bool tick);
  // All of `warps` continue with what `seen` says, and have seen each other.
  void acquire(std::vector<Warp>& warps, uint32_t mask, const uint32_t* seen);
  // The same of some threads of a warp. What a thread learns by itself its warp learns at the next
  // synchronisation of the warp; what it publishes counts for its warp.
  void release_threads(Warp& warp, uint32_t active, uint32_t* seen);
  void acquire_threads(Warp& warp, uint32_t active, const uint32_t* seen);
  // One that has seen what another actor of its block did up to `stamp`.
  void acquire_stamp(Warp& warp, int actor_in_block, uint32_t stamp);
  // fence.proxy.async
  void fence_proxy(Warp& warp, uint32_t active);
  const uint32_t* seen_of(const Warp& warp, int lane) const;
  uint32_t describe(const Warp& warp, const Instruction& in, int lane) const;
  // "warp 0 lane 3 (thread 3)", with its block where that is not the one of `by`.
  static std::string who(uint32_t access, const Warp& by);

 private:
  // Stamps of cells that no comparison lets pass.
  static constexpr uint32_t NEVER = 0xffffffffu, IN_FLIGHT = 0xfffffffeu, MBARRIER = 0xfffffffdu,
                            READING = 0xffffffffu;

  void gather_lanes(Warp& warp);
  void update_ordered(Warp& warp) const;
  int actor_of(uint32_t access, size_t cell) const;
  int reader_of(const Warp& warp) const;
  int actor_of_reader(int reader) const;
  bool is_unfenced(const uint32_t* clock, size_t cell) const;
  // ..._of: where COUNT is not 0, it is the number of cells, known to the compiler.
  template <bool TOGETHER>
  void note_reads(const Warp& warp, const Instruction& in, uint32_t active, const uint64_t* offsets,
                  uint32_t bytes);
  template <uint32_t COUNT, bool TOGETHER>
  void note_reads_of(const Warp& warp, const Instruction& in, uint32_t active,
                     const uint64_t* offsets, uint32_t cells);
  void note_writes(const Warp& warp, const Instruction& in, uint32_t active,
                   const uint64_t* offsets, uint32_t bytes, uint32_t stamp, bool is_atomic);
  template <uint32_t COUNT>
  void note_writes_of(const Warp& warp, const Instruction& in, uint32_t active,
                      const uint64_t* offsets, uint32_t cells, uint32_t stamp, bool is_atomic);
  void explain_read(const Warp& warp, const Instruction& in, int lane, size_t cell) const;
  void explain_write(const Warp& warp, const Instruction& in, int lane, size_t cell,
                     bool is_atomic);
  [[noreturn]] void report(const Warp& warp, const Instruction& in, int lane, size_t cell,
                           const char* verb, uint32_t other, const char* other_verb) const;
  [[noreturn]] void fail_unfenced(const Warp& warp, const Instruction& in, int lane, size_t cell,
                                  const char* verb) const;
  static bool is_async(uint32_t access);
  static uint32_t as_async(uint32_t access);
  static uint32_t instruction_of(uint32_t access);

  Time& time_;
  bool races_ = true, remote_ = false;
  int shift_ = 2, rank_ = 0, first_actor_ = 0;
  int readers_ = 0;  // warps, then warpgroups
  Actors actors_;
  uint32_t forgotten_ = 0;  // what has a lower stamp was erased
  const Kernel* kernel_ = nullptr;
  size_t stride_ = 0;  // cells of `reads_` for each reader
  std::vector<uint32_t> write_time_, write_access_;
  std::vector<uint16_t> write_actor_;  // of asynchronous ones
  std::vector<uint32_t> read_time_;    // the last one of anybody
  std::vector<uint64_t> reads_;        // by reader: stamp << 32 | access
  std::vector<uint16_t> reading_;      // asynchronous reads in flight
  std::vector<uint32_t> reading_access_;
};

}  // namespace vgg::emulator
