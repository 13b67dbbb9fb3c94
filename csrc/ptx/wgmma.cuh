// Matrix products of a warpgroup, asynchronous, operands in shared memory.
//
// acc[64, N] += a[64, 16] b[N, 16]^T. Thread t of the warpgroup holds acc[i] of row
// 16 (t / 32) + t % 32 / 4 + i % 4 / 2 * 8, column i / 4 * 8 + t % 4 * 2 + i % 2.

#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

namespace vgg::ptx {

// PTX ISA, 9.7.15.5.1: the matrix descriptor of an operand whose rows are 128 bytes of 16-bit
// elements, 128-byte swizzled, and whose groups of eight rows start GROUP_BYTES apart. `low` is
// wgmma_descriptor_low() of its start, plus 2 for every 16 columns.
template <int GROUP_BYTES>
__device__ __forceinline__ uint64_t wgmma_descriptor(uint32_t low) {
  uint64_t descriptor;
  asm("mov.b64 %0, {%1, %2};" : "=l"(descriptor) : "r"(low), "n"(GROUP_BYTES >> 4 | 1u << 30));
  return descriptor;
}
__device__ __forceinline__ uint32_t wgmma_descriptor_low(uint32_t operand_smem) {
  return operand_smem >> 4 | 1u << 16;
}

// PTX ISA, 9.7.15.7.1: wgmma.fence. Registers and shared memory that were written come first.
__device__ __forceinline__ void wgmma_fence() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

// PTX ISA, 9.7.15.7.2: wgmma.commit_group.
__device__ __forceinline__ void wgmma_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

// PTX ISA, 9.7.15.7.3: wgmma.wait_group. Waits until at most PENDING groups are unfinished.
template <int PENDING>
__device__ __forceinline__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
}

// Keeps reads of accumulators behind a wait.
template <int SIZE>
__device__ __forceinline__ void wgmma_read(float (&acc)[SIZE]) {
#pragma unroll
  for (int i = 0; i < SIZE; ++i) asm volatile("" : "+f"(acc[i])::"memory");
}

#define VGG_ACC_4(I) "+f"(acc[I]), "+f"(acc[I + 1]), "+f"(acc[I + 2]), "+f"(acc[I + 3])
#define VGG_ACC_16(I) VGG_ACC_4(I), VGG_ACC_4(I + 4), VGG_ACC_4(I + 8), VGG_ACC_4(I + 12)
#define VGG_ACC_64(I) VGG_ACC_16(I), VGG_ACC_16(I + 16), VGG_ACC_16(I + 32), VGG_ACC_16(I + 48)

// PTX ISA, 9.7.15.5.2: wgmma.mma_async. N = 2 SIZE columns; without `add` the sums start at zero.
template <class T, int SIZE>
__device__ __forceinline__ void wgmma(float (&acc)[SIZE], uint64_t a, uint64_t b, int add);

template <>
__device__ __forceinline__ void wgmma<__half, 32>(float (&acc)[32], uint64_t a, uint64_t b,
                                                  int add) {
  asm volatile(
      "{\n"
      ".reg .pred add;\n"
      "setp.ne.b32 add, %34, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
      "}, %32, %33, add, 1, 1, 0, 0;\n"
      "}"
      : VGG_ACC_16(0), VGG_ACC_16(16)
      : "l"(a), "l"(b), "r"(add));
}

template <>
__device__ __forceinline__ void wgmma<__nv_bfloat16, 32>(float (&acc)[32], uint64_t a, uint64_t b,
                                                         int add) {
  asm volatile(
      "{\n"
      ".reg .pred add;\n"
      "setp.ne.b32 add, %34, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
      "}, %32, %33, add, 1, 1, 0, 0;\n"
      "}"
      : VGG_ACC_16(0), VGG_ACC_16(16)
      : "l"(a), "l"(b), "r"(add));
}

template <>
__device__ __forceinline__ void wgmma<__half, 64>(float (&acc)[64], uint64_t a, uint64_t b,
                                                  int add) {
  asm volatile(
      "{\n"
      ".reg .pred add;\n"
      "setp.ne.b32 add, %66, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
      "}, %64, %65, add, 1, 1, 0, 0;\n"
      "}"
      : VGG_ACC_64(0)
      : "l"(a), "l"(b), "r"(add));
}

template <>
__device__ __forceinline__ void wgmma<__nv_bfloat16, 64>(float (&acc)[64], uint64_t a, uint64_t b,
                                                         int add) {
  asm volatile(
      "{\n"
      ".reg .pred add;\n"
      "setp.ne.b32 add, %66, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
      "}, %64, %65, add, 1, 1, 0, 0;\n"
      "}"
      : VGG_ACC_64(0)
      : "l"(a), "l"(b), "r"(add));
}

template <>
__device__ __forceinline__ void wgmma<__half, 128>(float (&acc)[128], uint64_t a, uint64_t b,
                                                   int add) {
  asm volatile(
      "{\n"
      ".reg .pred add;\n"
      "setp.ne.b32 add, %130, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n256k16.f32.f16.f16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "
      "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "
      "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "
      "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, "
      "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, "
      "%127"
      "}, %128, %129, add, 1, 1, 0, 0;\n"
      "}"
      : VGG_ACC_64(0), VGG_ACC_64(64)
      : "l"(a), "l"(b), "r"(add));
}

template <>
__device__ __forceinline__ void wgmma<__nv_bfloat16, 128>(float (&acc)[128], uint64_t a, uint64_t b,
                                                          int add) {
  asm volatile(
      "{\n"
      ".reg .pred add;\n"
      "setp.ne.b32 add, %130, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "
      "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "
      "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "
      "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, "
      "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, "
      "%127"
      "}, %128, %129, add, 1, 1, 0, 0;\n"
      "}"
      : VGG_ACC_64(0), VGG_ACC_64(64)
      : "l"(a), "l"(b), "r"(add));
}

#undef VGG_ACC_4
#undef VGG_ACC_16
#undef VGG_ACC_64

}  // namespace vgg::ptx
