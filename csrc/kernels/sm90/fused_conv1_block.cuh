// y = pool(relu(conv(relu(conv(x, w1) + bias1), w2) + bias2)) for GPUs of sm_90a: two 3x3
// convolutions, 3 -> 64 -> 64 channels, whose tensor in between stays in shared memory.
//
// Blocks are persistent. The last warpgroup computes the first convolution for a tile and its halo,
// into two buffers in turn. Each of the other two warpgroups, the consumers, owns one buffer, from
// which it computes the second convolution: while one writes its results, the other multiplies. A
// is the filters of the second convolution, 64 channels of all nine taps, which stay in shared
// memory; the rows of B are pixels. Buffers are laid out (fused_conv1_block_tile.h) so that one
// thread has the sums of the four pixels of a window. GEMM_K is walked by columns of the filter,
// then rows.

#pragma once

#include "kernels/sm90/fused_conv1_block_front.cuh"
#include "ptx/griddepcontrol.cuh"
#include "ptx/wgmma.cuh"

namespace vgg::sm90 {

// acc[x0] = sums of the second convolution for columns x0, x0 + 2, ... of the tile at
// `pixels_smem`. acc[x0][4 y + 2 h + e] is channel row() + 8 h of the accumulator, line y, column
// 2 (column() + e) + x0.
template <class T>
__device__ __forceinline__ void multiply_pixels(float (&acc)[2][4 * FusedConv1BlockTile::HEIGHT],
                                                uint32_t filters_smem, uint32_t pixels_smem) {
  using Tile = FusedConv1BlockTile;
  constexpr int DESCRIPTOR_UNIT = 16;  // bytes, of addresses in descriptors
  const uint32_t a_low = ptx::wgmma_descriptor_low(filters_smem);
  const uint32_t b_low = ptx::wgmma_descriptor_low(pixels_smem);
#pragma unroll 1
  for (int s = 0; s < 3; ++s) {
    ptx::wgmma_fence();  // @wgmma_fence
#pragma unroll
    for (int r = 0; r < 3; ++r) {
      const uint32_t a = a_low + (3 * r + s) * (Tile::FILTER_BYTES / DESCRIPTOR_UNIT);
      // @tap_start
      const uint32_t b = b_low + (s * Tile::PLANE_BYTES + r * Tile::GROUP_BYTES) / DESCRIPTOR_UNIT;
#pragma unroll
      for (int k = 0; k < 4; ++k) {  // 16 channels are 32 bytes
#pragma unroll
        for (int x0 = 0; x0 < 2; ++x0) {
          // @wgmma
          ptx::wgmma<T>(acc[x0], ptx::wgmma_descriptor<8 * Tile::ROW_BYTES>(a + 2 * k),
                        ptx::wgmma_descriptor<Tile::GROUP_BYTES>(
                            b + x0 * (Tile::PLANE_BYTES / DESCRIPTOR_UNIT) + 2 * k),
                        s | r | k);
        }
      }
    }
    ptx::wgmma_commit();
  }
  ptx::wgmma_wait<0>();  // @last_tap
#pragma unroll
  for (int x0 = 0; x0 < 2; ++x0) ptx::wgmma_read(acc[x0]);
}

// Windows of the sums -> [POOLED_H][POOLED_W][64] at `to_smem`; chunks of 16 bytes are swizzled.
template <class T>
__device__ __forceinline__ void write_windows(
    const float (&acc)[2][4 * FusedConv1BlockTile::HEIGHT], const float (&bias)[2],
    uint32_t to_smem) {
  using Tile = FusedConv1BlockTile;
  // max(relu(v + bias)) = relu(max(v) + bias)
  const auto window = [&](int line, int h, int e) {
    const int upper = 8 * line + 2 * h + e, lower = upper + 4;
    const float most = smxx::max_nan(smxx::max_nan(acc[0][upper], acc[1][upper]),
                                     smxx::max_nan(acc[0][lower], acc[1][lower]));  // @pool_window
    return smxx::from_float<T>(smxx::max_nan(most + bias[h], 0.0f));
  };
  const auto pair = [&](int line, int h) {  // windows column() and column() + 1
    const smxx::Pack<T, 2> both{window(line, h, 0), window(line, h, 1)};
    return reinterpret_cast<const uint32_t&>(both);
  };
  const int lane_id = threadIdx.x % 32, warp_id = threadIdx.x / 32 % 4;
  const int member = lane_id % 8, chunk = 2 * warp_id + lane_id / 8 % 2;
  const uint32_t row = to_smem + member * Tile::ROW_BYTES + ((chunk ^ member) << 4);
  const int second = lane_id / 16 * Tile::GROUP_BYTES;  // matrices 2 and 3 are of the next line
#pragma unroll
  for (int line = 0; line + 1 < Tile::POOLED_H; line += 2) {
    ptx::stmatrix_x4_trans(row + line * Tile::GROUP_BYTES + second, pair(line, 0), pair(line, 1),
                           pair(line + 1, 0), pair(line + 1, 1));
  }
  constexpr int LAST = Tile::POOLED_H - 1;
  static_assert(LAST % 2 == 0);
  ptx::stmatrix_x2_trans(row + LAST * Tile::GROUP_BYTES, pair(LAST, 0), pair(LAST, 1));
}

// A consumer: every second tile of the block.
template <class T>
__device__ __forceinline__ void second_convolution(const FusedConv1BlockParams& p, uint32_t smem,
                                                   const char* kernel, int consumer,
                                                   bool is_store_leader) {
  using Tile = FusedConv1BlockTile;
  using Storage = FusedConv1BlockStorage;
  const AccumulatorCoord at;
  const float* biases = p.bias2 + at.row();
  const float bias[2] = {biases[0], biases[8]};
  const uint32_t pixels = smem + offsetof(Storage, pixels) + consumer * Tile::PIXELS_BYTES;
  const uint32_t out = smem + offsetof(Storage, out) + consumer * Tile::OUT_BYTES;
  const Waiter waiter{kernel, smem, 0};
  PixelRing ring(waiter, "pixels", smem + offsetof(Storage, pixel_barriers), consumer);
  // @filters_full
  wait_for_phase(smem + offsetof(Storage, filters_full), 0, waiter, {"filters", "full", 0});
#pragma unroll 1
  for (int tile = blockIdx.x + consumer * gridDim.x; tile < p.tiles; tile += 2 * gridDim.x) {
    float acc[2][4 * Tile::HEIGHT];
    ring.wait_full();  // @pixels_full
    multiply_pixels<T>(acc, smem + offsetof(Storage, filters), pixels);
    ring.release(consumer);  // @release_pixels
    ring.next_phase();       // @next_pixels

    if (is_store_leader)
      ptx::bulk_wait_read<0>();  // @buffer_free: the last copy has read the buffer
    ptx::named_barrier(consumer_barrier(consumer), 128);  // @before_results
    write_windows<T>(acc, bias, out);
    ptx::fence_proxy_async();  // @results_fence
    ptx::named_barrier(consumer_barrier(consumer),
                       128);  // @results_written: before they are copied
    if (is_store_leader) {
      const FusedConv1BlockWork work = FusedConv1BlockWork::of(p, tile);
      ptx::tma_store_4d(&p.y, out, 0, work.x / 2, work.y / 2, work.n);  // @store_results
      ptx::bulk_commit();
    }
  }
  if (is_store_leader)
    ptx::bulk_wait_read<0>();  // @stores_read: shared memory outlives the last copy
}

// `kernel`: name of the kernel, for reports of waits.
template <class T>
__device__ __forceinline__ void fused_conv1_block(const FusedConv1BlockParams& p,
                                                  const char* kernel) {
  using Tile = FusedConv1BlockTile;
  using Storage = FusedConv1BlockStorage;
  extern __shared__ __align__(1024) unsigned char dynamic_smem[];
  const uint32_t smem = ptx::shared_address(dynamic_smem);
  const int warp_id =
      __shfl_sync(0xffffffffu, threadIdx.x / 32, 0);  // the same in all lanes, as the compiler sees
  ptx::griddepcontrol_launch_dependents();            // this kernel itself waits for no launch
  if (threadIdx.x == 0) {
    ptx::prefetch_tensor_map(&p.w2);  // @prefetch_maps
    ptx::prefetch_tensor_map(&p.y);
    ptx::mbarrier_init(smem + offsetof(Storage, filters_full), 1);
    // @pixels_arrivals
    PixelRing({kernel, smem, 0}, "pixels", smem + offsetof(Storage, pixel_barriers))
        .init(Tile::WARPS, Tile::WARPS);
    ptx::fence_mbarrier_init();  // @barriers_made
  }
  __syncthreads();
  if (warp_id / 4 == Tile::CONSUMERS) {
    const int quarter = warp_id % 4;
    if (p.x_dtype == DType::uint8) {
      first_convolution<T, uint8_t>(p, dynamic_smem, kernel, quarter);
    } else if (p.x_dtype == DType::float32) {
      first_convolution<T, float>(p, dynamic_smem, kernel, quarter);
    } else {
      first_convolution<T, T>(p, dynamic_smem, kernel, quarter);
    }
    return;
  }
  const bool is_store_leader = warp_id % 4 == 0 && ptx::elect_one();
  if (is_store_leader && warp_id == 0) {
    const uint32_t full = smem + offsetof(Storage, filters_full);
    ptx::mbarrier_arrive_expect_tx(full, 9 * Tile::FILTER_BYTES);
#pragma unroll 1
    for (int tap = 0; tap < 9; ++tap) {
      ptx::tma_load_2d(smem + offsetof(Storage, filters) + tap * Tile::FILTER_BYTES, &p.w2, full,
                       tap * Tile::CHANNELS, 0);
    }
  }
  second_convolution<T>(p, smem, kernel, warp_id / 4, is_store_leader);
}

}  // namespace vgg::sm90
