// mbarriers: barriers in shared memory that count arrivals of threads and bytes of copies.

#pragma once

#include <cstdint>

namespace vgg::ptx {

// PTX ISA, 9.7.13.15.9: mbarrier.init. A phase ends after `arrivals` arrivals.
__device__ __forceinline__ void mbarrier_init(uint32_t barrier_smem, uint32_t arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier_smem), "r"(arrivals)
               : "memory");
}

// PTX ISA, 9.7.13.4: fence.mbarrier_init. Makes this thread's initialised barriers visible to the
// cluster and to asynchronous copies, once the other threads have synchronised with this one.
__device__ __forceinline__ void fence_mbarrier_init() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

// PTX ISA, 9.7.13.15.13: mbarrier.arrive.
__device__ __forceinline__ void mbarrier_arrive(uint32_t barrier_smem) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier_smem) : "memory");
}

// PTX ISA, 9.7.13.15.13: mbarrier.arrive, for a barrier of any block of the cluster. See
// cluster_address().
__device__ __forceinline__ void mbarrier_arrive_cluster(uint32_t barrier_cluster) {
  asm volatile("mbarrier.arrive.shared::cluster.b64 _, [%0];" ::"r"(barrier_cluster) : "memory");
}

// PTX ISA, 9.7.13.15.13: mbarrier.arrive.expect_tx. Arrives, and adds `bytes` to the bytes of
// copies that the phase waits for.
__device__ __forceinline__ void mbarrier_arrive_expect_tx(uint32_t barrier_smem, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier_smem),
               "r"(bytes)
               : "memory");
}

// PTX ISA, 9.7.13.15.16: mbarrier.try_wait. Waits for a limited time, which the hardware chooses,
// and returns whether the phase with parity `phase` (0 or 1) has ended. On a new barrier, the phase
// with parity 1 counts as ended.
__device__ __forceinline__ bool mbarrier_try_wait(uint32_t barrier_smem, uint32_t phase) {
  uint32_t ended;
  asm volatile(
      "{\n"
      ".reg .pred ended;\n"
      "mbarrier.try_wait.parity.shared::cta.b64 ended, [%1], %2;\n"
      "selp.u32 %0, 1, 0, ended;\n"
      "}"
      : "=r"(ended)
      : "r"(barrier_smem), "r"(phase)
      : "memory");
  return ended;
}

// Waits until the phase with parity `phase` has ended.
__device__ __forceinline__ void mbarrier_wait(uint32_t barrier_smem, uint32_t phase) {
  while (!mbarrier_try_wait(barrier_smem, phase)) {
  }
}

}  // namespace vgg::ptx
