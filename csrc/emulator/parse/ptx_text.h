// The text of a PTX file: its kernels, and the statements of one kernel. Knows the grammar of PTX,
// and nothing of what instructions mean.

#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <unordered_map>
#include <vector>

#include "emulator/core/program.h"

namespace vgg::emulator {

// One operand as it is written.
struct PtxOperand {
  enum class Kind {
    name,     // a register, a variable or a label, perhaps plus an offset
    integer,  // bits
    float32,  // 0f3F800000
    float64,  // 0d3FF0000000000000
    address,  // [name + offset], or [name + offset, {a, b}]
    vector,   // {a, b}
    pair,     // a|b
  };
  Kind kind = Kind::name;
  std::string name;
  bool negated = false;  // !%p1
  uint64_t bits = 0;
  int64_t offset = 0;
  std::vector<PtxOperand> parts;  // of a vector, a pair or an address
};

struct PtxInstruction {
  std::string opcode;  // with all its modifiers
  std::vector<PtxOperand> operands;
  std::string guard;  // of @%p1 and @!%p1; else empty
  bool guard_negated = false;
  int scope = 0;     // the braces around it
  int location = 0;  // in PtxBody::locations
  int line = 0;      // of the PTX file
};

// A variable in .shared, .local, .param, .global or .const.
struct PtxVariable {
  std::string space, name;
  int64_t align = 1, bytes = 0;
  bool is_extern = false;           // dynamic shared memory
  std::vector<unsigned char> data;  // what it is initialised with, else empty
};

struct PtxBody {
  std::vector<PtxInstruction> instructions;
  std::vector<SourceLocation> locations;
  std::vector<PtxVariable> variables;
  std::vector<int> parent_scope;  // of each scope; -1 of the outermost, which is 0

  // By name and scope; see key().
  std::unordered_map<std::string, std::string> register_types;  // "%p7" and "%r<12>": "%r<"
  std::unordered_map<std::string, int> labels;                  // index of the next instruction
  std::unordered_map<std::string, std::vector<std::string>> branch_targets;

  static std::string key(const std::string& name, int scope) {
    return scope == 0 ? name : name + '#' + std::to_string(scope);
  }
};

struct PtxEntry {
  std::string name;
  std::vector<PtxVariable> params;
  // .maxntid and the like, by name: the product of the numbers behind them.
  std::map<std::string, int64_t> directives;
  std::vector<int64_t> cluster;         // of .reqnctapercluster
  size_t body_begin = 0, body_end = 0;  // in PtxFile::text
  int body_line = 1;
};

struct PtxFile {
  std::string text;  // without comments
  std::vector<PtxEntry> entries;
  std::vector<PtxVariable> variables;
  std::map<int, std::string> files;
};

// Both throw Error, with the line of the PTX file.
PtxFile split_ptx(std::string text);
PtxBody parse_body(const PtxFile& file, const PtxEntry& entry);

}  // namespace vgg::emulator
