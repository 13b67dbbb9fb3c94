// A running block: warps, shared memory, barriers, and the choice of the next warp.

#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "emulator/core/block_context.h"
#include "emulator/core/printed_text.h"
#include "emulator/core/warp.h"
#include "emulator/core/warpgroup.h"
#include "emulator/memory/global_memory.h"
#include "emulator/memory/races.h"
#include "emulator/memory/shared_memory.h"
#include "emulator/run/mbarriers.h"

namespace vgg::emulator {

class Cluster;

// State shared by all blocks of a launch.
struct LaunchState {
  const Kernel& kernel;
  Dim3 grid, block, cluster;
  uint32_t shared_bytes;
  const char* params;
  const Options& options;
  GlobalMemory& global;
  PrintedText& printed;
  const std::atomic<bool>& stopped;
  bool early;
};

// Runs one block at a time; start() begins the next.
class Block {
 public:
  Block(const LaunchState& launch, Cluster& cluster, int rank);
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;

  void start(Dim3 index);
  // Runs one warp for a while. Returns false if all warps wait or have ended.
  bool step();
  bool is_done() const { return live_warps_ == 0; }
  // Makes threads that wait for `object` ready to run again.
  void wake(Wait wait, uint32_t object = ANY_OBJECT) { emulator::wake(warps_, wait, object); }
  // Ends the waits that end with time: nanosleep, and in kernels that read a clock try_wait.
  // Returns whether there were any.
  bool pass_time();
  // Records an access to the block's shared memory by another block or an asynchronous copy. The
  // block must not end before it.
  void note_access(int actor, uint32_t stamp, const Warp& by, const Instruction& in);
  std::string waiting() const;  // text for deadlocks, "warp 0 (threads 0-31) at barrier 1 ..."

  const Kernel& kernel() const { return launch_.kernel; }
  const Options& options() const { return launch_.options; }
  GlobalMemory& global() { return launch_.global; }
  PrintedText& printed() { return launch_.printed; }
  const char* params() const { return launch_.params; }
  char* local(const Warp& warp, int lane) {
    return local_.data() +
           static_cast<size_t>(warp.warp_id * LANES + lane) * launch_.kernel.local_bytes;
  }
  uint32_t number() const { return context_.number; }
  int rank() const { return context_.rank; }
  Cluster& cluster() { return cluster_; }
  std::string name() const { return context_.name(); }  // "block (3,0,0)"
  // Whether earlier launches may still run, until griddepcontrol.wait.
  bool is_early() const { return context_.is_early; }
  void wait_for_launches() { context_.is_early = false; }
  std::vector<Warp>& warps() { return warps_; }

  Counters counters;
  RaceDetector races;
  SharedMemory shared;
  Mbarriers mbarriers;
  std::vector<Warpgroup> warpgroups;
  int free_registers = 0;  // registers released by setmaxnreg, per thread of one warp

 private:
  struct Barrier {
    uint32_t arrived = 0;   // threads
    uint32_t expected = 0;  // threads; 0 if no thread has arrived
    bool whole_block = false;
    uint32_t waiting = 0;                // mask of warps
    const Instruction* first = nullptr;  // where the first warp arrived
    int popc = 0;                        // results of bar.red
    bool all = true, any = false;
    Clock seen;
  };

  void fill_specials(Warp& warp);
  int next_warp();
  uint64_t time_slice();

  // Runs a warp until it waits, but at most `budget` instructions.
  void run_warp(Warp& warp, uint64_t budget);
  size_t pick_group(Warp& warp);
  // Executes an instruction that splits, stops or ends groups. groups[current] is at `in`.
  void control(Warp& warp, size_t current, const Instruction& in, uint32_t active);
  // Returns true if all threads that the instruction needs have arrived; otherwise the group waits.
  bool gather(Warp& warp, size_t current, const Instruction& in, uint32_t& active);
  void try_or_wait(Warp& warp, size_t current, const Instruction& in, uint32_t active);
  void branch_to_table(Warp& warp, size_t current, const Instruction& in, uint32_t active);
  void split(Warp& warp, size_t current, uint32_t leaving, uint32_t pc);
  void exit(Warp& warp, size_t current, const Instruction& in, uint32_t active);
  void arrive_at_barrier(Warp& warp, const Instruction& in, uint32_t active);
  void complete(Barrier& barrier);
  uint32_t uniform_value(const Warp& warp, const Instruction& in, Operand operand,
                         uint32_t active) const;

  std::string status(const Warp& warp) const;
  void check_accesses(const Warp& warp, const Instruction& in);
  void check_registers_held(const Warp& warp, const Instruction& in);
  void check_exit(Warp& warp, const Instruction& in, uint32_t active);

  [[noreturn]] void fail_never_meet(const Warp& warp);

  BlockContext context_;
  const LaunchState& launch_;
  Cluster& cluster_;
  int live_warps_ = 0;
  uint32_t random_ = 1;
  int last_warp_ = 0;
  std::vector<Warp> warps_;
  std::vector<Line> registers_;
  std::vector<Line> constants_;  // the kernel's, with the block's rank in addresses; or empty
  std::vector<char> local_;
  struct Access {
    uint32_t stamp = 0;
    const Instruction* instruction = nullptr;
    const Warp* warp = nullptr;
  };
  std::vector<Access> accesses_;  // last access from outside, per actor of the cluster
  Barrier barriers_[MAX_BARRIERS];
};

}  // namespace vgg::emulator
