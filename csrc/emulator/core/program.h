// Decoded kernels: an array of instructions over a register file.

#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "emulator/types.h"

namespace vgg::emulator {

constexpr int LANES = 32;
constexpr uint32_t ALL_LANES = 0xffffffffu;
constexpr int MAX_WARPS = 32, MAX_BARRIERS = 16;
constexpr int WARPGROUP = 4;       // warps per warpgroup
constexpr int MAX_MBARRIERS = 64;  // per block; a limit of the emulator, not of GPUs
constexpr uint32_t MBARRIER_BYTES = 8;
constexpr int MAX_CLUSTER_BLOCKS = 16;

// Start addresses of the state spaces. None is 0, so that null pointers are detected. Shared memory
// starts at the same address as on sm_90, because wgmma descriptors hold 18 bits of it. From bit
// RANK_SHIFT on, its addresses hold the rank of their block in its cluster, as the addresses that
// ptxas forms do. A generic address outside these windows is a global address.
constexpr uint32_t SHARED_BASE = 1024;
constexpr int RANK_SHIFT = 24;
constexpr uint32_t PARAM_BASE = 1u << 12, LOCAL_BASE = 1u << 16;
constexpr uint64_t SHARED_WINDOW = 0xfffd'0000'0000'0000u, LOCAL_WINDOW = 0xfffe'0000'0000'0000u,
                   PARAM_WINDOW = 0xffff'0000'0000'0000u, WINDOW_MASK = 0xffff'0000'0000'0000u;

struct Warp;
struct Instruction;

// Byte offset of a lane array: in the warp's register file or, with bit 0 set, in the kernel's
// constants. A predicate is one uint32_t, one bit per lane. Registers of up to 32 bits are
// uint32_t[32] (16 bits: zero-extended); registers of 64 bits are uint64_t[32].
using Operand = uint32_t;
constexpr Operand CONSTANT_OPERAND = 1;

// Letters of operand types in signatures: 1, 16, 32 and 64 bits.
constexpr char PREDICATE = 'p', HALF = 'h', WORD = 'w', DOUBLE = 'd';

// Executes an instruction in the lanes of `active`, which is not empty.
using Handler = void (*)(Warp& warp, const Instruction& instruction, uint32_t active);

// Work of the loop over instructions, beyond a call of the handler.
enum class Control : uint8_t {
  none,          // just call the handler
  aligned,       // wait for every thread of the warp, then call the handler
  member_mask,   // wait for the lanes that the last operand names, then call the handler
  branch,        // jump to `target`
  branch_table,  // jump to tables[target][operand 0]
  exit,          // end the active threads
  barrier,       // bar.sync, bar.red
  arrive,        // bar.arrive
  wait,          // call the handler, which may make the active threads wait
  wait_aligned,  // wait for every thread of the warp, then as `wait`
};

// State spaces. `cluster` is the shared memory of any block of the cluster.
enum class Space : uint8_t { global, shared, cluster, local, param, generic };

struct Instruction {
  Handler handler = nullptr;
  const Operand* operands = nullptr;
  int64_t immediate = 0;    // offset of an address, unless the handler defines another use
  uint64_t extra = 0;       // defined by the handler
  uint32_t guard = 0;       // predicate; a constant with all lanes set without a guard
  uint32_t guard_flip = 0;  // ALL_LANES for @!p
  uint32_t target = 0;      // branch target
  uint32_t location = 0;
  Control control = Control::none;
  Space space = Space::global;
  uint8_t bytes = 0;          // bytes of one element in memory
  uint8_t count = 0;          // number of elements
  uint8_t mode = 0;           // defined by the handler
  bool wide_address = false;  // the base of the address is a 64-bit register
};

// Special registers. Their lane arrays are filled in when a block starts.
enum class Special : uint8_t {
  tid_x,
  tid_y,
  tid_z,
  ctaid_x,
  ctaid_y,
  ctaid_z,
  ntid_x,
  ntid_y,
  ntid_z,
  nctaid_x,
  nctaid_y,
  nctaid_z,
  warpid,
  nwarpid,
  cluster_ctaid_x,
  cluster_ctaid_y,
  cluster_ctaid_z,
  cluster_nctaid_x,
  cluster_nctaid_y,
  cluster_nctaid_z,
  clusterid_x,
  clusterid_y,
  clusterid_z,
  nclusterid_x,
  nclusterid_y,
  nclusterid_z,
  cluster_ctarank,
  cluster_nctarank,
  none
};

struct alignas(64) Line {
  std::array<unsigned char, 64> bytes;
};

// A line of source code, possibly in an inlined function.
struct SourceLocation {
  int file = 0, line = 0, column = 0;
  int inlined_at = -1;  // index in Kernel::locations
};

struct Kernel {
  std::string name;  // name of the .entry
  std::string file;  // name of its Module
  std::vector<Instruction> code;
  std::vector<Operand> operands;  // operands of all instructions
  std::vector<std::vector<uint32_t>> tables;
  std::vector<Line> constants;
  // Constants of 32 and of 64 bits that are addresses in shared memory: blocks add their rank.
  std::vector<Operand> shared_addresses, wide_shared_addresses;
  std::vector<std::pair<Special, Operand>> specials;
  uint32_t register_bytes = 0;  // per warp

  uint32_t param_bytes = 0;
  uint32_t shared_bytes = 0;  // static, including the padding before the dynamic part
  bool has_dynamic_shared = false;
  uint32_t local_bytes = 0;                                 // per thread
  uint32_t shared_granularity = 4, global_granularity = 4;  // bytes of the smallest access, <= 4
  bool has_mbarriers = false, has_wgmma = false;
  bool has_async_proxy = false;       // uses bulk copies or wgmma
  bool has_relaxed_arrivals = false;  // at barrier.cluster
  bool reads_clock = false;           // reads %globaltimer
  bool reads_other_blocks = false;    // reads shared memory of other blocks of its cluster
  Dim3 cluster = {0, 0, 0};           // .reqnctapercluster, in blocks; zeros if absent
  int launch_registers = 0;           // per thread, from .maxnreg or .maxntid and .minnctapersm
  std::vector<Buffer> variables;      // .global and .const variables of the module

  std::vector<SourceLocation> locations;
  const std::map<int, std::string>* files = nullptr;  // source file names by number

  // Text of a source location, "gemm.cuh:120 (inlined at conv3x3.cu:31)".
  std::string where(uint32_t location) const;
  std::string where(const Instruction& instruction) const { return where(instruction.location); }
};

}  // namespace vgg::emulator
