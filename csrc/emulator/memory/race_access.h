// Encoding of an access in the race detector, 32 bits: instruction, kind, rank of the block in its
// cluster, warp, lane.

#pragma once

#include <cstdint>

#include "emulator/core/program.h"
#include "emulator/memory/races.h"

namespace vgg::emulator {

constexpr uint32_t ACCESS_WARP_SHIFT = 5, ACCESS_RANK_SHIFT = 10, ACCESS_KIND_SHIFT = 14,
                   ACCESS_INSTRUCTION_SHIFT = 16;
enum class AccessBy : uint32_t { thread, together, atomic, async };

inline uint32_t kind_bits(AccessBy kind) {
  return static_cast<uint32_t>(kind) << ACCESS_KIND_SHIFT;
}
inline AccessBy kind_of(uint32_t access) {
  return static_cast<AccessBy>(access >> ACCESS_KIND_SHIFT & 3);
}
inline bool is_async(uint32_t access) { return kind_of(access) == AccessBy::async; }
inline uint32_t as_async(uint32_t access) { return access | kind_bits(AccessBy::async); }
inline uint32_t instruction_of(uint32_t access) { return access >> ACCESS_INSTRUCTION_SHIFT; }
inline int rank_of(uint32_t access) { return access >> ACCESS_RANK_SHIFT & 15; }
inline int warp_id_of(uint32_t access) { return access >> ACCESS_WARP_SHIFT & (MAX_WARPS - 1); }
inline int lane_of(uint32_t access) {
  const bool together = kind_of(access) == AccessBy::together;
  return together ? RaceDetector::ALL_TOGETHER : access & (LANES - 1);
}

}  // namespace vgg::emulator
