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

// Waits for all threads of the cluster, and for their memory accesses.
__device__ __forceinline__ void cluster_sync() {
  ptx::cluster_arrive();
  ptx::cluster_wait();
}

// Waits for all threads of the block, or of the cluster, so that they may use mbarriers that single
// threads have made and fenced. Orders nothing else between blocks: a release would make every
// thread wait until its stores are visible to the whole GPU.
template <int CLUSTER>
__device__ __forceinline__ void mbarriers_sync() {
  if constexpr (CLUSTER == 1) {
    __syncthreads();  // @block_sync
  } else {
    ptx::cluster_arrive_relaxed();
    ptx::cluster_wait();
  }
}

}  // namespace vgg::sm90
