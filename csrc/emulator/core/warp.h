// A running warp: its registers, and the positions of its threads.

#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "emulator/core/block_context.h"
#include "emulator/core/clock.h"
#include "emulator/core/program.h"

namespace vgg::emulator {

class Block;  // run/block.h
struct Warpgroup;

// Reasons why threads wait.
enum class Wait : uint8_t {
  threads,   // for other threads of the warp, at an instruction that needs them together
  mbarrier,  // for a phase of the mbarrier at shared-memory offset `object`; ANY_OBJECT: of several
  registers,  // for registers that another warp releases (setmaxnreg)
  warpgroup,  // for the other warps of the warpgroup
  cluster,    // at barrier.cluster
  time,       // for time to pass (nanosleep)
};
constexpr uint32_t ANY_OBJECT = ~0u;

// Threads of a warp that run together. A group splits at a divergent branch and merges with groups
// that reach the same instruction. The group with the lowest program counter runs first.
struct Group {
  uint32_t pc, mask;
  bool waits;
  Wait wait = Wait::threads;
  uint32_t object = 0;
};

// One cp.async of a warp. Its bytes are in flight until its threads wait for its group.
struct AsyncCopy {
  const Instruction* instruction;
  uint32_t mask;              // threads that have not waited yet
  uint32_t to[LANES];         // offset in shared memory
  const char* from[LANES];    // in global memory
  uint8_t read_bytes[LANES];  // the remaining bytes become zeros
  uint32_t group[LANES];      // per thread: number of groups committed before
};

// One bulk store. Its source in shared memory is in use until its thread waits for its group.
struct BulkStore {
  const Instruction* instruction;
  int lane;
  uint32_t group;                                     // groups the thread committed before
  std::function<void()> copy;                         // the copy, unless it has been made
  std::vector<std::pair<uint32_t, uint32_t>> source;  // offset in shared memory, bytes
};

struct Warp {
  enum class State { ready, at_barrier, waiting, done };

  char* registers;
  const char* constants;
  Block* block;                 // for handlers of instructions
  const BlockContext* context;  // the same block, for all other code
  Warpgroup* warpgroup;
  int warp_id;
  State state;
  uint32_t existing;  // threads; the last warp of a block may have fewer than 32
  uint32_t live;      // threads that have not exited
  std::vector<Group> groups;
  const Instruction* at;  // the barrier where the warp waits, or its exit
  int barrier;            // number of the barrier where the warp waits
  uint64_t executed;      // instructions

  std::vector<AsyncCopy> copies;  // in flight, from first_copy on
  size_t first_copy;
  uint32_t committed[LANES];  // cp.async groups, per thread

  std::vector<BulkStore> bulk_stores;  // in flight
  uint32_t bulk_committed[LANES];      // bulk groups, per thread

  // Set by handlers of Control::wait instructions: whether, and why, the active threads must wait.
  bool must_wait;
  Wait wait;
  uint32_t wait_object;
  uint64_t polled[LANES];  // per thread: last phase found incomplete; see mbarriers.h

  std::vector<uint8_t> register_state;  // see warpgroup.h; empty without wgmma
  uint32_t wgmma_committed;             // wgmma groups
  bool wgmma_fenced;                    // has executed a wgmma.fence

  uint32_t cluster_arrived;  // threads that have arrived at barrier.cluster and not yet waited
  uint64_t cluster_phase;    // the phase of barrier.cluster in which they arrived

  int registers_held;  // per thread, as set by setmaxnreg

  // Clocks of the race detector; see races.h.
  int actor;
  uint32_t stamp, ordered;
  Clock seen;
  uint32_t lanes_ahead;  // threads that have seen more than the warp; their clocks: lane_seen
  Clock lane_seen;       // [LANES][clock_size]
  uint32_t fenced;       // stamp at the last fence.mbarrier_init; 0 without one

  int warpgroup_id() const { return warp_id / WARPGROUP; }
  int warpgroup_rank() const { return warp_id % WARPGROUP; }  // position in the warpgroup

  void wait_for(Wait what, uint32_t object) {
    must_wait = true;
    wait = what;
    wait_object = object;
  }

  template <class T>
  T* lanes(Operand operand) const {
    const char* base = operand & CONSTANT_OPERAND ? constants : registers;
    return reinterpret_cast<T*>(const_cast<char*>(base) + (operand & ~CONSTANT_OPERAND));
  }
};

// Makes threads that wait for `object` ready to run again.
void wake(std::vector<Warp>& warps, Wait wait, uint32_t object = ANY_OBJECT);

// Text of a set of lanes, "lanes 0-3,7".
std::string lanes_of(uint32_t mask);

// Text of a warp's threads, "(threads 32-63)".
std::string threads_of(int warp_id, uint32_t existing = ~0u);

// Throws Error with the kernel, the block, the warp, the thread (if `lane` >= 0), the source line
// of the instruction, and `what`.
[[noreturn]] void fail(const Warp& warp, const Instruction& instruction, int lane,
                       const std::string& what);

}  // namespace vgg::emulator
