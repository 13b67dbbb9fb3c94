// Rings of stages in shared memory, filled by a producer and emptied by consumers.

#pragma once

#include <cstdint>

namespace vgg::sm90 {

// A place in a ring of stages, and the parity of its barriers' phase there.
template <int STAGES>
struct Place {
  uint32_t stage = 0, parity = 0;
  __device__ __forceinline__ void advance() {
    if (++stage == STAGES) {
      stage = 0;
      parity ^= 1;
    }
  }
};

}  // namespace vgg::sm90
