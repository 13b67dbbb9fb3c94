#include "emulator/parse/ptx_cursor.h"

#include <cstdlib>
#include <unordered_map>

namespace vgg::emulator {
namespace {

int64_t type_bytes(const std::string& type) {
  static const std::unordered_map<std::string, int> bytes = {
      {".b8", 1},  {".u8", 1},  {".s8", 1},  {".b16", 2}, {".u16", 2}, {".s16", 2},
      {".f16", 2}, {".b32", 4}, {".u32", 4}, {".s32", 4}, {".f32", 4}, {".b64", 8},
      {".u64", 8}, {".s64", 8}, {".f64", 8}, {".bf16", 2}};
  const auto found = bytes.find(type);
  return found == bytes.end() ? 0 : found->second;
}

}  // namespace

void parse_number(Cursor& cursor, const std::string& word, PtxOperand& operand) {
  const char* digits = word.c_str();
  if (word[0] == '0' && (word[1] == 'f' || word[1] == 'F')) {
    operand.kind = PtxOperand::Kind::float32;
    operand.bits = std::strtoull(digits + 2, nullptr, 16);
  } else if (word[0] == '0' && (word[1] == 'd' || word[1] == 'D')) {
    operand.kind = PtxOperand::Kind::float64;
    operand.bits = std::strtoull(digits + 2, nullptr, 16);
  } else {
    char* end = nullptr;
    operand.kind = PtxOperand::Kind::integer;
    if (word[0] == '0' && (word[1] == 'b' || word[1] == 'B')) {
      operand.bits = std::strtoull(digits + 2, &end, 2);
    } else {
      operand.bits = std::strtoull(digits, &end, 0);
    }
    if (*end != '\0' && std::strcmp(end, "U") != 0) cursor.fail("expected a number, got " + word);
  }
}

int64_t parse_integer(Cursor& cursor) {
  PtxOperand number;
  const bool negative = cursor.accept('-');
  parse_number(cursor, cursor.word(), number);
  return static_cast<int64_t>(negative ? -number.bits : number.bits);
}

PtxVariable parse_variable(Cursor& cursor, const std::string& space) {
  PtxVariable variable;
  variable.space = space;
  int64_t element = 0;
  bool has_align = false;
  for (;;) {
    const std::string word = cursor.word();
    if (word == ".align") {
      variable.align = parse_integer(cursor);
      has_align = true;
    } else if (word == ".v2" || word == ".v4") {
      element = word == ".v2" ? -2 : -4;
    } else if (type_bytes(word) > 0) {
      element = (element < 0 ? -element : 1) * type_bytes(word);
    } else if (word == ".ptr" || word == ".global" || word == ".shared" || word == ".const") {
      // state space that a pointer parameter points to: not needed
    } else if (word[0] == '.') {
      cursor.fail("unknown directive " + word + " in a variable's declaration");
    } else {
      variable.name = word;
      break;
    }
  }
  if (element <= 0) cursor.fail("variable " + variable.name + " has no type");
  if (!has_align) variable.align = element;
  variable.bytes = element;
  while (cursor.accept('[')) {
    if (cursor.accept(']')) {
      variable.is_extern = true;
      variable.bytes = 0;
    } else {
      variable.bytes *= parse_integer(cursor);
      cursor.expect(']');
    }
  }
  if (cursor.accept('=')) {
    variable.data.reserve(variable.bytes);
    auto append = [&](int64_t value) {
      const auto* bytes = reinterpret_cast<const unsigned char*>(&value);
      variable.data.insert(variable.data.end(), bytes, bytes + element);
    };
    if (cursor.accept('{')) {
      while (!cursor.accept('}')) {
        append(parse_integer(cursor));
        cursor.accept(',');
      }
    } else {
      append(parse_integer(cursor));
    }
    if (variable.is_extern) variable.bytes = variable.data.size();
    variable.is_extern = false;
    variable.data.resize(variable.bytes);
  }
  return variable;
}

}  // namespace vgg::emulator
