// Barriers of threads: of a block, of the blocks of a cluster, of a part of a block.

#pragma once

#include "ptx/cluster.cuh"
#include "ptx/warpgroup.cuh"

namespace vgg::sm90 {

// Hardware barriers for a part of the block; 0 is the barrier of __syncthreads().
enum class NamedBarrier {
  consumer_0 = 1,  // one warpgroup, around the buffers of its results
  consumer_1 = 2,
  consumers = 1,  // all consumers of dense.cuh, which uses no other
};

// The barrier of a consumer's warpgroup.
__device__ __forceinline__ int consumer_barrier(int consumer) {
  return static_cast<int>(NamedBarrier::consumer_0) + consumer;
}

// Waits for all threads of the cluster.
__device__ __forceinline__ void cluster_sync() {
  ptx::cluster_arrive();
  ptx::cluster_wait();
}

// Waits for all threads of the block, or of the cluster.
template <int CLUSTER>
__device__ __forceinline__ void cluster_or_block_sync() {
  if constexpr (CLUSTER == 1) {
    __syncthreads();  // @block_sync
  } else {
    cluster_sync();
  }
}

// Keeps a block's shared memory alive until the other blocks of the cluster have ended, too: they
// may still send to it.
template <int CLUSTER>
__device__ __forceinline__ void cluster_exit_sync() {
  if constexpr (CLUSTER > 1) {
    __syncwarp();  // single threads were at work
    cluster_or_block_sync<CLUSTER>();
  }
}

}  // namespace vgg::sm90
