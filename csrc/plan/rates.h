// Constants of the estimates that choose kernels.

#pragma once

#include <algorithm>

namespace vgg {

// Rates of an SM per clock cycle, and costs in clock cycles. They come from data sheets and
// publications, or are rough guesses: no GPU was timed for them. They only weigh the parts of an
// estimate against each other.
struct Rates {
  // Multiply-adds of 16-bit wgmma and mma.sync (half as many for tf32), and of float32 FFMA.
  double wgmma_macs = 2048, mma_macs = 1024, ffma_macs = 128;
  double port_bytes = 128;     // read from or written to shared memory
  double l2_bytes = 26;        // from the L2 cache by TMA, while all SMs load
  double cached_bytes = 48;    // from the L2 cache by cp.async: pixels of nine taps, shared filters
  double streamed_bytes = 20;  // from memory: weights of dense layers, read once by all SMs

  // Part of the time that the port of shared memory can be in use without anything waiting for it,
  // and cycles that the main loop waits for each cycle of use beyond that; see main_loop_cycles().
  double port_free = 0.8, port_contention = 0.3;

  double launch_cycles = 4000;          // of a second launch, which adds splits
  double halo_subtile_cycles = 400;     // to write 64 pixels by 64 channels
  double swap_ab_subtile_cycles = 300;  // to write seven pixels of eight images by 64 channels
  double dense_block_cycles = 1500;     // of a block, to fill its ring and write its results
  double dense_cluster_cycles = 1500;   // to add the splits of a cluster
};

// Bytes that wgmma reads from shared memory per clock cycle: 64 x 16 of A and n x 16 of B in n / 2
// cycles.
constexpr double wgmma_read_bytes(int n) { return 64 + 4096.0 / n; }

// Cycles of a main loop that spends `math` cycles on products, `port` cycles on the port of shared
// memory and `l2` cycles on loads.
//
// All three overlap, so the slowest decides. But wgmma's reads and TMA's writes come in bursts and
// wait for each other at the port, the longer the closer it is to full use. Waits are taken to grow
// in proportion from a use of `port_free` on, which is a guess. Their size comes from published
// matrix products on H100 (https://github.com/pranjalssh/fast.cu): tiles of 128 x 256 use the port
// fully and reach 800 TFLOP/s on 128 SMs, 5 to 10 % less than tensor cores would at the 1.6 to 1.7
// GHz that such products are assumed to sustain. Part of that is the epilogue; the waits are taken
// to be 6 % of the time, 0.3 of the fifth that is not free.
inline double main_loop_cycles(double math, double port, double l2, const Rates& rates) {
  const double slowest = std::max({math, port, l2});
  return slowest + rates.port_contention * std::max(0.0, port - rates.port_free * slowest);
}

}  // namespace vgg
