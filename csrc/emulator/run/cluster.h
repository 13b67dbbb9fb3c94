// The blocks of one cluster while they run: mostly one. They run concurrently, as the schedule has
// it; what is asynchronous is queued here.

#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "emulator/core/clock.h"
#include "emulator/run/block.h"

namespace vgg::emulator {

// A copy that nobody's wait completes by itself: an mbarrier counts its bytes.
struct AsyncOperation {
  const Warp* warp;  // that issued it
  const Instruction* instruction;
  int lane;
  Block* to;
  std::function<void()> complete;
};

// Used for one cluster after the other.
class Cluster {
 public:
  explicit Cluster(const LaunchState& launch);

  // False if it was stopped before its end.
  bool run(uint64_t number);

  int size() const { return static_cast<int>(blocks_.size()); }
  Block& block(int rank) { return *blocks_[rank]; }
  Counters counters() const;

  // At once, or when nobody can run otherwise.
  void start(AsyncOperation operation);
  // barrier.cluster, by some threads of a warp. `releases`: with what they have seen.
  void arrive(Warp& warp, const Instruction& in, uint32_t active, bool releases);
  bool has_completed(Warp& warp, const Instruction& in, uint32_t active);
  void leave();  // threads have ended, and are not waited for

  // Nothing may be in flight to a block that has ended.
  void check_exit(const Block& block, const Warp& warp, const Instruction& in) const;

  Time time;

 private:
  bool step();
  bool complete_one();
  void complete_barrier();
  [[noreturn]] void fail_deadlock() const;
  uint32_t random();

  const LaunchState& launch_;
  std::vector<std::unique_ptr<Block>> blocks_;
  std::vector<AsyncOperation> in_flight_;
  uint64_t phase_ = 1;  // of the barrier
  Clock released_, acquired_;
  uint32_t random_ = 1;
  int last_block_ = 0;
};

}  // namespace vgg::emulator
