// The launches of an operation, decided on the host without a CUDA runtime before any work starts.
// plan(op, arch) in ops.h makes a plan; an Executor runs its launches.

#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "plan/arch.h"

namespace vgg {

struct Dim3 {
  uint32_t x = 1, y = 1, z = 1;
};

struct Launch {
  std::string kernel;  // "conv3x3_f16_m128n128"
  Dim3 grid, block;
  int smem_bytes = 0;     // dynamic shared memory
  Dim3 cluster = {};      // blocks in a cluster
  bool early = false;     // may begin before the previous launch has ended; the kernel waits itself
  int blocks_per_sm = 0;  // that shared memory should have room for; 0: the driver decides
};

// The order in which GEMM_K is walked: the order of w's columns, (r, s, c); or by block_k channels,
// then s, then r.
enum class Walk { rsc, csr };

// How a matrix product is cut; all zeros for other operations.
struct Tiling {
  int64_t gemm_m = 0, gemm_n = 0, gemm_k = 0;  // implicit GEMM: pixels (or images), channels, taps
  int block_m = 0, block_n = 0, block_k = 0, stages = 0;
  int split_k = 1;      // blocks along GEMM_K, whose float32 sums a second launch adds
  int steps = 0;        // of block_k columns, in each split
  int partial_sum = 0;  // products that one accumulator adds before it is added to the total;
                        // 0: all products of the block
  Walk walk = Walk::rsc;
};

// Estimated clock cycles of the busiest SM. All zeros: there is no estimate.
struct Estimate {
  double cycles = 0;  // of the whole operation
  double main = 0;    // of its main loop, which at the same time spends these cycles:
  double math = 0;    // on multiply-adds
  double port = 0;    // on reads and writes of shared memory; 0 if they are part of math
  double l2 = 0;      // on loads from the L2 cache, or from memory if weights are read once
};

struct Plan {
  std::string op, arch;
  Family family = Family::portable;
  std::string variant;  // "m128n128", "halo_m256n128_c2", "dense_m8_split4"; empty without a choice
  Estimate estimate;
  std::vector<Launch> launches;
  Tiling tiling;
  Tiling first_tiling;          // if there are two products: of the first
  int64_t workspace_bytes = 0;  // scratch that the launches share
  int64_t macs = 0;             // multiply-adds of the operation, useful ones only

  // Expected work of the launches; the emulator counts the actual work.
  int64_t tiles = 0;        // units of work of the first launch
  int64_t issued_macs = 0;  // multiply-adds including the unused parts of tiles
  int64_t load_bytes = 0;   // into SMs, with zeros outside x; a multicast counts once per cluster
  int64_t store_bytes = 0;
};

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
constexpr int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

}  // namespace vgg
