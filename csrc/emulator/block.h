// One block while it runs: its warps, its shared memory, its barriers, and who runs next.

#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "global_memory.h"
#include "races.h"
#include "shared_memory.h"
#include "warp.h"

namespace vgg::emulator {

// What the blocks of a launch have in common.
struct LaunchState {
  const Kernel& kernel;
  Dim3 grid, block;
  uint32_t shared_bytes;
  const char* params;
  const Options& options;
  GlobalMemory& global;
  const std::atomic<bool>& stopped;
};

// Used for one block after the other.
class Block {
 public:
  explicit Block(const LaunchState& launch);
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;

  // False if it was stopped before its end.
  bool run(uint64_t number);

  const Kernel& kernel() const { return launch_.kernel; }
  const Options& options() const { return launch_.options; }
  GlobalMemory& global() { return launch_.global; }
  const char* params() const { return launch_.params; }
  char* local(const Warp& warp, int lane) {
    return local_.data() +
           static_cast<size_t>(warp.index * LANES + lane) * launch_.kernel.local_bytes;
  }
  uint32_t number() const { return number_; }
  std::string name() const;  // "block (3,0,0)"

  Counters counters;
  RaceDetector races;
  SharedMemory shared;

 private:
  struct Barrier {
    uint32_t arrived = 0;   // threads
    uint32_t expected = 0;  // threads; 0 while nobody waits
    bool whole_block = false;
    uint32_t waiting = 0;  // warps
    const Instruction* first = nullptr;
    int popc = 0;  // of bar.red
    bool all = true, any = false;
    uint32_t seen[MAX_WARPS] = {};
  };

  void start(uint64_t number);
  void fill_specials(Warp& warp);
  int next_warp();
  uint64_t time_slice();

  // Runs a warp until it waits, or for `budget` instructions.
  void run_warp(Warp& warp, uint64_t budget);
  size_t pick_group(Warp& warp);
  // Instructions that part, stop or end groups. groups[current] is at `in`.
  void control(Warp& warp, size_t current, const Instruction& in, uint32_t active);
  // True if all threads that the instruction needs are here; else the group waits for them.
  bool gather(Warp& warp, size_t current, const Instruction& in, uint32_t& active);
  void branch_to_table(Warp& warp, size_t current, const Instruction& in, uint32_t active);
  void split(Warp& warp, size_t current, uint32_t leaving, uint32_t pc);
  void exit(Warp& warp, size_t current, const Instruction& in, uint32_t active);
  void arrive_at_barrier(Warp& warp, const Instruction& in, uint32_t active);
  void complete(Barrier& barrier);
  uint32_t uniform_value(const Warp& warp, const Instruction& in, Operand operand,
                         uint32_t active) const;

  [[noreturn]] void fail_never_meet(const Warp& warp);
  [[noreturn]] void fail_deadlock();

  const LaunchState& launch_;
  uint32_t number_ = 0;
  Dim3 index_;
  uint32_t random_ = 1;
  int last_warp_ = 0;
  std::vector<Warp> warps_;
  std::vector<Line> registers_;
  std::vector<char> local_;
  Barrier barriers_[MAX_BARRIERS];
};

}  // namespace vgg::emulator
