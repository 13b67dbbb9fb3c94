#include <cstdlib>
#include <map>

#include "emulator/parse/ptx_cursor.h"

namespace vgg::emulator {
namespace {

// Parses the statements between the braces of a kernel.
class BodyParser {
 public:
  BodyParser(const PtxFile& file, const PtxEntry& entry)
      : cursor_(file.text, entry.body_begin, entry.body_end, entry.body_line) {
    body_.locations.emplace_back();
    body_.parent_scope.push_back(-1);
  }

  PtxBody parse() {
    while (!cursor_.at_end()) statement();
    if (scope_ != 0) cursor_.fail("unbalanced braces");
    return std::move(body_);
  }

 private:
  void statement() {
    if (cursor_.accept('{')) {
      body_.parent_scope.push_back(scope_);
      scope_ = static_cast<int>(body_.parent_scope.size()) - 1;
      return;
    }
    if (cursor_.accept('}')) {
      scope_ = body_.parent_scope[scope_];
      if (scope_ < 0) cursor_.fail("unbalanced braces");
      return;
    }
    if (cursor_.accept(';')) return;
    PtxInstruction instruction;
    instruction.line = cursor_.line();
    if (cursor_.accept('@')) {
      instruction.guard_negated = cursor_.accept('!');
      instruction.guard = cursor_.word();
    }
    const std::string word = cursor_.word();
    if (instruction.guard.empty()) {
      if (word[0] == '.') return directive(word);
      if (cursor_.accept(':')) return label(word);
    }
    instruction.opcode = word;
    instruction.scope = scope_;
    instruction.location = location_;
    while (!cursor_.accept(';')) {
      instruction.operands.push_back(operand());
      cursor_.accept(',');
    }
    body_.instructions.push_back(std::move(instruction));
  }

  void label(const std::string& name) {
    label_ = name;  // .branchtargets may follow
    body_.labels[PtxBody::key(name, scope_)] = static_cast<int>(body_.instructions.size());
  }

  void directive(const std::string& word) {
    if (word == ".loc") return location();
    if (word == ".reg") return registers();
    if (word == ".shared" || word == ".local" || word == ".param") {  // .param: of a call
      body_.variables.push_back(parse_variable(cursor_, word));
      return cursor_.expect(';');
    }
    if (word == ".branchtargets") {
      auto& targets = body_.branch_targets[PtxBody::key(label_, scope_)];
      while (!cursor_.accept(';')) {
        targets.push_back(cursor_.word());
        cursor_.accept(',');
      }
      return;
    }
    if (word == ".pragma" || word == ".callprototype") {
      cursor_.until(";");  // a hint for the compiler; a call that the decoder refuses
      return;
    }
    if (word == ".file") {
      cursor_.rest_of_line();
      return;
    }
    cursor_.fail("unknown directive " + word);
  }

  // .loc 1 42 7, function_name $L__info_string0, inlined_at 1 48 3
  void location() {
    SourceLocation location;
    location.file = static_cast<int>(parse_integer(cursor_));
    location.line = static_cast<int>(parse_integer(cursor_));
    location.column = static_cast<int>(parse_integer(cursor_));
    const std::string rest = cursor_.rest_of_line();
    const size_t inlined = rest.find("inlined_at");
    if (inlined != std::string::npos) {
      int at[3] = {};
      const char* text = rest.c_str() + inlined + std::strlen("inlined_at");
      for (int& number : at) {
        char* end = nullptr;
        number = static_cast<int>(std::strtol(text, &end, 10));
        text = end;
      }
      // The call site has its own earlier .loc, which links to its own call site.
      location.inlined_at = find_location(at[0], at[1], at[2]);
    }
    if (location.line == 0)
      location = body_.locations[location_];  // generated code: keep the last line
    body_.locations.push_back(location);
    location_ = static_cast<int>(body_.locations.size()) - 1;
    last_location_[{location.file, location.line, location.column}] = location_;
  }

  int find_location(int file, int line, int column) {
    const auto found = last_location_.find({file, line, column});
    if (found != last_location_.end()) return found->second;
    SourceLocation location;
    location.file = file;
    location.line = line;
    location.column = column;
    body_.locations.push_back(location);
    return last_location_[{file, line, column}] = static_cast<int>(body_.locations.size()) - 1;
  }

  // .reg .b32 %r<443>, %x;
  void registers() {
    const std::string type = cursor_.word();
    while (!cursor_.accept(';')) {
      std::string name = cursor_.word();
      if (cursor_.accept('<')) {
        cursor_.word();
        cursor_.expect('>');
        name += '<';
      }
      body_.register_types[PtxBody::key(name, scope_)] = type;
      cursor_.accept(',');
    }
  }

  PtxOperand operand() {
    PtxOperand first = single_operand();
    if (!cursor_.accept('|')) return first;
    PtxOperand pair;
    pair.kind = PtxOperand::Kind::pair;
    pair.parts.push_back(std::move(first));
    pair.parts.push_back(single_operand());
    return pair;
  }

  PtxOperand single_operand() {
    PtxOperand operand;
    const bool is_list = cursor_.accept('(');  // of a call's parameters
    if (is_list || cursor_.accept('{')) {
      operand.kind = PtxOperand::Kind::vector;
      while (!cursor_.accept(is_list ? ')' : '}')) {
        operand.parts.push_back(single_operand());
        cursor_.accept(',');
      }
      return operand;
    }
    if (cursor_.accept('[')) {
      operand = single_operand();
      if (operand.kind == PtxOperand::Kind::integer) {
        operand.offset = static_cast<int64_t>(operand.bits);
      }
      operand.kind = PtxOperand::Kind::address;
      if (cursor_.accept(',')) operand.parts = single_operand().parts;
      cursor_.expect(']');
      return operand;
    }
    operand.negated = cursor_.accept('!');
    const bool minus = cursor_.accept('-');
    const std::string word = cursor_.word();
    if (std::isdigit(static_cast<unsigned char>(word[0]))) {
      parse_number(cursor_, word, operand);
      if (minus) operand.bits = -operand.bits;
      return operand;
    }
    if (minus) cursor_.fail("minus before a name");
    operand.name = word;
    if (cursor_.accept('+')) {
      operand.offset = parse_integer(cursor_);
    } else if (cursor_.peek() == '-') {
      operand.offset = parse_integer(cursor_);
    }
    return operand;
  }

  Cursor cursor_;
  PtxBody body_;
  int scope_ = 0, location_ = 0;
  std::string label_;
  std::map<std::vector<int>, int> last_location_;
};

}  // namespace

PtxBody parse_body(const PtxFile& file, const PtxEntry& entry) {
  return BodyParser(file, entry).parse();
}

}  // namespace vgg::emulator
