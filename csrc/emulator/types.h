// What the emulator's interface and all its parts name: errors, dimensions, options, buffers,
// counters.

#pragma once

#include <cstdint>
#include <functional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace vgg::emulator {

// What a kernel did wrong, or what the emulator does not model; the text says which.
struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// A launch that Options::interrupted stopped.
struct Interrupted : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Dim3 {
  uint32_t x = 1, y = 1, z = 1;
};

// The order in which the warps of a block run. Each runs until it waits: greedily the first or the
// last one that can (and with `reverse` the last blocks first); or one instruction each in turn; or
// at random.
enum class Schedule { forward, reverse, round_robin, random };

struct Options {
  Schedule schedule = Schedule::forward;
  bool lazy = true;   // asynchronous copies happen at the latest legal moment, else the earliest
  bool races = true;  // happens-before checks: shared memory; blocks in global memory
  uint32_t seed = 1;  // of Schedule::random
  int workers = 0;    // threads of the CPU, over blocks; 0: one a core
  uint64_t instruction_limit = uint64_t{1} << 28;  // of a warp; beyond, its loop counts as endless
  // Asked a few times a second by the thread that called `launch`; true stops it.
  std::function<bool()> interrupted;
};

// Memory that the kernel may touch; anything else is out of bounds.
struct Buffer {
  std::string name;  // as messages call it: "x"
  void* data;
  int64_t bytes;
  enum class Access {
    read,        // writes are errors
    constant,    // the same; no launch before writes it, either
    write_once,  // every byte is to be written exactly once; reads before that are errors. The
                 // launch fills it with 0xff (NaN) first
    update,      // read and written freely; every byte is to be written exactly once
    any,         // read and written freely (atomics, scratch)
  } access;
};

// What a launch did, summed over its blocks.
struct Counters {
  uint64_t instructions = 0;        // warp instructions
  uint64_t mma = 0;                 // mma.sync, warp instructions
  uint64_t mma_macs = 0;            // multiply-adds issued by them
  uint64_t wgmma = 0;               // wgmma.mma_async, warpgroup instructions
  uint64_t wgmma_macs = 0;          // multiply-adds issued by them
  uint64_t wgmma_shared_bytes = 0;  // of their operands that are in shared memory
  uint64_t fma = 0;                 // float32 fused multiply-adds, thread instructions
  uint64_t ldmatrix = 0;            // warp instructions
  uint64_t stmatrix = 0;            // warp instructions
  uint64_t shared_wavefronts = 0;   // passes over the 32 banks that all shared accesses needed
  uint64_t shared_ideal = 0;        // passes without any bank conflict
  uint64_t cp_async = 0;            // warp instructions
  uint64_t cp_async_bytes = 0;      // read from global memory by them
  uint64_t bulk_copies = 0;         // cp.async.bulk, with tensor maps or not; thread instructions
  uint64_t bulk_load_bytes = 0;     // read from global memory by them, once for all of a multicast
  uint64_t bulk_zero_bytes = 0;     // out of a tensor's bounds: zeros, for which nothing was read
  uint64_t bulk_shared_bytes = 0;   // written to shared memory, of every block
  uint64_t bulk_store_bytes = 0;    // written to global memory
  uint64_t load_bytes = 0;          // by ld.global
  uint64_t store_bytes = 0;         // by st.global
  uint64_t load_sectors = 0;        // 32-byte sectors that ld.global and cp.async touched, a warp
                                    // instruction at a time
  uint64_t store_sectors = 0;       // the same of st.global
  uint64_t barriers = 0;            // barriers that were completed, a block at a time
  uint64_t shuffles = 0;            // warp instructions
  uint64_t atomics = 0;             // thread instructions

  std::vector<std::pair<const char*, uint64_t>> items() const;  // by name, in this order
  Counters& operator+=(const Counters& other);
};

}  // namespace vgg::emulator
