// Who last wrote and read each cell of shared memory, and whether that happened before.
//
// A block has one clock, which ticks at every synchronisation. A warp stamps its accesses with the
// time of its last synchronisation; `Warp::seen[w]` is up to which stamp it has seen what warp w
// did (its own entry: what its other threads did). An access of warp w happened before one of warp
// v if its stamp is <= v.seen[w]; `Warp::ordered` is the least of them, so that nearly all checks
// are one comparison.

#pragma once

#include <cstdint>
#include <vector>

#include "warp.h"

namespace vgg::emulator {

class RaceDetector {
 public:
  static constexpr int ALL_TOGETHER = 32;  // as a lane: see read_together

  // Forgets everything. `granularity`: bytes of a cell.
  void start_block(uint32_t shared_bytes, uint32_t granularity, std::vector<Warp>& warps,
                   bool races);

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

  // Synchronisation. What `warp` did so far is published in `seen`, then it ticks.
  void sync_warp(Warp& warp);
  void release(Warp& warp, uint32_t* seen, bool tick);
  // All of `warps` continue with what `seen` says, and have seen each other.
  void acquire(std::vector<Warp>& warps, uint32_t mask, const uint32_t* seen);

 private:
  // Stamps of cells that no comparison lets pass.
  static constexpr uint32_t NEVER = 0xffffffffu, IN_FLIGHT = 0xfffffffeu;

  uint32_t describe(const Warp& warp, const Instruction& in, int lane) const;
  std::string who(uint32_t access) const;
  void update_ordered(Warp& warp) const;
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
  void explain_read(const Warp& warp, const Instruction& in, int lane, size_t cell);
  void explain_write(const Warp& warp, const Instruction& in, int lane, size_t cell,
                     bool is_atomic);
  [[noreturn]] void report(const Warp& warp, const Instruction& in, int lane, size_t cell,
                           const char* verb, uint32_t other, const char* other_verb) const;

  bool races_ = true;
  int shift_ = 2, warps_ = 0;
  uint32_t time_ = 1;
  const Kernel* kernel_ = nullptr;
  size_t stride_ = 0;  // cells of `reads_` for each warp
  std::vector<uint32_t> write_time_, write_access_;
  std::vector<uint32_t> read_time_;  // the last one of any warp
  std::vector<uint64_t> reads_;      // by warp: stamp << 32 | access
};

}  // namespace vgg::emulator
