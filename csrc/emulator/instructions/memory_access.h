// How memory instructions reach memory: addresses, checks, counts.

#pragma once

#include <string>
#include <vector>

#include "emulator/core/lanes.h"

namespace vgg::emulator {

class Decoder;

enum class AccessKind { read, write, atomic };

// Addresses of all 32 lanes. Inactive lanes get that of an active one, so that loops over all
// lanes need no mask.
struct Addresses {
  uint64_t of[LANES];
};
Addresses read_addresses(const Warp& warp, uint32_t active, Operand base, bool wide,
                         int64_t offset);

// Calls f(active, host) with the threads and the addresses where the bytes are in this process,
// once for each state space that the threads access: mostly once.
template <class F>
void access_memory(Warp& warp, const Instruction& in, uint32_t active, Operand base, uint32_t bytes,
                   AccessKind kind, F f);

// Checks, counts, and turns addresses in one space into addresses in this process.
void resolve(Warp& warp, const Instruction& in, uint32_t active, Space space, uint32_t bytes,
             AccessKind kind, Addresses& addresses);
Space space_of(uint64_t generic, uint64_t& address);

// Shared memory of some block of the cluster. Addresses of another block have its rank + 1 from
// RANK_SHIFT on.
constexpr int RANK_SHIFT = 24;
struct SharedPlace {
  Block* block;
  uint32_t offset;
};
// Of one thread's access to `bytes` bytes at a multiple of `align`; `space` is shared or generic.
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
    const Space space = space_of(addresses.of[__builtin_ctz(left)], address);
    uint32_t same = 0;
    Addresses part;
    for_each_lane(left, [&](int lane) {
      if (space_of(addresses.of[lane], part.of[lane]) == space) same |= 1u << lane;
    });
    for (int lane = 0; lane < LANES; ++lane) {
      if (!is_active(same, lane)) part.of[lane] = address;
    }
    resolve(warp, in, same, space, bytes, kind, part);
    f(same, part);
    left &= ~same;
  }
}

// The modifiers of ld, st, atom and red.
struct MemoryModifiers {
  Space space = Space::generic;
  int count = 1;
  bool fences = false;    // acquire or release
  std::string type;       // "f32"
  std::string operation;  // of an atomic
};
// Throws Error (by `decoder`) for what `instruction` ("ld") does not have.
MemoryModifiers parse_memory_modifiers(Decoder& decoder, const std::string& instruction,
                                       const std::vector<std::string>& modifiers);
int bytes_of_type(const std::string& type);  // 0 if unknown

}  // namespace vgg::emulator
