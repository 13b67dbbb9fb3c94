// The mbarriers of a block: 64 bits in shared memory each, whose contents only these functions
// know.
//
// A phase is complete when all expected threads have arrived and as many bytes have come as were
// expected. A thread that asks for a phase that is incomplete is told so once, as hardware may do
// (try_wait gives up after a time); if it asks for the same one again it waits.

#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "emulator/core/block_context.h"
#include "emulator/core/warp.h"
#include "emulator/memory/races.h"

namespace vgg::emulator {

struct Mbarrier {
  uint32_t offset = 0;  // in shared memory
  uint32_t expected = 0, pending = 0;
  int64_t bytes = 0;  // still to come; negative if more came than were expected
  uint64_t phase = 0;
  int actor = 0;
  Clock released, acquired;  // of this phase, of the one before

  const Instruction* init = nullptr;
  int init_actor = 0, init_lane = 0;
  uint32_t init_stamp = 0, init_access = 0;
  bool fenced = false;  // for others than the block's threads
};

class Mbarriers {
 public:
  Mbarriers(const BlockContext& context, RaceDetector& races, std::vector<Warp>& warps)
      : context_(context), races_(races), warps_(warps) {}
  void start_block();

  void init(Warp& warp, const Instruction& in, int lane, uint32_t offset, uint32_t count);
  void invalidate(const Warp& warp, const Instruction& in, int lane, uint32_t offset);
  // The one at `offset`, which this thread must know to be initialised. `by_async`: or the async
  // proxy on its behalf.
  Mbarrier& find(const Warp& warp, const Instruction& in, int lane, uint32_t offset,
                 bool by_async = false);
  Mbarrier& at_end_of_copy(const Warp& warp, const Instruction& in, int lane, uint32_t offset);
  // `releases`: with what the thread has seen.
  void arrive(Warp& warp, const Instruction& in, int lane, Mbarrier& barrier, uint32_t count,
              bool releases);
  void expect(const Warp& warp, const Instruction& in, int lane, Mbarrier& barrier, uint32_t bytes);
  // `in` and `lane`: who started the copy that did it; `stamp`: when it ended.
  void complete(const Warp& warp, const Instruction& in, int lane, Mbarrier& barrier,
                uint32_t bytes, uint32_t stamp);
  // fence.mbarrier_init
  void fence(const Warp& warp);

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
