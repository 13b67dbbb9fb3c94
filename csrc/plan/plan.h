// What is to be launched for an operation: decided on the host, without a CUDA runtime, before
// anything runs. plan(op, arch) in ops.h makes one; an Executor runs its launches.

#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace vgg {

struct Dim3 {
  uint32_t x = 1, y = 1, z = 1;
};

struct Launch {
  std::string kernel;  // the name of its entry, "conv3x3_f16_m128n128"
  Dim3 grid, block;
  int smem_bytes = 0;  // dynamic shared memory
  Dim3 cluster = {};   // blocks of a cluster
  bool early = false;  // may begin before the launch before it has ended: the kernel itself waits
};

// The order in which GEMM_K is walked: as w's columns are, (r, s, c); or by block_k channels, then
// s, then r.
enum class Walk { rsc, csr };

// How a matrix product is cut; of operations that are none, all zeros.
struct Tiling {
  int64_t gemm_m = 0, gemm_n = 0, gemm_k = 0;  // implicit GEMM: pixels (or images), channels, taps
  int block_m = 0, block_n = 0, block_k = 0, stages = 0;
  int split_k = 1;      // blocks along GEMM_K, whose float32 sums a second launch adds
  int steps = 0;        // of block_k columns, that each of them walks
  int partial_sum = 0;  // products that one accumulator adds before it is added to the sum of
                        // such sums; 0: all of the block's columns
  Walk walk = Walk::rsc;
};

struct Plan {
  std::string op, arch;
  std::string variant;  // of a convolution's kernel: "m128n128", "halo_m256n128_c2"
  std::vector<Launch> launches;
  Tiling tiling;
  Tiling first_tiling;          // of the product whose result that one reads, where there are two
  int64_t workspace_bytes = 0;  // scratch that the launches share
  int64_t macs = 0;             // multiply-adds of the operation, useful ones only

  // What the launches are designed to do; the emulator counts what they did.
  int64_t tiles = 0;        // pieces of work that the first launch's blocks share
  int64_t issued_macs = 0;  // multiply-adds that are done, those of ragged tiles included
  int64_t load_bytes = 0;   // into SMs, zeros outside x included, a multicast once a cluster
  int64_t store_bytes = 0;
};

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
constexpr int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

}  // namespace vgg
