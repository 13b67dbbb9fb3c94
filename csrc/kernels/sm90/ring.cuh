// Rings of stages in shared memory, filled by a producer and emptied by consumers.

#pragma once

#include <cstdint>

namespace vgg::sm90 {

// A place in a ring of stages, and the phase of its barriers' phase there.
template <int STAGES>
struct PipelineState {
  uint32_t stage = 0, phase = 0;
  __device__ __forceinline__ void advance() {
    if (++stage == STAGES) {
      stage = 0;
      phase ^= 1;
    }
  }
};

}  // namespace vgg::sm90
