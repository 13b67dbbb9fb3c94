// Operations of warps and warpgroups.

#pragma once

#include <cstdint>

namespace vgg::ptx {

// PTX ISA, 9.7.13.14: elect.sync. Returns true in one thread of the warp.
__device__ __forceinline__ bool elect_one() {
  uint32_t elected;
  asm volatile(
      "{\n"
      ".reg .pred elected;\n"
      "elect.sync _|elected, 0xffffffff;\n"
      "selp.u32 %0, 1, 0, elected;\n"
      "}"
      : "=r"(elected));
  return elected;
}

// PTX ISA, 9.7.19.5: setmaxnreg. Sets the registers per thread of this warpgroup. An increase waits
// until enough registers are free.
template <int REGISTERS>
__device__ __forceinline__ void decrease_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(REGISTERS));
}
template <int REGISTERS>
__device__ __forceinline__ void increase_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(REGISTERS));
}

// PTX ISA, 9.7.13.1: barrier.sync. Waits until `threads` threads of the block have reached barrier
// number `barrier`.
__device__ __forceinline__ void named_barrier(int barrier, int threads) {
  asm volatile("barrier.sync.aligned %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}

// PTX ISA, 9.7.14.5.16: stmatrix. Stores four 8x8 matrices of 16-bit elements in the register
// layout of ldmatrix. Lanes 8 i .. 8 i + 7 pass the addresses of the rows of matrix i.
__device__ __forceinline__ void stmatrix_x4(uint32_t row_smem, uint32_t m0, uint32_t m1,
                                            uint32_t m2, uint32_t m3) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(row_smem),
               "r"(m0), "r"(m1), "r"(m2), "r"(m3)
               : "memory");
}

// PTX ISA, 9.7.14.5.16: stmatrix, transposed: the two elements of a lane belong to one column and
// two rows.
__device__ __forceinline__ void stmatrix_x4_trans(uint32_t row_smem, uint32_t m0, uint32_t m1,
                                                  uint32_t m2, uint32_t m3) {
  asm volatile(
      "stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(row_smem),
      "r"(m0), "r"(m1), "r"(m2), "r"(m3)
      : "memory");
}
__device__ __forceinline__ void stmatrix_x2_trans(uint32_t row_smem, uint32_t m0, uint32_t m1) {
  asm volatile("stmatrix.sync.aligned.m8n8.x2.trans.shared.b16 [%0], {%1, %2};" ::"r"(row_smem),
               "r"(m0), "r"(m1)
               : "memory");
}

}  // namespace vgg::ptx
