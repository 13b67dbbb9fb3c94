// Tensor cores of sm_80: loads of matrices from shared memory to registers, and their product.

#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

namespace vgg::ptx {

// PTX ISA, 9.7.14.5.15: ldmatrix. Loads four 8x8 matrices of 16-bit elements. Lanes 8 i .. 8 i + 7
// pass the addresses of the rows of matrix i. frag[i] of lane l receives elements 2 (l % 4) and
// 2 (l % 4) + 1 of row l / 4 of matrix i.
__device__ __forceinline__ void ldmatrix_x4(uint32_t (&frag)[4], uint32_t row_smem) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(frag[0]), "=r"(frag[1]), "=r"(frag[2]), "=r"(frag[3])
               : "r"(row_smem)
               : "memory");
}

// Operand type of products: float32 in memory, whose low 13 bits are ignored.
struct Tf32;

// PTX ISA, 9.7.9.21: cvt. Rounds a float32 to the nearest tf32, ties away from zero.
__device__ __forceinline__ uint32_t round_to_tf32(uint32_t value) {
  uint32_t result;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(result) : "f"(__uint_as_float(value)));
  return result;
}

// PTX ISA, 9.7.14.5.14: mma. acc[16, 8] += a[16, K] b[8, K]^T, with rows of K of 32 bytes.
//
// With g = lane_id / 4 and t = lane_id % 4:
// acc[0], acc[1]: row g, columns 2 t and 2 t + 1; acc[2], acc[3]: the same columns of row g + 8.
// a[0], a[1]: bytes 4 t .. 4 t + 3 of rows g and g + 8; a[2], a[3]: bytes 16 + 4 t .. 16 + 4 t + 3.
// b0, b1: bytes 4 t .. 4 t + 3 and 16 + 4 t .. 16 + 4 t + 3 of row g of b.
template <class Operand>
__device__ __forceinline__ void mma(float (&acc)[4], const uint32_t (&a)[4], uint32_t b0,
                                    uint32_t b1);

template <>
__device__ __forceinline__ void mma<__half>(float (&acc)[4], const uint32_t (&a)[4], uint32_t b0,
                                            uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(acc[0]), "+f"(acc[1]), "+f"(acc[2]), "+f"(acc[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

template <>
__device__ __forceinline__ void mma<__nv_bfloat16>(float (&acc)[4], const uint32_t (&a)[4],
                                                   uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(acc[0]), "+f"(acc[1]), "+f"(acc[2]), "+f"(acc[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

template <>
__device__ __forceinline__ void mma<Tf32>(float (&acc)[4], const uint32_t (&a)[4], uint32_t b0,
                                          uint32_t b1) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(acc[0]), "+f"(acc[1]), "+f"(acc[2]), "+f"(acc[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

}  // namespace vgg::ptx
