// Asynchronous matrix products of a warpgroup, with operands in shared memory.
//
// acc[64, N] += a[64, 16] b[N, 16]^T. acc[i] of thread t of the warpgroup is row
// 16 (t / 32) + t % 32 / 4 + i % 4 / 2 * 8, column i / 4 * 8 + t % 4 * 2 + i % 2.

#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

namespace vgg::ptx {

// PTX ISA, 9.7.15.5.1: matrix descriptor of an operand with rows of 128 bytes (16-bit elements),
// 128-byte swizzle, and GROUP_BYTES between the starts of groups of eight rows. `low` is
// wgmma_descriptor_low() of the operand's start, plus 2 for every 16 columns.
template <int GROUP_BYTES>
__device__ __forceinline__ uint64_t wgmma_descriptor(uint32_t low) {
  uint64_t descriptor;
  asm("mov.b64 %0, {%1, %2};" : "=l"(descriptor) : "r"(low), "n"(GROUP_BYTES >> 4 | 1u << 30));
  return descriptor;
}
// A descriptor has 18 bits of an address. Higher bits, where addresses hold the block's rank in its
// cluster, would enter the next field.
__device__ __forceinline__ uint32_t wgmma_descriptor_low(uint32_t operand_smem) {
  return (operand_smem & 0x3ffff) >> 4 | 1u << 16;
}

// PTX ISA, 9.7.15.7.1: wgmma.fence. Orders earlier accesses to registers and shared memory before
// later products.
__device__ __forceinline__ void wgmma_fence() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

// PTX ISA, 9.7.15.7.2: wgmma.commit_group. Closes the open group of products.
__device__ __forceinline__ void wgmma_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

// PTX ISA, 9.7.15.7.3: wgmma.wait_group. Waits until at most the newest PENDING groups are
// unfinished.
template <int PENDING>
__device__ __forceinline__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
}

// Keeps the compiler from moving reads of accumulators before a wait.
template <int SIZE>
__device__ __forceinline__ void wgmma_read(float (&acc)[SIZE]) {
#pragma unroll
  for (int i = 0; i < SIZE; ++i) asm volatile("" : "+f"(acc[i])::"memory");
}

// Names of the first SIZE asm operands, and the accumulators bound to them.
#define VGG_NAMES_4 "%0, %1, %2, %3"
#define VGG_NAMES_8 \
  VGG_NAMES_4       \
  ", %4, %5, %6, %7"
#define VGG_NAMES_16 \
  VGG_NAMES_8        \
  ", %8, %9, %10, %11, %12, %13, %14, %15"
#define VGG_NAMES_32                                                       \
  VGG_NAMES_16                                                             \
  ", %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29" \
  ", %30, %31"
#define VGG_NAMES_56                                                       \
  VGG_NAMES_32                                                             \
  ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45" \
  ", %46, %47, %48, %49, %50, %51, %52, %53, %54, %55"
#define VGG_NAMES_64                                                       \
  VGG_NAMES_32                                                             \
  ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45" \
  ", %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59" \
  ", %60, %61, %62, %63"
#define VGG_NAMES_112                                                            \
  VGG_NAMES_64                                                                   \
  ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77"       \
  ", %78, %79, %80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91"       \
  ", %92, %93, %94, %95, %96, %97, %98, %99, %100, %101, %102, %103, %104, %105" \
  ", %106, %107, %108, %109, %110, %111"
#define VGG_NAMES_120 \
  VGG_NAMES_112       \
  ", %112, %113, %114, %115, %116, %117, %118, %119"
#define VGG_NAMES_128 \
  VGG_NAMES_120       \
  ", %120, %121, %122, %123, %124, %125, %126, %127"
#define VGG_SUMS_4(I) "+f"(acc[I]), "+f"(acc[I + 1]), "+f"(acc[I + 2]), "+f"(acc[I + 3])
#define VGG_SUMS_8(I) VGG_SUMS_4(I), VGG_SUMS_4(I + 4)
#define VGG_SUMS_16(I) VGG_SUMS_8(I), VGG_SUMS_8(I + 8)
#define VGG_SUMS_32(I) VGG_SUMS_16(I), VGG_SUMS_16(I + 16)
#define VGG_SUMS_56(I) VGG_SUMS_32(I), VGG_SUMS_16(I + 32), VGG_SUMS_8(I + 48)
#define VGG_SUMS_64(I) VGG_SUMS_32(I), VGG_SUMS_32(I + 32)
#define VGG_SUMS_112(I) VGG_SUMS_64(I), VGG_SUMS_32(I + 64), VGG_SUMS_16(I + 96)
#define VGG_SUMS_120(I) VGG_SUMS_112(I), VGG_SUMS_8(I + 112)
#define VGG_SUMS_128(I) VGG_SUMS_64(I), VGG_SUMS_64(I + 64)

// PTX ISA, 9.7.15.5.2: wgmma.mma_async. N = 2 SIZE columns. If `add` is 0, the sums start at zero.
template <class T, int SIZE>
__device__ __forceinline__ void wgmma(float (&acc)[SIZE], uint64_t a, uint64_t b, int add);

// A, B, ADD: names of the asm operands that follow the accumulators.
#define VGG_WGMMA_OF(T, DTYPE, SIZE, N, A, B, ADD)                                              \
  template <>                                                                                   \
  __device__ __forceinline__ void wgmma<T, SIZE>(float (&acc)[SIZE], uint64_t a, uint64_t b,    \
                                                 int add) {                                     \
    asm volatile(                                                                               \
        "{\n"                                                                                   \
        ".reg .pred add;\n"                                                                     \
        "setp.ne.b32 add, " ADD                                                                 \
        ", 0;\n"                                                                                \
        "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." DTYPE "." DTYPE " {" VGG_NAMES_##SIZE \
        "}, " A ", " B                                                                          \
        ", add, 1, 1, 0, 0;\n"                                                                  \
        "}"                                                                                     \
        : VGG_SUMS_##SIZE(0)                                                                    \
        : "l"(a), "l"(b), "r"(add));                                                            \
  }
#define VGG_WGMMA(...)                     \
  VGG_WGMMA_OF(__half, "f16", __VA_ARGS__) \
  VGG_WGMMA_OF(__nv_bfloat16, "bf16", __VA_ARGS__)

VGG_WGMMA(4, 8, "%4", "%5", "%6")
VGG_WGMMA(8, 16, "%8", "%9", "%10")
VGG_WGMMA(16, 32, "%16", "%17", "%18")
VGG_WGMMA(32, 64, "%32", "%33", "%34")
VGG_WGMMA(56, 112, "%56", "%57", "%58")
VGG_WGMMA(64, 128, "%64", "%65", "%66")
VGG_WGMMA(112, 224, "%112", "%113", "%114")
VGG_WGMMA(120, 240, "%120", "%121", "%122")
VGG_WGMMA(128, 256, "%128", "%129", "%130")

#undef VGG_WGMMA
#undef VGG_WGMMA_OF
#undef VGG_NAMES_4
#undef VGG_SUMS_4
#undef VGG_NAMES_8
#undef VGG_SUMS_8
#undef VGG_NAMES_16
#undef VGG_SUMS_16
#undef VGG_NAMES_32
#undef VGG_SUMS_32
#undef VGG_NAMES_56
#undef VGG_SUMS_56
#undef VGG_NAMES_64
#undef VGG_SUMS_64
#undef VGG_NAMES_112
#undef VGG_SUMS_112
#undef VGG_NAMES_120
#undef VGG_SUMS_120
#undef VGG_NAMES_128
#undef VGG_SUMS_128

}  // namespace vgg::ptx
