// Race detector for shared memory: records the last write and the last reads of each cell, and
// checks by vector clocks whether they happened before a new access.
//
// All blocks of a cluster share one time (clock.h), which ticks at every synchronisation. A warp
// stamps its accesses with the time of its last synchronisation. `Warp::seen[a]` is the latest
// stamp of actor a that the warp has seen; its own entry stands for its other threads. An access of
// actor a happened before an access of warp v if its stamp is <= v.seen[a]. `Warp::ordered` is the
// minimum of these entries, so that nearly every check is a single comparison.
//
// An asynchronous access takes place at an unknown time between its begin and its end. In between,
// bytes being written must not be accessed, and bytes being read must not be written. Afterwards,
// the write of a copy belongs to the actor of the mbarrier that counts the copy, and the reads of
// wgmma belong to the actor of the warpgroup.

#pragma once

#include <cstdint>
#include <vector>

#include "emulator/core/clock.h"
#include "emulator/core/warp.h"

namespace vgg::emulator {

class RaceDetector {
 public:
  static constexpr int ALL_TOGETHER = 32;  // in place of a lane: the whole warp; see read_together

  explicit RaceDetector(Time& time) : time_(time) {}

  // Clears all records. `granularity`: bytes per cell; `rank`: position of the block in its
  // cluster; `remote`: whether other blocks of the cluster may read this block's memory.
  void start_block(uint32_t shared_bytes, uint32_t granularity, std::vector<Warp>& warps, int rank,
                   bool remote, bool races);

  // Check and record accesses of the active threads to `bytes` bytes each. Throw Error.
  void read(const Warp& warp, const Instruction& in, uint32_t active, const uint64_t* offsets,
            uint32_t bytes);
  void write(const Warp& warp, const Instruction& in, uint32_t active, const uint64_t* offsets,
             uint32_t bytes);
  void atomic(const Warp& warp, const Instruction& in, uint32_t active, const uint64_t* offsets,
              uint32_t bytes);
  // Reads by the warp as a unit, without an order among its threads: ldmatrix.
  void read_together(const Warp& warp, const Instruction& in, uint32_t active,
                     const uint64_t* offsets, uint32_t bytes);
  // A cp.async, whose write takes place between these two calls.
  void begin_copy(const Warp& warp, const Instruction& in, uint32_t active, const uint64_t* offsets,
                  uint32_t bytes);
  void end_copy(const Warp& warp, uint32_t offset, uint32_t bytes);

  // Accesses of the async proxy to `bytes` bytes, issued by one thread or (lane ALL_TOGETHER) by a
  // warp. The end records the actor that completed the access, and its stamp.
  void begin_async_write(const Warp& warp, const Instruction& in, int lane, uint32_t offset,
                         uint32_t bytes, bool generic_proxy = false);
  void end_async_write(uint32_t offset, uint32_t bytes, int actor, uint32_t stamp);
  // Returns the first cell that an actor with `clock` must not read, or -1. explain_async_read
  // throws the Error for such a cell, unless the thread wrote it itself.
  int64_t find_unreadable(const uint32_t* clock, uint32_t offset, uint32_t bytes) const;
  void explain_async_read(const Warp& warp, const Instruction& in, int lane, size_t cell) const;
  void check_async_read(const Warp& warp, const Instruction& in, int lane, uint32_t offset,
                        uint32_t bytes) const;
  void begin_async_read(const Warp& warp, const Instruction& in, int lane, uint32_t offset,
                        uint32_t bytes);
  // `warpgroup_id`: the warpgroup whose wgmma read the bytes; -1: `warp` itself read them.
  void end_async_read(const Warp& warp, const Instruction& in, int lane, int warpgroup_id,
                      uint32_t offset, uint32_t bytes, uint32_t stamp);

  // Reserves the bytes of an mbarrier: other accesses are errors until `release_bytes`.
  void reserve_bytes(const Warp& warp, const Instruction& in, int lane, uint32_t offset);
  void release_bytes(uint32_t offset);

  // Synchronisation.
  void sync_warp(Warp& warp);  // __syncwarp
  // Adds the clock of `warp` to `seen`; then, with `tick`, starts a new stamp.
  void release(Warp& warp, uint32_t* seen, bool tick);
  // Adds `seen` to the clocks of the warps in `mask`, which have also seen each other.
  void acquire(std::vector<Warp>& warps, uint32_t mask, const uint32_t* seen);
  // The variants for some threads of a warp. The warp acquires at its next synchronisation what a
  // thread acquires at once. A release by one thread includes all accesses of its warp.
  void release_threads(Warp& warp, uint32_t active, uint32_t* seen);
  void acquire_threads(Warp& warp, uint32_t active, const uint32_t* seen);
  // Records that `warp` has seen another actor of its block up to `stamp`.
  void acquire_stamp(Warp& warp, int actor_in_block, uint32_t stamp);
  void fence_proxy(Warp& warp, uint32_t active);  // fence.proxy.async
  const uint32_t* seen_of(const Warp& warp, int lane) const;
  // Encodes an access: see race_access.h.
  uint32_t describe(const Warp& warp, const Instruction& in, int lane) const;
  // Text of an access, "warp 0 lane 3 (thread 3)", preceded by its block unless `by` is in it.
  static std::string who(uint32_t access, const Warp& by);

 private:
  // Special stamps, larger than every clock, so that the quick comparison fails.
  static constexpr uint32_t NEVER = 0xffffffffu, IN_FLIGHT = 0xfffffffeu, MBARRIER = 0xfffffffdu,
                            READING = 0xffffffffu;

  void gather_lanes(Warp& warp);
  void update_ordered(Warp& warp) const;
  int actor_of(uint32_t access, size_t cell) const;
  int reader_of(const Warp& warp) const;
  int actor_of_reader(int reader) const;
  bool is_unfenced(const uint32_t* clock, size_t cell) const;
  // In the functions ..._of, COUNT is the number of cells if it is known to the compiler, or 0.
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

  Time& time_;
  bool races_ = true, remote_ = false;
  int shift_ = 2, rank_ = 0, first_actor_ = 0;
  int readers_ = 0;  // warps (of all blocks if remote_), then warpgroups
  Actors actors_;
  uint32_t forgotten_ = 0;  // records with a lower stamp have been erased
  const Kernel* kernel_ = nullptr;
  size_t stride_ = 0;  // cells of `reads_` per reader
  // Per cell:
  std::vector<uint32_t> write_time_, write_access_;
  std::vector<uint16_t> write_actor_;  // for asynchronous writes
  std::vector<uint32_t> read_time_;    // latest stamp of any reader
  std::vector<uint64_t> reads_;        // [readers_][stride_]: stamp << 32 | access
  std::vector<uint16_t> reading_;      // number of asynchronous reads in flight
  std::vector<uint32_t> reading_access_;
};

}  // namespace vgg::emulator
