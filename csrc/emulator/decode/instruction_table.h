// The instructions that are modelled. Names are complete: a modifier that is not listed is an
// error, never ignored. arithmetic.cpp, compare.cpp, ... each add their own.

#pragma once

#include <algorithm>
#include <initializer_list>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "emulator/core/lanes.h"
#include "emulator/parse/ptx_text.h"

namespace vgg::emulator {

class Decoder;

// Decodes an instruction whose modifiers are too many for a list; `modifiers` are the parts of the
// opcode behind the first.
using Decode = void (*)(Decoder& decoder, const PtxInstruction& from,
                        const std::vector<std::string>& modifiers, Instruction& to);

class InstructionTable {
 public:
  static const InstructionTable& get();

  // A function of lanes: see lanes.h.
  template <auto F>
  void add(const std::string& opcode) {
    add(opcode, &Elementwise<F>::run, Elementwise<F>::SIGNATURE);
  }
  // A letter for each operand (program.h), destination first.
  void add(const std::string& opcode, Handler handler, const char* signature,
           Control control = Control::none) {
    simple_[opcode] = {handler, signature, control};
  }
  void add_family(const std::string& first_word, Decode decode) { families_[first_word] = decode; }

  // False if the instruction is unknown.
  bool decode(Decoder& decoder, const PtxInstruction& from, Instruction& to) const;

 private:
  InstructionTable();  // instructions/instructions.cpp

  struct Simple {
    Handler handler;
    std::string signature;
    Control control;
  };
  std::unordered_map<std::string, Simple> simple_;
  std::unordered_map<std::string, Decode> families_;
};

// The modifiers of an instruction, of which each is to be taken once, in any order.
class Modifiers {
 public:
  explicit Modifiers(std::vector<std::string> words) : words_(std::move(words)) {}
  bool take(const char* word) {
    const auto found = std::find(words_.begin(), words_.end(), word);
    if (found == words_.end()) return false;
    words_.erase(found);
    return true;
  }
  // The first of these that is there, or "".
  std::string take_one_of(std::initializer_list<const char*> words) {
    for (const char* word : words) {
      if (take(word)) return word;
    }
    return "";
  }
  bool empty() const { return words_.empty(); }
  const std::string& first() const { return words_.front(); }

 private:
  std::vector<std::string> words_;
};

}  // namespace vgg::emulator
