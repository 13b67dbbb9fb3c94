// Types shared by the emulator's interface and every folder below it.

#pragma once

#include <cstdint>
#include <functional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace vgg::emulator {

// A kernel's mistake, or a feature that the emulator does not model; the text says which.
struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Thrown by a launch that Options::interrupted stopped.
struct Interrupted : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Dim3 {
  uint32_t x = 1, y = 1, z = 1;
};

// The order in which the warps of a block run. `forward` and `reverse` pick the first or the last
// warp that is ready, and run it until it waits; `reverse` also starts with the last blocks.
// `round_robin` runs one instruction of each warp in turn. `random` picks warps at random.
enum class Schedule { forward, reverse, round_robin, random };

struct Options {
  Schedule schedule = Schedule::forward;
  bool lazy = true;   // asynchronous copies complete as late as is legal; false: as early
  bool races = true;  // happens-before checks: shared memory; blocks in global memory
  uint32_t seed = 1;  // for Schedule::random
  int workers = 0;    // CPU threads that blocks are spread over; 0: one per core
  uint64_t instruction_limit = uint64_t{1} << 28;  // per warp; a warp that exceeds it has failed
  // Called a few times per second by the thread that called `launch`; true stops the launch.
  std::function<bool()> interrupted;
};

// Memory that the kernel may access; everything else is out of bounds.
struct Buffer {
  std::string name;  // used in messages, "x"
  void* data;
  int64_t bytes;
  enum class Access {
    read,        // writes are errors
    constant,    // writes are errors, and no earlier launch writes it
    write_once,  // every byte must be written exactly once, and not be read before. The launch
                 // fills it with 0xff (NaN) first
    update,      // may be read at any time; every byte must be written exactly once
    any,         // may be read and written at any time (atomics, scratch)
  } access;
};

// Counts of a launch, summed over its blocks. "Warp instructions" count one per warp, "thread
// instructions" one per active thread.
struct Counters {
  uint64_t instructions = 0;        // warp instructions
  uint64_t mma = 0;                 // mma.sync, warp instructions
  uint64_t mma_macs = 0;            // multiply-adds issued by mma.sync
  uint64_t wgmma = 0;               // wgmma.mma_async, warpgroup instructions
  uint64_t wgmma_macs = 0;          // multiply-adds issued by wgmma.mma_async
  uint64_t wgmma_shared_bytes = 0;  // wgmma operands read from shared memory
  uint64_t fma = 0;                 // float32 fused multiply-adds, thread instructions
  uint64_t ldmatrix = 0;            // warp instructions
  uint64_t stmatrix = 0;            // warp instructions
  uint64_t shared_wavefronts = 0;   // passes over the 32 banks, for all shared accesses
  uint64_t shared_ideal = 0;        // passes without any bank conflict
  uint64_t cp_async = 0;            // warp instructions
  uint64_t cp_async_bytes = 0;      // read from global memory by cp.async
  uint64_t bulk_copies = 0;         // cp.async.bulk, with and without tensor maps; thread
                                    // instructions
  uint64_t bulk_load_bytes = 0;     // read from global memory; a multicast counts once
  uint64_t bulk_zero_bytes = 0;     // zeros filled in outside a tensor's bounds
  uint64_t bulk_shared_bytes = 0;   // written to shared memory; a multicast counts per block
  uint64_t bulk_store_bytes = 0;    // written to global memory by bulk copies
  uint64_t load_bytes = 0;          // by ld.global
  uint64_t store_bytes = 0;         // by st.global
  uint64_t load_sectors = 0;        // 32-byte sectors touched by ld.global and cp.async, counted
                                    // for each warp instruction
  uint64_t store_sectors = 0;       // 32-byte sectors touched by st.global
  uint64_t barriers = 0;            // completed barriers, counted per block
  uint64_t shuffles = 0;            // warp instructions
  uint64_t atomics = 0;             // thread instructions

  std::vector<std::pair<const char*, uint64_t>> items() const;  // (name, value), in this order
  Counters& operator+=(const Counters& other);
};

}  // namespace vgg::emulator
