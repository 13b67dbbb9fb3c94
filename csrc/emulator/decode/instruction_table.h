// Table of the modelled instructions, which instructions/ fills. Names are complete: an unlisted
// modifier is an error and never ignored.

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

// Decodes an instruction with too many combinations of modifiers to list. `modifiers` are the parts
// of the opcode after the first.
using Decode = void (*)(Decoder& decoder, const PtxInstruction& from,
                        const std::vector<std::string>& modifiers, Instruction& to);

class InstructionTable {
 public:
  static const InstructionTable& get();

  // Adds a function that is applied per lane: see lanes.h.
  template <auto F>
  void add(const std::string& opcode) {
    add(opcode, &Elementwise<F>::run, Elementwise<F>::SIGNATURE);
  }
  // Adds a handler. `signature` has one letter per operand (program.h), destination first.
  void add(const std::string& opcode, Handler handler, const char* signature,
           Control control = Control::none) {
    simple_[opcode] = {handler, signature, control};
  }
  void add_family(const std::string& first_word, Decode decode) { families_[first_word] = decode; }

  // Returns false if the instruction is unknown.
  bool decode(Decoder& decoder, const PtxInstruction& from, Instruction& to) const;

 private:
  InstructionTable();  // defined in instructions/instructions.cpp

  struct Simple {
    Handler handler;
    std::string signature;
    Control control;
  };
  std::unordered_map<std::string, Simple> simple_;
  std::unordered_map<std::string, Decode> families_;
};

// The modifiers of an instruction. Decoders take each modifier once, in any order; one that is left
// over is unknown.
class Modifiers {
 public:
  explicit Modifiers(std::vector<std::string> words) : words_(std::move(words)) {}
  bool take(const char* word) {
    const auto found = std::find(words_.begin(), words_.end(), word);
    if (found == words_.end()) return false;
    words_.erase(found);
    return true;
  }
  // Takes and returns the first of `words` that is present, or "".
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
