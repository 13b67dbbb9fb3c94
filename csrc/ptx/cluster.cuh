// Blocks of a cluster that work together.

#pragma once

#include <cstdint>

namespace vgg::ptx {

// PTX ISA, 9.7.13.4: barrier.cluster. All threads of the cluster arrive, and then wait for the
// others; what they did before they arrived comes before what follows the wait.
__device__ __forceinline__ void cluster_arrive() {
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
}
__device__ __forceinline__ void cluster_wait() {
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}

// PTX ISA, 9.7.9.24: mapa. Where block `rank` of the cluster has what is at that address in this
// one.
__device__ __forceinline__ uint32_t cluster_address(uint32_t address_smem, uint32_t rank) {
  uint32_t address;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(address) : "r"(address_smem), "r"(rank));
  return address;
}

// PTX ISA, 9.7.9.8: ld, of the shared memory of any block of the cluster; 16 bytes.
__device__ __forceinline__ float4 cluster_load(uint32_t address_cluster) {
  float4 v;
  asm volatile("ld.shared::cluster.v4.f32 {%0, %1, %2, %3}, [%4];"
               : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w)
               : "r"(address_cluster)
               : "memory");
  return v;
}

}  // namespace vgg::ptx
