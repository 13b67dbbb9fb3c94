// Memory accesses of instructions: addresses, checks, counts.

#pragma once

#include <cstdint>

#include "emulator/core/lanes.h"

namespace vgg::emulator {

enum class AccessKind { read, write, atomic };

// Addresses of all 32 lanes. Inactive lanes get the address of an active lane, so that loops over
// all lanes need no mask.
struct Addresses {
  uint64_t of[LANES];
};
Addresses read_addresses(const Warp& warp, uint32_t active, Operand base, bool wide,
                         int64_t offset);

// Calls f(active, host) once per state space that the threads access, usually once. `host` are the
// addresses of the bytes in this process.
template <class F>
void access_memory(Warp& warp, const Instruction& in, uint32_t active, Operand base, uint32_t bytes,
                   AccessKind kind, F f);

// Checks and counts an access, and turns addresses in one space into addresses in this process.
void resolve(Warp& warp, const Instruction& in, uint32_t active, Space space, uint32_t bytes,
             AccessKind kind, Addresses& addresses);
// Returns the space of a generic address, and its address in that space: `shared` for the shared
// memory of the thread's own block, `cluster` for that of other blocks.
Space space_of(const Warp& warp, uint64_t generic, uint64_t& address);

// A place in the shared memory of a block of the cluster.
struct SharedPlace {
  Block* block;
  uint32_t offset;
};
// Finds the place of one thread's access to `bytes` bytes, which must be at a multiple of `align`.
// `space` is shared, whose addresses are in the thread's own block, cluster or generic. Throws
// Error.
SharedPlace locate_shared(const Warp& warp, const Instruction& in, int lane, uint64_t address,
                          Space space, uint32_t bytes, uint32_t align, const char* verb);

template <class F>
void access_memory(Warp& warp, const Instruction& in, uint32_t active, Operand base, uint32_t bytes,
                   AccessKind kind, F f) {
  Addresses addresses = read_addresses(warp, active, base, in.wide_address, in.immediate);
  if (in.space != Space::generic) {
    resolve(warp, in, active, in.space, bytes, kind, addresses);
    return f(active, addresses);
  }
  uint32_t left = active;
  while (left != 0) {
    uint64_t address;
    const Space space = space_of(warp, addresses.of[__builtin_ctz(left)], address);
    uint32_t same = 0;
    Addresses part;
    for_each_lane(left, [&](int lane) {
      if (space_of(warp, addresses.of[lane], part.of[lane]) == space) same |= 1u << lane;
    });
    for (int lane = 0; lane < LANES; ++lane) {
      if (!is_active(same, lane)) part.of[lane] = address;
    }
    resolve(warp, in, same, space, bytes, kind, part);
    f(same, part);
    left &= ~same;
  }
}

}  // namespace vgg::emulator
