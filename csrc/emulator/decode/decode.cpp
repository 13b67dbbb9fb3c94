#include "emulator/decode/decode.h"

#include <algorithm>
#include <cctype>
#include <cstring>

#include "emulator/decode/instruction_table.h"

namespace vgg::emulator {
namespace {

char letter_of_type(const std::string& type) {
  static const std::unordered_map<std::string, char> letters = {
      {".pred", PREDICATE}, {".b16", HALF},   {".u16", HALF},   {".s16", HALF},
      {".f16", HALF},       {".bf16", HALF},  {".b32", WORD},   {".u32", WORD},
      {".s32", WORD},       {".f32", WORD},   {".f16x2", WORD}, {".bf16x2", WORD},
      {".b64", DOUBLE},     {".u64", DOUBLE}, {".s64", DOUBLE}, {".f64", DOUBLE}};
  const auto found = letters.find(type);
  return found == letters.end() ? 0 : found->second;
}

constexpr int REGISTERS = 65536;            // of an SM
constexpr int MAX_REGISTERS = 255;          // of a thread
constexpr size_t MAX_INSTRUCTIONS = 65536;  // that the race detector can number

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

int Decoder::find_register(const std::string& name) {
  std::string prefix = name;
  while (!prefix.empty() && std::isdigit(static_cast<unsigned char>(prefix.back()))) {
    prefix.pop_back();
  }
  prefix += '<';
  for (int scope = current_->scope; scope >= 0; scope = body_.parent_scope[scope]) {
    auto type = body_.register_types.find(PtxBody::key(name, scope));
    if (type == body_.register_types.end()) {
      type = body_.register_types.find(PtxBody::key(prefix, scope));
    }
    if (type == body_.register_types.end()) continue;
    const auto inserted = register_index_.emplace(PtxBody::key(name, scope), registers_.size());
    if (inserted.second) {
      const char letter = letter_of_type(type->second);
      if (letter == 0) fail("register " + name + " of type " + type->second);
      registers_.push_back({letter});
    }
    return inserted.first->second;
  }
  return -1;
}

Operand Decoder::constant(uint64_t bits, char letter) {
  if (letter == HALF) bits &= 0xffff;
  if (letter == WORD) bits &= 0xffffffff;
  const std::string key = letter + std::to_string(bits);
  const auto inserted = constant_index_.emplace(
      key, static_cast<Operand>(kernel_.constants.size() * sizeof(Line)) | CONSTANT_OPERAND);
  if (!inserted.second) return inserted.first->second;
  Line line;
  if (letter == PREDICATE) {
    std::memset(&line, bits != 0 ? 0xff : 0, sizeof(line));
    kernel_.constants.push_back(line);
  } else if (letter == DOUBLE) {
    for (size_t i = 0; i < sizeof(line); i += 8) std::memcpy(&line.bytes[i], &bits, 8);
    kernel_.constants.insert(kernel_.constants.end(), 4, line);
  } else {
    for (size_t i = 0; i < sizeof(line); i += 4) std::memcpy(&line.bytes[i], &bits, 4);
    kernel_.constants.insert(kernel_.constants.end(), 2, line);
  }
  return inserted.first->second;
}

void Decoder::use(int reg, char letter, bool written) {
  if (registers_[reg].letter != letter) {
    fail(std::string("expected an operand of type ") + letter + ", found a register of type " +
         registers_[reg].letter + " (p: predicate, h: 16 bits, w: 32, d: 64)");
  }
  uses_.push_back({static_cast<uint32_t>(kernel_.code.size()),
                   static_cast<uint32_t>(kernel_.operands.size()), static_cast<uint32_t>(reg),
                   written});
}

char Decoder::register_letter(const PtxOperand& operand) {
  if (operand.kind != PtxOperand::Kind::name) return 0;
  const int reg = find_register(operand.name);
  return reg < 0 ? 0 : registers_[reg].letter;
}

void Decoder::write(const PtxOperand& operand, char letter) {
  if (operand.kind != PtxOperand::Kind::name) fail("the destination is no register");
  int reg = find_register(operand.name);
  if (operand.name == "_") {
    reg = static_cast<int>(registers_.size());
    registers_.push_back({letter});
  }
  if (reg < 0) fail("unknown register " + operand.name);
  use(reg, letter, true);
  append(0);
}

void Decoder::read_constant(uint64_t bits, char letter) { append(constant(bits, letter)); }

void Decoder::read(const PtxOperand& operand, char letter) {
  switch (operand.kind) {
    case PtxOperand::Kind::integer:
      return read_constant(operand.bits, letter);
    case PtxOperand::Kind::float32:
      if (letter != WORD) fail("a float32 constant");
      return read_constant(operand.bits, letter);
    case PtxOperand::Kind::float64:
      if (letter == WORD) {  // allowed, and rounded
        const float value = static_cast<float>(bit_cast<double>(operand.bits));
        return read_constant(bit_cast<uint32_t>(value), letter);
      }
      if (letter != DOUBLE) fail("a float64 constant");
      return read_constant(operand.bits, letter);
    case PtxOperand::Kind::name:
      break;
    default:
      fail("an address or a vector where a value is expected");
  }
  const int reg = find_register(operand.name);
  if (reg >= 0) {
    if (operand.offset != 0) fail("register plus offset");
    use(reg, letter, false);
    return append(0);
  }
  Operand place;
  if (special(operand.name, letter, place)) return append(place);
  const auto symbol = symbols_.find(operand.name);
  if (symbol == symbols_.end()) fail("unknown name " + operand.name);
  read_constant(symbol->second.address + operand.offset, letter);
}

void Decoder::read_address(const PtxOperand& operand, Instruction& to) {
  if (operand.kind != PtxOperand::Kind::address) fail("expected an address");
  const char letter = operand.name.empty() ? 0 : [&] {
    const int reg = find_register(operand.name);
    return reg < 0 ? char{0} : registers_[reg].letter;
  }();
  to.immediate = operand.offset;
  to.wide_address = letter != WORD;
  if (operand.name.empty()) return read_constant(0, DOUBLE);
  if (letter != 0 && letter != WORD && letter != DOUBLE) fail("strange address");
  PtxOperand base = operand;
  base.kind = PtxOperand::Kind::name;
  base.offset = 0;
  read(base, letter == WORD ? WORD : DOUBLE);
}

int Decoder::label(const PtxOperand& operand) {
  for (int scope = current_->scope; scope >= 0; scope = body_.parent_scope[scope]) {
    const auto found = body_.labels.find(PtxBody::key(operand.name, scope));
    if (found != body_.labels.end()) return found->second;
  }
  fail("unknown label " + operand.name);
}

int Decoder::branch_table(const PtxOperand& operand) {
  for (int scope = current_->scope; scope >= 0; scope = body_.parent_scope[scope]) {
    const auto found = body_.branch_targets.find(PtxBody::key(operand.name, scope));
    if (found == body_.branch_targets.end()) continue;
    std::vector<uint32_t> targets;
    for (const std::string& name : found->second) {
      PtxOperand target;
      target.name = name;
      targets.push_back(label(target));
    }
    kernel_.tables.push_back(targets);
    return static_cast<int>(kernel_.tables.size()) - 1;
  }
  fail("unknown table " + operand.name);
}

void Decoder::decode_instruction(const PtxInstruction& from) {
  // !%p as an operand: a `not` of its own.
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
    // The guard comes before the operands in the array, for the allocator to find.
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

  std::vector<uint32_t> code_index;  // of each statement
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
  // The end of the body is an exit, as `ret` is.
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
  // Registers of a thread at its launch, where they are known: setmaxnreg counts from there.
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
                " instructions are not modelled");
  }
  return kernel;
}

}  // namespace vgg::emulator
