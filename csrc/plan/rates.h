// Constants of the estimates that choose kernels.

#pragma once

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

  double launch_cycles = 4000;          // of a second launch, which adds splits
  double halo_subtile_cycles = 400;     // to write 64 pixels by 64 channels
  double swap_ab_subtile_cycles = 200;  // to write seven pixels of eight images by 64 channels
  double dense_block_cycles = 1500;     // of a block, to fill its ring and write its results
  double dense_cluster_cycles = 1500;   // to add the splits of a cluster
  double dense_step_cycles = 128;       // least of a step; few images still read 64 features
};

}  // namespace vgg
