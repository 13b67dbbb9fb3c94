// Begin and end of bulk copies, with and without tensor maps.

#pragma once

#include <functional>

#include "emulator/instructions/memory_access.h"
#include "emulator/parse/ptx_text.h"

namespace vgg::emulator {

class Decoder;

// One thread's load into shared memory. An mbarrier counts its bytes.
struct BulkLoad {
  SharedPlace to, mbarrier;
  uint32_t bytes;                                           // per block
  uint32_t blocks = 0;                                      // mask of ranks, for a multicast
  bool generic_proxy = false;                               // true for st.async
  std::function<void(char* shared, uint32_t offset)> copy;  // writes shared memory of one block
};
void begin_load(Warp& warp, const Instruction& in, int lane, const BulkLoad& load);

// Begins one thread's store from shared memory of its block. The thread must wait for it.
void begin_store(Warp& warp, const Instruction& in, int lane, uint32_t offset, uint32_t bytes,
                 std::function<void()> copy);

// Reads one address of an instruction that has several, such as the address of an mbarrier.
uint64_t address_of(const Warp& warp, Operand base, bool wide, int64_t offset, int lane);

// st.async.*, which `st` passes on.
void decode_store_async(Decoder& decoder, const PtxInstruction& from,
                        const std::vector<std::string>& words, Instruction& to);
// cp.async.bulk.tensor.* and cp.async.bulk.*, which `cp` passes on.
void decode_tensor_copy(Decoder& decoder, const PtxInstruction& from,
                        const std::vector<std::string>& words, Instruction& to);
void decode_bulk_copy(Decoder& decoder, const PtxInstruction& from,
                      const std::vector<std::string>& words, Instruction& to);

}  // namespace vgg::emulator
