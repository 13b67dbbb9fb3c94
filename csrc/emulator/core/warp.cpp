#include "emulator/core/warp.h"

#include "emulator/core/lanes.h"

namespace vgg::emulator {

std::string lanes_of(uint32_t mask) {
  if (mask == ALL_LANES) return "all lanes";
  std::string text;
  for (int lane = 0; lane < LANES; ++lane) {
    if (!is_active(mask, lane)) continue;
    int last = lane;
    while (last + 1 < LANES && is_active(mask, last + 1)) ++last;
    text += (text.empty() ? "" : ",") + std::to_string(lane);
    if (last > lane) text += '-' + std::to_string(last);
    lane = last;
  }
  return (__builtin_popcount(mask) == 1 ? "lane " : "lanes ") + text;
}

std::string threads_of(int warp_id, uint32_t existing) {
  const int first = warp_id * LANES;
  return "(threads " + std::to_string(first) + '-' +
         std::to_string(first + LANES - 1 - __builtin_clz(existing)) + ')';
}

void wake(std::vector<Warp>& warps, Wait wait, uint32_t object) {
  for (Warp& warp : warps) {
    bool woken = false;
    for (Group& group : warp.groups) {
      if (!group.waits || group.wait != wait) continue;
      if (object != ANY_OBJECT && group.object != ANY_OBJECT && group.object != object) continue;
      group.waits = false;
      woken = true;
    }
    if (woken && warp.state == Warp::State::waiting) warp.state = Warp::State::ready;
  }
}

void fail(const Warp& warp, const Instruction& instruction, int lane, const std::string& what) {
  const BlockContext& block = *warp.context;
  std::string text = "kernel " + block.kernel.name + ": " + block.name() + ", warp " +
                     std::to_string(warp.warp_id);
  if (lane >= 0 && lane < LANES) {
    text += " lane " + std::to_string(lane) + " (thread " +
            std::to_string(warp.warp_id * LANES + lane) + ')';
  } else {
    text += ' ' + threads_of(warp.warp_id, warp.existing);
  }
  throw Error(text + ", " + block.kernel.where(instruction) + ": " + what);
}

}  // namespace vgg::emulator
