// The mbarriers of a ring of stages in shared memory; see ring.cuh. For the host, too.

#pragma once

#include <cstdint>

namespace vgg::sm90 {

template <int STAGES>
struct RingBarriers {
  uint64_t full[STAGES], empty[STAGES];
};

}  // namespace vgg::sm90
