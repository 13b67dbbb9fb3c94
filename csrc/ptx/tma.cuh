// Copies of boxes of tensors between global and shared memory by the TMA unit.
//
// `map` is a tensor map in the kernel's parameters, encoded by the host. Coordinates count
// elements, the innermost dimension first. Outside the tensor, loads give zeros and stores are
// skipped.

#pragma once

#include <cstdint>

namespace vgg::ptx {

// PTX ISA, 9.7.9.15: prefetch.tensormap. Brings a map into the cache from which copies read it.
__device__ __forceinline__ void prefetch_tensor_map(const void* map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(map));
}

// PTX ISA, 9.7.9.27.1.2: cp.async.bulk.tensor, tiled. The barrier counts the bytes of the box.
__device__ __forceinline__ void tma_load_2d(uint32_t to_smem, const void* map,
                                            uint32_t barrier_smem, int x0, int x1) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
      " [%0], [%1, {%3, %4}], [%2];" ::"r"(to_smem),
      "l"(map), "r"(barrier_smem), "r"(x0), "r"(x1)
      : "memory");
}

// PTX ISA, 9.7.9.27.1.2: cp.async.bulk.tensor, tiled, multicast. If bit i of `blocks` is set, block
// i of the cluster receives the box, and the barrier at the same place in block i counts its bytes.
__device__ __forceinline__ void tma_load_2d_multicast(uint32_t to_smem, const void* map,
                                                      uint32_t barrier_smem, int x0, int x1,
                                                      uint16_t blocks) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
      ".multicast::cluster [%0], [%1, {%3, %4}], [%2], %5;" ::"r"(to_smem),
      "l"(map), "r"(barrier_smem), "r"(x0), "r"(x1), "h"(blocks)
      : "memory");
}

// PTX ISA, 9.7.9.27.1.2: cp.async.bulk.tensor, tiled.
__device__ __forceinline__ void tma_load_4d(uint32_t to_smem, const void* map,
                                            uint32_t barrier_smem, int x0, int x1, int x2, int x3) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
      " [%0], [%1, {%3, %4, %5, %6}], [%2];" ::"r"(to_smem),
      "l"(map), "r"(barrier_smem), "r"(x0), "r"(x1), "r"(x2), "r"(x3)
      : "memory");
}

// PTX ISA, 9.7.9.27.1.2: cp.async.bulk.tensor, tiled. Joins this thread's open bulk group.
__device__ __forceinline__ void tma_store_4d(const void* map, uint32_t from_smem, int x0, int x1,
                                             int x2, int x3) {
  asm volatile(
      "cp.async.bulk.tensor.4d.global.shared::cta.tile.bulk_group"
      " [%0, {%2, %3, %4, %5}], [%1];" ::"l"(map),
      "r"(from_smem), "r"(x0), "r"(x1), "r"(x2), "r"(x3)
      : "memory");
}

// PTX ISA, 9.7.9.27.2.1: cp.async.bulk.commit_group. Closes this thread's open bulk group.
__device__ __forceinline__ void bulk_commit() {
  asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}

// PTX ISA, 9.7.9.27.2.2: cp.async.bulk.wait_group.read. Waits until at most the newest PENDING bulk
// groups of this thread are still reading their sources.
template <int PENDING>
__device__ __forceinline__ void bulk_wait_read() {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(PENDING) : "memory");
}

// PTX ISA, 9.7.13.4: fence.proxy.async. Orders this thread's accesses to shared memory before
// accesses by copies and matrix products that start after the fence.
__device__ __forceinline__ void fence_proxy_async() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

}  // namespace vgg::ptx
