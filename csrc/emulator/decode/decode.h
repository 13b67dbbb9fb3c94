// Turns the statements of a kernel into instructions: finds registers, variables and labels, and
// gives each register its place in the register file.

#pragma once

#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "emulator/core/program.h"
#include "emulator/parse/ptx_text.h"

namespace vgg::emulator {

// A register of the PTX, of which there are as many as the compiler likes.
struct VirtualRegister {
  char letter;
  Operand place = 0;
};

// An operand that is to become a register's place.
struct RegisterUse {
  uint32_t instruction, operand;  // index in Kernel::code and in Kernel::operands
  uint32_t reg;                   // index of the virtual register
  bool is_written;
};

// Gives every register its place: registers that are never alive together share one. Returns the
// bytes of the register file.
uint32_t allocate_registers(const Kernel& kernel, const std::vector<RegisterUse>& uses,
                            uint32_t first_free, std::vector<VirtualRegister>& registers);

class Decoder {
 public:
  Decoder(const PtxFile& file, const PtxEntry& entry, Kernel& kernel);
  void decode(const std::vector<Buffer>& variables);

  // For the decoders of instructions: append the next operand of the current instruction.
  void write(const PtxOperand& operand, char letter);  // a destination; "_" is a dummy
  void read(const PtxOperand& operand, char letter);
  void read_constant(uint64_t bits, char letter);
  void read_wgmma_registers();  // all of the kernel's
  // The base of an address as a 64-bit (or WORD) register or constant; the offset goes to
  // `to.immediate`.
  void read_address(const PtxOperand& operand, Instruction& to);

  // The letter of a register, or 0 if the operand is none.
  char register_letter(const PtxOperand& operand);
  int label(const PtxOperand& operand);         // the index of its instruction
  int branch_table(const PtxOperand& operand);  // in Kernel::tables
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
  Operand constant(uint64_t bits, char letter);
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

// Throws Error where the kernel uses what is not modelled. `variables` are the module's.
std::unique_ptr<Kernel> decode(const PtxFile& file, const PtxEntry& entry,
                               const std::string& file_name, const std::vector<Buffer>& variables);

}  // namespace vgg::emulator
