// The mbarriers of a ring of stages in shared memory, see ring.cuh. Host and device code include
// them.

#pragma once

#include <cstdint>

namespace vgg::sm90 {

template <int STAGES>
struct RingBarriers {
  uint64_t full[STAGES], empty[STAGES];
};

}  // namespace vgg::sm90
