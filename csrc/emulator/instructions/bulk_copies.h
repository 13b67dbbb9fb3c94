// What the bulk copies and those of tensor maps have in common: how they begin and how they end.

#pragma once

#include <functional>

#include "emulator/instructions/memory_access.h"
#include "emulator/parse/ptx_text.h"

namespace vgg::emulator {

// One thread's load into shared memory, whose bytes an mbarrier counts.
struct BulkLoad {
  SharedPlace to, mbarrier;
  uint32_t bytes;                                           // of each block
  uint32_t blocks = 0;                                      // by rank, where it is a multicast
  bool generic_proxy = false;                               // st.async
  std::function<void(char* shared, uint32_t offset)> copy;  // to the block's shared memory
};
void begin_load(Warp& warp, const Instruction& in, int lane, const BulkLoad& load);

// One thread's store of shared memory of its block, which it has to wait for.
void begin_store(Warp& warp, const Instruction& in, int lane, uint32_t offset, uint32_t bytes,
                 std::function<void()> copy);

// Operands of an instruction: an mbarrier's address among several.
uint64_t address_of(const Warp& warp, Operand base, bool wide, int64_t offset, int lane);

// st.async.*
void decode_store_async(Decoder& decoder, const PtxInstruction& from,
                        const std::vector<std::string>& words, Instruction& to);
// cp.async.bulk.*, and those of them with a tensor map.
void decode_tensor_copy(Decoder& decoder, const PtxInstruction& from,
                        const std::vector<std::string>& words, Instruction& to);
void decode_bulk_copy(Decoder& decoder, const PtxInstruction& from,
                      const std::vector<std::string>& words, Instruction& to);

}  // namespace vgg::emulator
