// Waits for mbarriers and for earlier launches.
//
// In builds with VGG_CUDA_DEBUG_WAITS, a wait for an mbarrier that takes longer than LIMIT_S prints
// a line and stops the kernel: docs/debugging.md. griddepcontrol.wait has no time limit. A block in
// which it does not return is reported by the warps that wait for the data behind it.

#pragma once

#include <cstdint>
#ifdef VGG_CUDA_DEBUG_WAITS
#include <cstdio>
#endif

#include "ptx/griddepcontrol.cuh"
#include "ptx/mbarrier.cuh"
#include "ptx/special_registers.cuh"

namespace vgg::sm90 {

#ifdef VGG_CUDA_DEBUG_WAITS
constexpr bool DEBUG_WAITS = true;
#else
constexpr bool DEBUG_WAITS = false;
#endif

// An mbarrier of builds with VGG_CUDA_DEBUG_WAITS, with one arrival, after griddepcontrol.wait. Its
// address is part of reports.
__device__ __forceinline__ void make_launches_ended(uint32_t barrier_smem) {
  if constexpr (DEBUG_WAITS) ptx::mbarrier_init(barrier_smem, 1);
}

// Waits until earlier launches have ended, in one thread of the block.
__device__ __forceinline__ void wait_for_launches(uint32_t launches_ended_smem) {
  ptx::griddepcontrol_wait();
  if constexpr (DEBUG_WAITS) ptx::mbarrier_arrive(launches_ended_smem);
}

// The block that waits, for reports: the name of its kernel, the start of its dynamic shared
// memory, and the mbarrier of make_launches_ended(), 0 without one.
struct Waiter {
  const char* kernel;
  uint32_t smem, launches_ended_smem;
};

// The mbarrier's place, for reports: "pixels", "full", the stage.
struct BarrierName {
  const char *ring, *kind;
  uint32_t stage;
};

#ifdef VGG_CUDA_DEBUG_WAITS

// Prints one line for the threads of the warp that run together. Stops the kernel after a pause, in
// which other warps print theirs.
__device__ __forceinline__ void report_wait(uint32_t barrier_smem, uint32_t phase,
                                            const Waiter& waiter, const BarrierName& name,
                                            uint32_t seconds) {
  constexpr uint32_t PAUSES = 200, PAUSE_NS = 1000 * 1000;
  const uint32_t lane_id = threadIdx.x % 32;
  if (lane_id + 1 == __ffs(__activemask())) {
    const uint32_t launches = waiter.launches_ended_smem;
    const bool early = launches != 0 && !ptx::mbarrier_try_wait(launches, 0);
    printf(
        "kernel %s: block (%u,%u,%u), warp %u: has waited %u s for the end of phase %u of mbarrier "
        "%s.%s[%u], byte %u of shared memory%s\n",
        waiter.kernel, blockIdx.x, blockIdx.y, blockIdx.z, threadIdx.x / 32, seconds, phase,
        name.ring, name.kind, name.stage, barrier_smem - waiter.smem,
        early ? "; griddepcontrol.wait has not returned: an earlier launch has not ended" : "");
  }
  for (uint32_t i = 0; i < PAUSES; ++i) __nanosleep(PAUSE_NS);
  __trap();
}

#endif

// Waits until the phase with parity `phase` has ended.
__device__ __forceinline__ void wait_for_phase(uint32_t barrier_smem, uint32_t phase,
                                               [[maybe_unused]] const Waiter& waiter,
                                               [[maybe_unused]] const BarrierName& name) {
#ifdef VGG_CUDA_DEBUG_WAITS
  constexpr uint64_t LIMIT_S = 2, NS_PER_S = 1000 * 1000 * 1000;
  uint64_t begin = 0;
  while (!ptx::mbarrier_try_wait(barrier_smem, phase)) {
    const uint64_t now = ptx::globaltimer();
    if (begin == 0) begin = now;
    if (now - begin > LIMIT_S * NS_PER_S) report_wait(barrier_smem, phase, waiter, name, LIMIT_S);
  }
#else
  ptx::mbarrier_wait(barrier_smem, phase);
#endif
}

}  // namespace vgg::sm90
