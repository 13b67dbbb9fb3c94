// Parsed PTX text: the kernels of a file and the statements of a kernel. Follows the grammar of PTX
// and does not interpret instructions.

#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <unordered_map>
#include <vector>

#include "emulator/core/program.h"

namespace vgg::emulator {

// One operand as written.
struct PtxOperand {
  enum class Kind {
    name,     // a register, variable or label, optionally plus an offset
    integer,  // 42; its value is in `bits`
    float32,  // 0f3F800000
    float64,  // 0d3FF0000000000000
    address,  // [name + offset], or [name + offset, {a, b}]
    vector,   // {a, b}, or (a, b) in a call
    pair,     // a|b
  };
  Kind kind = Kind::name;
  std::string name;
  bool negated = false;  // !%p1
  uint64_t bits = 0;
  int64_t offset = 0;
  std::vector<PtxOperand> parts;  // elements of a vector, a pair or an address
};

struct PtxInstruction {
  std::string opcode;  // including all modifiers
  std::vector<PtxOperand> operands;
  std::string guard;  // "%p1" for @%p1 and @!%p1; empty without a guard
  bool guard_negated = false;
  int scope = 0;     // index in PtxBody::parent_scope
  int location = 0;  // index in PtxBody::locations
  int line = 0;      // line of the PTX file
};

// A variable in .shared, .local, .param, .global or .const. In a body, .param is a call's
// parameter.
struct PtxVariable {
  std::string space, name;
  int64_t align = 1, bytes = 0;
  bool is_extern = false;           // dynamic shared memory
  std::vector<unsigned char> data;  // initial value; empty without one
};

struct PtxBody {
  std::vector<PtxInstruction> instructions;
  std::vector<SourceLocation> locations;
  std::vector<PtxVariable> variables;
  std::vector<int> parent_scope;  // per pair of braces; scope 0 is the body and has parent -1

  // Maps from key(name, scope). Registers declared as "%r<12>" have the name "%r<".
  std::unordered_map<std::string, std::string> register_types;
  std::unordered_map<std::string, int> labels;  // index of the next instruction
  std::unordered_map<std::string, std::vector<std::string>> branch_targets;

  static std::string key(const std::string& name, int scope) {
    return scope == 0 ? name : name + '#' + std::to_string(scope);
  }
};

struct PtxEntry {
  std::string name;
  std::vector<PtxVariable> params;
  // Directives such as .maxntid by name, with the product of their numbers.
  std::map<std::string, int64_t> directives;
  std::vector<int64_t> cluster;         // numbers of .reqnctapercluster
  size_t body_begin = 0, body_end = 0;  // range in PtxFile::text
  int body_line = 1;
};

struct PtxFile {
  std::string text;  // without comments
  std::vector<PtxEntry> entries;
  std::vector<PtxVariable> variables;
  std::map<int, std::string> files;
};

// Both functions throw Error with the line of the PTX file.
PtxFile split_ptx(std::string text);
PtxBody parse_body(const PtxFile& file, const PtxEntry& entry);

}  // namespace vgg::emulator
