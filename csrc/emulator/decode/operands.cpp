// Operands: registers, constants, addresses and labels.

#include <cctype>
#include <cstring>

#include "emulator/core/lanes.h"
#include "emulator/decode/decode.h"

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

}  // namespace

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
      if (letter == 0) fail("register " + name + " has the unknown type " + type->second);
      registers_.push_back({letter});
    }
    return inserted.first->second;
  }
  return -1;
}

Operand Decoder::constant(uint64_t bits, char letter, bool is_shared_address) {
  if (letter == HALF) bits &= 0xffff;
  if (letter == WORD) bits &= 0xffffffff;
  const std::string key = (is_shared_address ? "shared" : "") + letter + std::to_string(bits);
  const auto inserted = constant_index_.emplace(
      key, static_cast<Operand>(kernel_.constants.size() * sizeof(Line)) | CONSTANT_OPERAND);
  if (!inserted.second) return inserted.first->second;
  if (is_shared_address) {
    (letter == DOUBLE ? kernel_.wide_shared_addresses : kernel_.shared_addresses)
        .push_back(inserted.first->second);
  }
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
  if (operand.kind != PtxOperand::Kind::name) fail("expected a register as destination");
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
      if (letter != WORD) fail("unexpected float32 constant");
      return read_constant(operand.bits, letter);
    case PtxOperand::Kind::float64:
      if (letter == WORD) {  // legal; rounded to float32
        const float value = static_cast<float>(bit_cast<double>(operand.bits));
        return read_constant(bit_cast<uint32_t>(value), letter);
      }
      if (letter != DOUBLE) fail("unexpected float64 constant");
      return read_constant(operand.bits, letter);
    case PtxOperand::Kind::name:
      break;
    default:
      fail("expected a value, got an address or a vector");
  }
  const int reg = find_register(operand.name);
  if (reg >= 0) {
    if (operand.offset != 0) fail("expected a register without an offset");
    use(reg, letter, false);
    return append(0);
  }
  Operand place;
  if (special(operand.name, letter, place)) return append(place);
  const auto symbol = symbols_.find(operand.name);
  if (symbol == symbols_.end()) fail("unknown name " + operand.name);
  append(constant(symbol->second.address + operand.offset, letter,
                  symbol->second.space == Space::shared));
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
  if (letter != 0 && letter != WORD && letter != DOUBLE)
    fail("expected a 32-bit or 64-bit register as the base of an address");
  PtxOperand base = operand;
  base.kind = PtxOperand::Kind::name;
  base.offset = 0;
  read(base, letter == WORD ? WORD : DOUBLE);
}

bool Decoder::is_local(const PtxOperand& operand) const {
  const auto symbol = symbols_.find(operand.name);
  return symbol != symbols_.end() && symbol->second.space == Space::local;
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
  fail("unknown branch table " + operand.name);
}

}  // namespace vgg::emulator
