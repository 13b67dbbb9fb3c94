// A running cluster, often of one block. Its blocks run concurrently in the order of the schedule.
// Asynchronous operations into their shared memory are queued here.

#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "emulator/core/clock.h"
#include "emulator/run/block.h"

namespace vgg::emulator {

// Asynchronous copy completed by an mbarrier's byte count.
struct AsyncOperation {
  const Warp* warp;  // the issuer
  const Instruction* instruction;
  int lane;
  Block* to;
  std::function<void()> complete;
};

// Runs one cluster at a time.
class Cluster {
 public:
  explicit Cluster(const LaunchState& launch);

  // Runs cluster `number` of the grid. Returns false if the launch was stopped before its end.
  bool run(uint64_t number);

  int size() const { return static_cast<int>(blocks_.size()); }
  Block& block(int rank) { return *blocks_[rank]; }
  Counters counters() const;

  // Completes the operation at once or, with Options::lazy, when no warp can run.
  void start(AsyncOperation operation);
  // barrier.cluster.arrive of some threads of a warp; with `releases`, release semantics.
  void arrive(Warp& warp, const Instruction& in, uint32_t active, bool releases);
  // barrier.cluster.wait: returns whether the phase has completed.
  bool has_completed(Warp& warp, const Instruction& in, uint32_t active);
  void leave();  // to be called when threads have exited: the barrier no longer expects them

  // Throws Error if a copy into the block's shared memory is in flight when the block ends.
  void check_exit(const Block& block, const Warp& warp, const Instruction& in) const;

  uint64_t read_clock() { return ++nanoseconds_; }  // of %globaltimer

  Time time;

 private:
  bool step();
  bool complete_one();
  bool pass_time();
  void complete_barrier();
  [[noreturn]] void fail_deadlock() const;
  uint32_t random();

  const LaunchState& launch_;
  std::vector<std::unique_ptr<Block>> blocks_;
  std::vector<AsyncOperation> in_flight_;
  uint64_t nanoseconds_ = 0;
  uint64_t phase_ = 1;  // of barrier.cluster
  Clock released_, acquired_;
  uint32_t random_ = 1;
  int last_block_ = 0;
};

}  // namespace vgg::emulator
