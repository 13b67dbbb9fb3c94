// The mbarriers of a block. Each occupies 64 bits of shared memory, whose contents are opaque.
//
// A phase completes when all expected arrivals and all expected bytes have come. The first query
// for an incomplete phase fails, as on hardware, where try_wait has a time limit. If the thread
// queries the same phase again, it waits.

#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "emulator/core/block_context.h"
#include "emulator/core/warp.h"
#include "emulator/memory/races.h"

namespace vgg::emulator {

struct Mbarrier {
  uint32_t offset = 0;  // bytes from the start of shared memory
  uint32_t expected = 0, pending = 0;
  int64_t bytes = 0;  // expected bytes minus bytes that have come
  uint64_t phase = 0;
  int actor = 0;
  Clock released, acquired;  // clocks of the current and of the previous phase

  const Instruction* init = nullptr;
  int init_actor = 0, init_lane = 0;
  uint32_t init_stamp = 0, init_access = 0;
  bool fenced = false;  // fence.mbarrier_init made it visible beyond the block's threads
};

class Mbarriers {
 public:
  Mbarriers(const BlockContext& context, RaceDetector& races, std::vector<Warp>& warps)
      : context_(context), races_(races), warps_(warps) {}
  void start_block();

  void init(Warp& warp, const Instruction& in, int lane, uint32_t offset, uint32_t count);
  void invalidate(const Warp& warp, const Instruction& in, int lane, uint32_t offset);
  // Returns the mbarrier at `offset`. Throws Error unless it is initialised and the thread has seen
  // that; with `by_async`, the async proxy must have seen it, too.
  Mbarrier& find(const Warp& warp, const Instruction& in, int lane, uint32_t offset,
                 bool by_async = false);
  Mbarrier& at_end_of_copy(const Warp& warp, const Instruction& in, int lane, uint32_t offset);
  // With `releases`, the arrival has release semantics.
  void arrive(Warp& warp, const Instruction& in, int lane, Mbarrier& barrier, uint32_t count,
              bool releases);
  void expect(const Warp& warp, const Instruction& in, int lane, Mbarrier& barrier, uint32_t bytes);
  // Counts the bytes of a finished copy. `in` and `lane`: its issuer; `stamp`: the time of its end.
  void complete(const Warp& warp, const Instruction& in, int lane, Mbarrier& barrier,
                uint32_t bytes, uint32_t stamp);
  void fence(const Warp& warp);  // fence.mbarrier_init

  std::string describe(uint32_t offset) const;

 private:
  void advance(Mbarrier& barrier);
  void add_bytes(const Warp& warp, const Instruction& in, int lane, Mbarrier& barrier,
                 int64_t bytes);

  const BlockContext& context_;
  RaceDetector& races_;
  std::vector<Warp>& warps_;  // of the block
  std::vector<Mbarrier> barriers_;
};

}  // namespace vgg::emulator
