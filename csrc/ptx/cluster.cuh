// Synchronisation and shared memory of the blocks of a cluster.

#pragma once

#include <cstdint>

namespace vgg::ptx {

// PTX ISA, 9.7.13.4: barrier.cluster. All threads of the cluster must arrive, then wait. Memory
// accesses before the arrivals are ordered before accesses after the wait.
__device__ __forceinline__ void cluster_arrive() {
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
}
// Orders no memory accesses, and so does not wait for them. Barriers that were made before a
// fence_mbarrier_init() of the arriving thread are visible after the wait.
__device__ __forceinline__ void cluster_arrive_relaxed() {
  asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
}
__device__ __forceinline__ void cluster_wait() {
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}

// PTX ISA, 9.7.9.24: mapa. Maps an address in this block's shared memory to the same place in block
// `rank` of the cluster.
__device__ __forceinline__ uint32_t cluster_address(uint32_t address_smem, uint32_t rank) {
  uint32_t address;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(address) : "r"(address_smem), "r"(rank));
  return address;
}

// PTX ISA, 9.7.9.8: ld. Loads 16 bytes from the shared memory of any block of the cluster.
__device__ __forceinline__ float4 cluster_load(uint32_t address_cluster) {
  float4 v;
  asm volatile("ld.shared::cluster.v4.f32 {%0, %1, %2, %3}, [%4];"
               : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w)
               : "r"(address_cluster)
               : "memory");
  return v;
}

}  // namespace vgg::ptx
