// Asynchronous copies from global to shared memory.

#pragma once

#include <cstdint>

namespace vgg::ptx {

// Converts a pointer to shared memory to the 32-bit address that the instructions below take.
__device__ __forceinline__ uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

// PTX ISA, 9.7.9.25.3.1: cp.async. Copies 16 bytes, bypassing the L1 cache. If `valid` is false,
// reads nothing and writes zeros.
__device__ __forceinline__ void cp_async_16(uint32_t to_smem, const void* from_gmem, bool valid) {
  const int source_bytes = valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to_smem), "l"(from_gmem),
               "r"(source_bytes)
               : "memory");
}

// PTX ISA, 9.7.9.25.3.2: cp.async.commit_group. Closes this thread's open group of copies.
__device__ __forceinline__ void cp_async_commit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}

// PTX ISA, 9.7.9.25.3.3: cp.async.wait_group. Waits until at most the newest PENDING groups of this
// thread are unfinished.
template <int PENDING>
__device__ __forceinline__ void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

}  // namespace vgg::ptx
