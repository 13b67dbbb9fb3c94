// A kernel as the emulator runs it: an array of decoded instructions over a register file.

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
constexpr int WARPGROUP = 4;       // warps
constexpr int MAX_MBARRIERS = 64;  // of a block; a limit of the emulator's
constexpr uint32_t MBARRIER_BYTES = 8;
constexpr int MAX_CLUSTER_BLOCKS = 16;

// Where the state spaces begin. None begins at 0, so that null pointers are caught. Shared memory
// begins where it does on sm_90: descriptors of wgmma have 18 bits for its addresses. A generic
// address is a global one, or lies in one of the windows.
constexpr uint32_t SHARED_BASE = 1024;
constexpr uint32_t PARAM_BASE = 1u << 12, LOCAL_BASE = 1u << 16;
constexpr uint64_t SHARED_WINDOW = 0xfffd'0000'0000'0000u, LOCAL_WINDOW = 0xfffe'0000'0000'0000u,
                   PARAM_WINDOW = 0xffff'0000'0000'0000u, WINDOW_MASK = 0xffff'0000'0000'0000u;

struct Warp;
struct Instruction;

// Byte offset of a lane array: in the warp's register file or, with bit 0 set, in the kernel's
// constants. A predicate is one uint32_t, a bit a lane; registers of up to 32 bits are
// uint32_t[32] (16 bits: zero-extended); registers of 64 bits are uint64_t[32].
using Operand = uint32_t;
constexpr Operand CONSTANT_OPERAND = 1;

// What an operand is, as signatures name it.
constexpr char PREDICATE = 'p', HALF = 'h', WORD = 'w', DOUBLE = 'd';

// Does what the instruction does in the lanes of `active`, which is not empty.
using Handler = void (*)(Warp& warp, const Instruction& instruction, uint32_t active);

// What the loop over instructions has to do itself.
enum class Control : uint8_t {
  none,          // call the handler
  aligned,       // call it once every thread of the warp is here
  member_mask,   // call it once the lanes that its last operand names are here
  branch,        // to `target`
  branch_table,  // to tables[target][operand 0]
  exit,          //
  barrier,       // bar.sync, bar.red
  arrive,        // bar.arrive
  wait,          // call it, of any threads; it may say that they have to wait
  wait_aligned,  // the same of whole warps
};

// `cluster`: shared memory of any block of the cluster.
enum class Space : uint8_t { global, shared, cluster, local, param, generic };

struct Instruction {
  Handler handler = nullptr;
  const Operand* operands = nullptr;
  int64_t immediate = 0;    // the offset of an address, or what the handler says
  uint64_t extra = 0;       // what the handler says
  uint32_t guard = 0;       // offset of a predicate; ALL_LANES where there is none
  uint32_t guard_flip = 0;  // ALL_LANES for @!p
  uint32_t target = 0;      // of a branch
  uint32_t location = 0;
  Control control = Control::none;
  Space space = Space::global;
  uint8_t bytes = 0;          // of one element in memory
  uint8_t count = 0;          // of elements
  uint8_t mode = 0;           // what the handler says
  bool wide_address = false;  // the base of the address is a 64-bit register
};

// Special registers. Their lane arrays are filled in when a block or a warp starts.
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

// A line of source code, perhaps of a function that was inlined somewhere.
struct SourceLocation {
  int file = 0, line = 0, column = 0;
  int inlined_at = -1;  // in Kernel::locations
};

struct Kernel {
  std::string name;  // of the entry
  std::string file;  // what Module calls the PTX
  std::vector<Instruction> code;
  std::vector<Operand> operands;  // of all instructions
  std::vector<std::vector<uint32_t>> tables;
  std::vector<Line> constants;
  std::vector<std::pair<Special, Operand>> specials;
  uint32_t register_bytes = 0;  // of a warp

  uint32_t param_bytes = 0;
  uint32_t shared_bytes = 0;  // static, with the padding before the dynamic part
  bool has_dynamic_shared = false;
  uint32_t local_bytes = 0;                                 // of a thread
  uint32_t shared_granularity = 4, global_granularity = 4;  // bytes of the smallest access, <= 4
  bool has_mbarriers = false, has_wgmma = false;
  bool has_async_proxy = false;     // bulk copies or wgmma
  bool reads_other_blocks = false;  // shared memory of its cluster
  Dim3 cluster = {0, 0, 0};         // blocks of one, if .reqnctapercluster says
  int launch_registers = 0;         // of a thread, if .maxnreg or .maxntid and .minnctapersm say
  std::vector<Buffer> variables;    // of the module, in .global and .const

  std::vector<SourceLocation> locations;
  const std::map<int, std::string>* files = nullptr;  // of the module: names by number

  // "gemm.cuh:120 (inlined at conv3x3.cu:31)"
  std::string where(uint32_t location) const;
  std::string where(const Instruction& instruction) const { return where(instruction.location); }
};

}  // namespace vgg::emulator
