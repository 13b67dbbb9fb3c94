// A warp while it runs: registers, and which of its threads are where.

#pragma once

#include <cstdint>
#include <vector>

#include "program.h"

namespace vgg::emulator {

class Block;

// Threads of a warp that run together. Groups part at branches and merge where they meet; the one
// that is furthest behind runs first.
struct Group {
  uint32_t pc, mask;
  bool waits;  // for other threads of the warp, at an instruction that needs them together
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

struct Warp {
  enum class State { ready, at_barrier, done };

  char* registers;
  const char* constants;
  Block* block;
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

  // What it has seen of the other warps; races.h explains.
  uint32_t stamp, ordered;
  uint32_t seen[MAX_WARPS];

  template <class T>
  T* lanes(Operand operand) const {
    const char* base = operand & CONSTANT_OPERAND ? constants : registers;
    return reinterpret_cast<T*>(const_cast<char*>(base) + (operand & ~CONSTANT_OPERAND));
  }
};

// "(threads 32-63)"
std::string threads_of(int warp, uint32_t existing = ~0u);

// Throws Error: the kernel, the block, the warp (and the thread, if `lane` >= 0), `what`, and the
// line of the instruction.
[[noreturn]] void fail(const Warp& warp, const Instruction& instruction, int lane,
                       const std::string& what);

}  // namespace vgg::emulator
