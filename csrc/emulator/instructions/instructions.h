// The modelled instructions by subject. Each function adds its instructions to the table.

#pragma once

#include "emulator/decode/instruction_table.h"

namespace vgg::emulator {

void add_integer_arithmetic(InstructionTable& table);
void add_bit_operations(InstructionTable& table);
void add_float_arithmetic(InstructionTable& table);
void add_half_arithmetic(InstructionTable& table);
void add_conversions(InstructionTable& table);
void add_comparisons(InstructionTable& table);
void add_moves(InstructionTable& table);
void add_loads_and_stores(InstructionTable& table);
void add_atomics(InstructionTable& table);
void add_async_copies(InstructionTable& table);
void add_warp_operations(InstructionTable& table);
void add_matrix_products(InstructionTable& table);
void add_control_flow(InstructionTable& table);
void add_matrix_moves(InstructionTable& table);
void add_wgmma(InstructionTable& table);
void add_tensor_prefetches(InstructionTable& table);
void add_cluster_operations(InstructionTable& table);
void add_mbarriers(InstructionTable& table);
void add_fences(InstructionTable& table);
void add_warp_control(InstructionTable& table);
void add_calls(InstructionTable& table);
void add_time(InstructionTable& table);

// barrier.cluster.*, which `bar` and `barrier` pass on.
void decode_cluster_barrier(Decoder& decoder, const PtxInstruction& from,
                            const std::vector<std::string>& words, Instruction& to);

// mov from %globaltimer, which `mov` passes on.
void decode_clock(Decoder& decoder, const PtxInstruction& from,
                  const std::vector<std::string>& modifiers, Instruction& to);

}  // namespace vgg::emulator
