#include "emulator/instructions/instructions.h"

namespace vgg::emulator {

InstructionTable::InstructionTable() {
  add_integer_arithmetic(*this);
  add_bit_operations(*this);
  add_float_arithmetic(*this);
  add_half_arithmetic(*this);
  add_conversions(*this);
  add_comparisons(*this);
  add_moves(*this);
  add_loads_and_stores(*this);
  add_atomics(*this);
  add_async_copies(*this);
  add_warp_operations(*this);
  add_matrix_products(*this);
  add_control_flow(*this);
  add_matrix_moves(*this);
  add_wgmma(*this);
  add_tensor_prefetches(*this);
  add_cluster_operations(*this);
  add_mbarriers(*this);
  add_fences(*this);
  add_warp_control(*this);
  add_calls(*this);
  add_time(*this);
}

}  // namespace vgg::emulator
