// Special registers.

#pragma once

#include <cstdint>

namespace vgg::ptx {

// PTX ISA, 10.30: %globaltimer. Nanoseconds of a clock of the GPU, which advances in larger steps.
__device__ __forceinline__ uint64_t globaltimer() {
  uint64_t ns;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(ns));
  return ns;
}

}  // namespace vgg::ptx
