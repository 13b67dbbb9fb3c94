// %globaltimer, nanosleep.
//
// Each cluster has a clock. A reading takes a nanosecond, and a millisecond passes when nothing
// else can happen: no warp can run, and no copy is in flight (Cluster::pass_time).

#include "emulator/decode/decode.h"
#include "emulator/instructions/instructions.h"
#include "emulator/run/block.h"
#include "emulator/run/cluster.h"

namespace vgg::emulator {
namespace {

constexpr uint64_t SLEPT = ~uint64_t{0};  // Warp::polled, which no mbarrier uses

void read_clock(Warp& warp, const Instruction& in, uint32_t active) {
  const uint64_t now = warp.block->cluster().read_clock();
  auto* lanes = warp.lanes<uint64_t>(in.operands[0]);
  for_each_lane(active, [&](int lane) { lanes[lane] = now; });
}

// Runs twice: before and after the pause.
void sleep(Warp& warp, const Instruction&, uint32_t active) {
  bool slept = true;
  for_each_lane(active, [&](int lane) { slept &= warp.polled[lane] == SLEPT; });
  for_each_lane(active, [&](int lane) { warp.polled[lane] = slept ? 0 : SLEPT; });
  if (!slept) warp.wait_for(Wait::time, 0);
}

}  // namespace

void decode_clock(Decoder& decoder, const PtxInstruction& from,
                  const std::vector<std::string>& modifiers, Instruction& to) {
  if (modifiers.size() != 1 || (modifiers[0] != "u64" && modifiers[0] != "b64")) {
    decoder.fail("expected 64 bits of %globaltimer");
  }
  decoder.write(from.operands[0], DOUBLE);
  decoder.kernel().reads_clock = true;
  to.handler = read_clock;
}

void add_time(InstructionTable& table) { table.add("nanosleep.u32", sleep, "w", Control::wait); }

}  // namespace vgg::emulator
