// Decoder: turns the statements of a kernel into instructions. Resolves registers, variables and
// labels, and assigns each register a place in the register file.

#pragma once

#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "emulator/core/program.h"
#include "emulator/parse/ptx_text.h"

namespace vgg::emulator {

// A register of the PTX, whose number is unlimited.
struct VirtualRegister {
  char letter;
  Operand place = 0;
};

// An operand that is replaced by the place of its register after allocation.
struct RegisterUse {
  uint32_t instruction, operand;  // indices in Kernel::code and Kernel::operands
  uint32_t reg;                   // index of the virtual register
  bool is_written;
};

// Assigns a place to every register. Registers with disjoint live ranges may share a place. Returns
// the size of the register file in bytes.
uint32_t allocate_registers(const Kernel& kernel, const std::vector<RegisterUse>& uses,
                            uint32_t first_free, std::vector<VirtualRegister>& registers);

class Decoder {
 public:
  Decoder(const PtxFile& file, const PtxEntry& entry, Kernel& kernel);
  void decode(const std::vector<Buffer>& variables);

  // These functions append the next operand of the current instruction.
  void write(const PtxOperand& operand, char letter);  // destination; "_" is discarded
  void read(const PtxOperand& operand, char letter);
  void read_constant(uint64_t bits, char letter);
  void read_wgmma_registers();  // every register that a wgmma of the kernel uses
  // Appends the base of an address, a 32- or 64-bit register or constant; stores the offset in
  // `to.immediate`.
  void read_address(const PtxOperand& operand, Instruction& to);

  // Returns the letter of a register, or 0 if the operand is not a register.
  char register_letter(const PtxOperand& operand);
  // Whether the operand names local memory, or a call's parameter, which lies there.
  bool is_local(const PtxOperand& operand) const;
  int label(const PtxOperand& operand);         // index of the statement that follows the label
  int branch_table(const PtxOperand& operand);  // index in Kernel::tables
  Kernel& kernel() { return kernel_; }

  void expect_operands(size_t count) const;
  [[noreturn]] void fail(const std::string& what) const;

 private:
  struct Symbol {
    uint64_t address;
    Space space;
  };

  void lay_out(const std::vector<Buffer>& variables);
  void lay_out_shared(const std::vector<PtxVariable>& variables);
  void decode_instruction(const PtxInstruction& from);
  void find_wgmma_registers();
  void check_wgmma_registers(size_t first_use, const Instruction& before);
  int find_register(const std::string& name);
  bool special(const std::string& name, char letter, Operand& place);
  Operand constant(uint64_t bits, char letter, bool is_shared_address = false);
  void use(int reg, char letter, bool written);
  void append(Operand operand) { kernel_.operands.push_back(operand); }

  const PtxFile& file_;
  const PtxEntry& entry_;
  PtxBody body_;
  Kernel& kernel_;
  const PtxInstruction* current_ = nullptr;
  std::unordered_map<std::string, Symbol> symbols_;
  std::vector<VirtualRegister> registers_;
  std::unordered_map<std::string, int> register_index_;
  std::unordered_map<std::string, Operand> constant_index_;
  std::unordered_map<std::string, int> table_index_;
  std::unordered_map<int, Operand> special_index_;
  std::vector<RegisterUse> uses_;
  std::vector<int> wgmma_registers_;  // sorted
  uint32_t pinned_bytes_ = 0;         // special registers, at the start of the register file
  std::vector<size_t> first_operand_;
};

// Decodes a kernel. `variables` are the variables of its module. Throws Error if the kernel uses a
// feature that is not modelled.
std::unique_ptr<Kernel> decode(const PtxFile& file, const PtxEntry& entry,
                               const std::string& file_name, const std::vector<Buffer>& variables);

}  // namespace vgg::emulator
