// A warp while it runs: registers, and which of its threads are where.

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

class Block;  // run/block.h: only instructions look into it
struct Warpgroup;

// What waiting threads wait for.
enum class Wait : uint8_t {
  threads,    // others of the warp, at an instruction that needs them together
  mbarrier,   // a phase of the one at `object`, an offset in shared memory, or of any (ANY_OBJECT)
  registers,  // that others give back
  warpgroup,  // the other warps of it
  cluster,    // barrier.cluster
};
constexpr uint32_t ANY_OBJECT = ~0u;

// Threads of a warp that run together. Groups part at branches and merge where they meet; the one
// that is furthest behind runs first.
struct Group {
  uint32_t pc, mask;
  bool waits;
  Wait wait = Wait::threads;
  uint32_t object = 0;
};

// One cp.async: its bytes are in flight until its threads wait for its group.
struct AsyncCopy {
  const Instruction* instruction;
  uint32_t mask;              // threads that have not waited yet
  uint32_t to[LANES];         // offset in shared memory
  const char* from[LANES];    // in global memory
  uint8_t read_bytes[LANES];  // the rest is filled with zeros
  uint32_t group[LANES];      // by thread: the number of groups that it committed before
};

// One bulk store: its bytes are read from shared memory until its thread waits for its group.
struct BulkStore {
  const Instruction* instruction;
  int lane;
  uint32_t group;                                     // groups that its thread committed before
  std::function<void()> copy;                         // still to be done, if not empty
  std::vector<std::pair<uint32_t, uint32_t>> source;  // offset in shared memory, bytes
};

struct Warp {
  enum class State { ready, at_barrier, waiting, done };

  char* registers;
  const char* constants;
  Block* block;
  const BlockContext* context;  // of the block
  Warpgroup* group;             // warpgroup.h
  int index;
  State state;
  uint32_t existing;  // threads; the last warp of a block may have fewer than 32
  uint32_t live;      // threads that have not exited
  std::vector<Group> groups;
  const Instruction* at;  // waits here (or exited here)
  int barrier;            // where it waits
  uint64_t executed;      // instructions

  std::vector<AsyncCopy> copies;  // in flight, from first_copy on
  size_t first_copy;
  uint32_t committed[LANES];  // groups of them

  std::vector<BulkStore> bulk_stores;  // in flight
  uint32_t bulk_committed[LANES];      // groups of them

  // A handler's answer where Control::wait asks whether threads have to wait.
  bool must_wait;
  Wait wait;
  uint32_t wait_object;
  uint64_t polled[LANES];  // the phase that a thread has last found incomplete: see mbarriers.h

  std::vector<uint8_t> register_state;  // wgmma.h explains; empty without wgmma
  uint32_t wgmma_committed;             // groups
  bool wgmma_fenced;                    // ever

  uint32_t cluster_arrived;  // threads that have arrived at the cluster's barrier and not waited,
  uint64_t cluster_phase;    // in this phase of it

  int registers_held;  // of a thread, as setmaxnreg counts

  // What it has seen of the other actors; races.h explains.
  int actor;
  uint32_t stamp, ordered;
  Clock seen;
  uint32_t lanes_ahead;  // threads that have seen more: theirs are in lane_seen, [LANES][actors]
  Clock lane_seen;
  Clock fenced;  // as of its last fence.mbarrier_init; empty if there was none

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

// Lets threads that wait for this look again.
void wake(std::vector<Warp>& warps, Wait wait, uint32_t object = ANY_OBJECT);

// "lanes 0-3,7"
std::string lanes_of(uint32_t mask);

// "(threads 32-63)"
std::string threads_of(int warp, uint32_t existing = ~0u);

// Throws Error: the kernel, the block, the warp (and the thread, if `lane` >= 0), `what`, and the
// line of the instruction.
[[noreturn]] void fail(const Warp& warp, const Instruction& instruction, int lane,
                       const std::string& what);

}  // namespace vgg::emulator
