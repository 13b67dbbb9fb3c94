// Test kernels, one for every wrapper in csrc/ptx/, which compare the emulator with GPUs. The
// wrappers for sm_90a are in test_kernels_sm90.cu. Builds with the emulator contain these kernels
// as PTX only. tests/support/ptx_wrappers/ defines their inputs and expected results.
//
// Blocks have one warp. Every array holds one item per block, [gridDim.x, ...]; comments give the
// shape of one item.

#include <cstdint>

#include "ptx/arithmetic.cuh"
#include "ptx/cp_async.cuh"
#include "ptx/mma.cuh"

namespace vgg {
namespace {

constexpr int LANES = 32;

// out [16, 8] = acc [16, 8] + a [16, K] b [8, K]^T, with the fragments of mma.cuh. Rows of K have 8
// words.
template <class T>
__device__ void product(const uint32_t* a, const uint32_t* b, const float* acc, float* out) {
  a += blockIdx.x * 128, b += blockIdx.x * 64, acc += blockIdx.x * 128, out += blockIdx.x * 128;
  const int g = threadIdx.x / 4, t = threadIdx.x % 4;
  const uint32_t a_frag[4] = {a[g * 8 + t], a[(g + 8) * 8 + t], a[g * 8 + t + 4],
                              a[(g + 8) * 8 + t + 4]};
  float sum[4];
  for (int i = 0; i < 4; ++i) sum[i] = acc[(g + i / 2 * 8) * 8 + 2 * t + i % 2];
  ptx::mma<T>(sum, a_frag, b[g * 8 + t], b[g * 8 + t + 4]);
  for (int i = 0; i < 4; ++i) out[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = sum[i];
}

}  // namespace

// a, b, out [32]
extern "C" __global__ void ptx_max_nan(const float* a, const float* b, float* out) {
  const int i = blockIdx.x * LANES + threadIdx.x;
  out[i] = ptx::max_nan(a[i], b[i]);
}

// x, out [32]
extern "C" __global__ void ptx_kept(const int* x, int* out) {
  const int i = blockIdx.x * LANES + threadIdx.x;
  out[i] = ptx::kept(x[i]);
}

// index [32], below 256; out [32]: distance in bytes between element `index` and the first.
extern "C" __global__ void ptx_shared_address(const int* index, uint32_t* out) {
  __shared__ float memory[256];
  const int i = blockIdx.x * LANES + threadIdx.x;
  out[i] = ptx::shared_address(memory + index[i]) - ptx::shared_address(memory);
}

// x, out [32, 4]; valid [32]. Lane i copies row i over earlier contents.
extern "C" __global__ void ptx_cp_async_16(const uint4* x, const int* valid, uint4* out) {
  __shared__ uint4 memory[LANES];
  const int lane_id = threadIdx.x, i = blockIdx.x * LANES + lane_id;
  memory[lane_id] = make_uint4(~0u, ~0u, ~0u, ~0u);
  ptx::cp_async_16(ptx::shared_address(memory + lane_id), x + i, valid[i] != 0);
  ptx::cp_async_commit();
  ptx::cp_async_wait<0>();
  out[i] = memory[lane_id];
}

// x, out [2, 32, 4]. Two groups of copies; the first is read while the second may be in flight.
extern "C" __global__ void ptx_cp_async_groups(const uint4* x, uint4* out) {
  __shared__ uint4 memory[2][LANES];
  const int lane_id = threadIdx.x, i = blockIdx.x * 2 * LANES + lane_id;
  for (int group = 0; group < 2; ++group) {
    ptx::cp_async_16(ptx::shared_address(&memory[group][lane_id]), x + i + group * LANES, true);
    ptx::cp_async_commit();
  }
  ptx::cp_async_wait<1>();
  out[i] = memory[0][lane_id];
  ptx::cp_async_wait<0>();
  out[i + LANES] = memory[1][lane_id];
}

// x [40, 8] of 16 bits; row [32]: the row of x that each lane addresses; out [32, 4]: the
// registers.
extern "C" __global__ void ptx_ldmatrix_x4(const uint4* x, const int* row, uint32_t* out) {
  __shared__ uint4 rows_smem[40];
  const int lane_id = threadIdx.x, i = blockIdx.x * LANES + lane_id;
  for (int r = lane_id; r < 40; r += LANES) rows_smem[r] = x[blockIdx.x * 40 + r];
  __syncthreads();
  uint32_t frag[4];
  ptx::ldmatrix_x4(frag, ptx::shared_address(rows_smem + row[i]));
  for (int j = 0; j < 4; ++j) out[i * 4 + j] = frag[j];
}

// a [16, 16], b [8, 16], acc, out [16, 8]
extern "C" __global__ void ptx_mma_f16(const uint32_t* a, const uint32_t* b, const float* acc,
                                       float* out) {
  product<__half>(a, b, acc, out);
}
extern "C" __global__ void ptx_mma_bf16(const uint32_t* a, const uint32_t* b, const float* acc,
                                        float* out) {
  product<__nv_bfloat16>(a, b, acc, out);
}
// a [16, 8], b [8, 8], acc, out [16, 8]
extern "C" __global__ void ptx_mma_tf32(const uint32_t* a, const uint32_t* b, const float* acc,
                                        float* out) {
  product<ptx::Tf32>(a, b, acc, out);
}

// x, out [32]
extern "C" __global__ void ptx_round_to_tf32(const uint32_t* x, uint32_t* out) {
  const int i = blockIdx.x * LANES + threadIdx.x;
  out[i] = ptx::round_to_tf32(x[i]);
}

}  // namespace vgg
