// Rings of stages in shared memory, filled by a producer and emptied by consumers.

#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/sm90/debug_waits.cuh"
#include "kernels/sm90/ring_barriers.h"
#include "ptx/cluster.cuh"
#include "ptx/mbarrier.cuh"

namespace vgg::sm90 {

// A stage of a ring, and the phase of its barriers.
template <int STAGES>
struct PipelineState {
  uint32_t phase = 0, stage = 0;

  __device__ __forceinline__ void advance() {
    if constexpr (STAGES == 2) {
      phase ^= stage;
      stage ^= 1;
    } else if (++stage == STAGES) {
      stage = 0;
      phase ^= 1;
    }
  }
};

// One thread's view of a ring whose barriers are at `barriers_smem`; reports call it `name`. A
// producer waits until its stage is empty, expects or writes the bytes, and advances. A consumer
// waits until its stage is full, advances, and releases the stage after use. A stage that CLUSTER
// blocks fill together is released to all of them.
template <int STAGES, int CLUSTER = 1>
class Ring {
 public:
  __device__ __forceinline__ Ring(const Waiter& waiter, const char* name, uint32_t barriers_smem,
                                  uint32_t first_stage = 0)
      : full_(barriers_smem),
        empty_(full_ + EMPTY),
        released_(empty_),
        lane_id_(threadIdx.x % 32),
        waiter_(waiter),
        name_(name) {
    at_.stage = first_stage;
    if constexpr (CLUSTER > 1) {  // lane i releases stages to block i
      released_ = ptx::cluster_address(empty_, lane_id_ % CLUSTER);  // @release_address
    }
  }

  // Makes the barriers, by one thread; a phase ends after that many arrivals.
  __device__ __forceinline__ void init(int producers, int consumers) const {
    for (int i = 0; i < STAGES; ++i) {
      ptx::mbarrier_init(full_ + 8 * i, producers);   // @full_arrivals
      ptx::mbarrier_init(empty_ + 8 * i, consumers);  // @empty_arrivals
    }
  }

  __device__ __forceinline__ uint32_t stage() const { return at_.stage; }
  __device__ __forceinline__ uint32_t full_barrier() const { return full_barrier(at_.stage); }
  __device__ __forceinline__ uint32_t full_barrier(uint32_t stage) const {
    return full_ + 8 * stage;
  }

  __device__ __forceinline__ void wait_full() const {
    wait_for_phase(full_barrier(), at_.phase, waiter_, {name_, "full", at_.stage});
  }
  // Returns at once in the first round: a new barrier's previous phase counts as ended.
  __device__ __forceinline__ void wait_empty() const {
    wait_for_phase(empty_ + 8 * at_.stage, at_.phase ^ 1, waiter_, {name_, "empty", at_.stage});
  }
  __device__ __forceinline__ void expect_bytes(uint32_t bytes) const {
    expect_bytes(bytes, at_.stage);
  }
  __device__ __forceinline__ void expect_bytes(uint32_t bytes, uint32_t stage) const {
    ptx::mbarrier_arrive_expect_tx(full_barrier(stage), bytes);
  }

  // For producers that write: one arrival for each warp.
  __device__ __forceinline__ void arrive_full() const {
    if (lane_id_ == 0) ptx::mbarrier_arrive(full_barrier());
  }

  // One arrival for each warp, and for each block that fills the stage.
  __device__ __forceinline__ void release(uint32_t stage) const {
    if constexpr (CLUSTER == 1) {
      if (lane_id_ == 0) ptx::mbarrier_arrive(released_ + 8 * stage);
    } else {
      // @release_cluster
      if (lane_id_ < CLUSTER) ptx::mbarrier_arrive_cluster(released_ + 8 * stage);
    }
  }

  __device__ __forceinline__ void advance() { at_.advance(); }
  __device__ __forceinline__ void next_phase() { at_.phase ^= 1; }  // of the same stage

 private:
  static constexpr uint32_t EMPTY = offsetof(RingBarriers<STAGES>, empty);

  uint32_t full_, empty_, released_;  // released_: the empty barriers to which this lane arrives
  uint32_t lane_id_;
  PipelineState<STAGES> at_;
  Waiter waiter_;
  const char* name_;
};

}  // namespace vgg::sm90
