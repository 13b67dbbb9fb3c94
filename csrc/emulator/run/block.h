// One block while it runs: its warps, its shared memory, its barriers, and who runs next.

#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "emulator/core/block_context.h"
#include "emulator/core/warp.h"
#include "emulator/core/warpgroup.h"
#include "emulator/memory/global_memory.h"
#include "emulator/memory/races.h"
#include "emulator/memory/shared_memory.h"
#include "emulator/run/mbarriers.h"

namespace vgg::emulator {

class Cluster;

// What the blocks of a launch have in common.
struct LaunchState {
  const Kernel& kernel;
  Dim3 grid, block, cluster;
  uint32_t shared_bytes;
  const char* params;
  const Options& options;
  GlobalMemory& global;
  const std::atomic<bool>& stopped;
  bool early;
};

// Used for one block after the other.
class Block {
 public:
  Block(const LaunchState& launch, Cluster& cluster, int rank);
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;

  void start(Dim3 index);
  // Runs one of its warps for a while. False if all of them wait or have ended.
  bool step();
  bool is_done() const { return live_warps_ == 0; }
  // Threads that wait for this may look again.
  void wake(Wait wait, uint32_t object = ANY_OBJECT) { emulator::wake(warps_, wait, object); }
  // Somebody else accesses the shared memory: the block must not end before that is over.
  void note_access(int actor, uint32_t stamp, const Warp& by, const Instruction& in);
  std::string waiting() const;  // "warp 0 (threads 0-31) at barrier 1 ..."

  const Kernel& kernel() const { return launch_.kernel; }
  const Options& options() const { return launch_.options; }
  GlobalMemory& global() { return launch_.global; }
  const char* params() const { return launch_.params; }
  char* local(const Warp& warp, int lane) {
    return local_.data() +
           static_cast<size_t>(warp.index * LANES + lane) * launch_.kernel.local_bytes;
  }
  uint32_t number() const { return context_.number; }
  int rank() const { return context_.rank; }  // in its cluster
  Cluster& cluster() { return cluster_; }
  std::string name() const { return context_.name(); }  // "block (3,0,0)"
  // May launches before this one still run? Until griddepcontrol.wait.
  bool is_early() const { return context_.is_early; }
  void wait_for_launches() { context_.is_early = false; }
  std::vector<Warp>& warps() { return warps_; }

  Counters counters;
  RaceDetector races;
  SharedMemory shared;
  Mbarriers mbarriers;
  std::vector<Warpgroup> warpgroups;
  int free_registers = 0;  // of a thread of one warp: see setmaxnreg

 private:
  struct Barrier {
    uint32_t arrived = 0;   // threads
    uint32_t expected = 0;  // threads; 0 while nobody waits
    bool whole_block = false;
    uint32_t waiting = 0;  // warps
    const Instruction* first = nullptr;
    int popc = 0;  // of bar.red
    bool all = true, any = false;
    Clock seen;
  };

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
  void ask(Warp& warp, size_t current, const Instruction& in, uint32_t active);
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
  std::vector<char> local_;
  struct Access {
    uint32_t stamp = 0;
    const Instruction* instruction = nullptr;
    const Warp* warp = nullptr;
  };
  std::vector<Access> accesses_;  // the last one by actor of the cluster
  Barrier barriers_[MAX_BARRIERS];
};

}  // namespace vgg::emulator
