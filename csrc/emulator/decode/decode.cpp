#include "emulator/decode/decode.h"

#include <algorithm>

#include "emulator/decode/instruction_table.h"

namespace vgg::emulator {
namespace {

constexpr int REGISTERS = 65536;            // per SM
constexpr int MAX_REGISTERS = 255;          // per thread
constexpr size_t MAX_INSTRUCTIONS = 65536;  // the race detector stores 16-bit indices

bool logical_not(bool value) { return !value; }

}  // namespace

Decoder::Decoder(const PtxFile& file, const PtxEntry& entry, Kernel& kernel)
    : file_(file), entry_(entry), body_(parse_body(file, entry)), kernel_(kernel) {}

void Decoder::fail(const std::string& what) const {
  std::string text = "kernel " + kernel_.name + ": ";
  if (current_ != nullptr) {
    text += "PTX line " + std::to_string(current_->line) + ", `" + current_->opcode + "`, " +
            kernel_.where(current_->location) + ": ";
  }
  throw Error(text + what);
}

void Decoder::expect_operands(size_t count) const {
  if (current_->operands.size() != count) {
    fail("expected " + std::to_string(count) + " operands, found " +
         std::to_string(current_->operands.size()));
  }
}

void Decoder::decode_instruction(const PtxInstruction& from) {
  // An operand !%p becomes a `not` instruction into a new register.
  PtxInstruction rewritten = from;
  current_ = &rewritten;
  for (PtxOperand& operand : rewritten.operands) {
    if (!operand.negated) continue;
    operand.negated = false;
    Instruction negate;
    negate.handler = &Elementwise<logical_not>::run;
    negate.location = from.location;
    negate.guard = constant(1, PREDICATE);
    first_operand_.push_back(kernel_.operands.size());
    const std::string name = "!" + std::to_string(registers_.size());
    registers_.push_back({PREDICATE});
    register_index_[name] = static_cast<int>(registers_.size()) - 1;
    body_.register_types[name] = ".pred";
    use(register_index_[name], PREDICATE, true);
    append(0);
    read(operand, PREDICATE);
    kernel_.code.push_back(negate);
    operand.name = name;
  }

  Instruction to;
  to.location = from.location;
  const size_t first_use = uses_.size();
  first_operand_.push_back(kernel_.operands.size());
  if (from.guard.empty()) {
    to.guard = constant(1, PREDICATE);
  } else {
    // The guard precedes the operands in the array, so that the allocator finds it.
    PtxOperand guard;
    guard.name = from.guard;
    read(guard, PREDICATE);
    first_operand_.back() = kernel_.operands.size();
    to.guard_flip = from.guard_negated ? ALL_LANES : 0;
  }
  if (!InstructionTable::get().decode(*this, rewritten, to)) {
    fail("this instruction is not modelled");
  }
  if (!wgmma_registers_.empty() && from.opcode.compare(0, 6, "wgmma.") != 0) {
    check_wgmma_registers(first_use, to);
  }
  kernel_.code.push_back(to);
}

void Decoder::decode(const std::vector<Buffer>& variables) {
  kernel_.locations = body_.locations;
  kernel_.files = &file_.files;
  lay_out(variables);

  find_wgmma_registers();

  std::vector<uint32_t> code_index;  // index in Kernel::code, per statement
  for (const PtxInstruction& instruction : body_.instructions) {
    code_index.push_back(static_cast<uint32_t>(kernel_.code.size()));
    decode_instruction(instruction);
  }
  code_index.push_back(static_cast<uint32_t>(kernel_.code.size()));
  current_ = nullptr;
  for (Instruction& instruction : kernel_.code) {
    if (instruction.control == Control::branch) {
      instruction.target = code_index[instruction.target];
    }
  }
  for (auto& table : kernel_.tables) {
    for (uint32_t& target : table) target = code_index[target];
  }
  // The end of the body is an exit, like `ret`.
  Instruction end;
  end.control = Control::exit;
  end.guard = constant(1, PREDICATE);
  end.location = kernel_.code.empty() ? 0 : kernel_.code.back().location;
  kernel_.code.push_back(end);
  first_operand_.push_back(kernel_.operands.size());

  kernel_.register_bytes = allocate_registers(kernel_, uses_, pinned_bytes_, registers_);
  for (const RegisterUse& use : uses_) {
    kernel_.operands[use.operand] = registers_[use.reg].place;
    if (use.operand < first_operand_[use.instruction]) {
      kernel_.code[use.instruction].guard = registers_[use.reg].place;
    }
  }
  for (size_t i = 0; i < kernel_.code.size(); ++i) {
    kernel_.code[i].operands = kernel_.operands.data() + first_operand_[i];
  }
}

std::unique_ptr<Kernel> decode(const PtxFile& file, const PtxEntry& entry,
                               const std::string& file_name, const std::vector<Buffer>& variables) {
  auto kernel = std::make_unique<Kernel>();
  kernel->name = entry.name;
  kernel->file = file_name;
  // Registers per thread at launch, if the PTX states them: setmaxnreg starts from this number.
  const auto& directives = entry.directives;
  auto number = [&](const char* name) {
    const auto found = directives.find(name);
    return found == directives.end() ? 0 : static_cast<int>(found->second);
  };
  const int threads = std::max(number(".maxntid"), number(".reqntid"));
  if (number(".maxnreg") > 0) {
    kernel->launch_registers = number(".maxnreg");
  } else if (threads > 0 && number(".minnctapersm") > 0) {
    kernel->launch_registers =
        std::min(MAX_REGISTERS, REGISTERS / (threads * number(".minnctapersm")) / 8 * 8);
  }
  if (!entry.cluster.empty()) {
    auto blocks = [&](size_t i) {
      return i < entry.cluster.size() ? static_cast<uint32_t>(entry.cluster[i]) : 1;
    };
    kernel->cluster = {blocks(0), blocks(1), blocks(2)};
  }
  Decoder(file, entry, *kernel).decode(variables);
  if (kernel->code.size() > MAX_INSTRUCTIONS) {
    throw Error("kernel " + entry.name + ": more than " + std::to_string(MAX_INSTRUCTIONS) +
                " instructions, the emulator's limit");
  }
  return kernel;
}

}  // namespace vgg::emulator
