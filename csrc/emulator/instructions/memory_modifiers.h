// Modifiers and types of the instructions that access memory.

#pragma once

#include <string>
#include <vector>

#include "emulator/core/program.h"

namespace vgg::emulator {

class Decoder;

// Modifiers of ld, st, atom and red.
struct MemoryModifiers {
  Space space = Space::generic;
  int count = 1;
  bool fences = false;    // has acquire or release semantics
  std::string type;       // "f32"
  std::string operation;  // of an atomic, "add"
};
// Parses the modifiers of `instruction` ("ld"). Throws Error for a modifier that it does not have.
MemoryModifiers parse_memory_modifiers(Decoder& decoder, const std::string& instruction,
                                       const std::vector<std::string>& modifiers);
int bytes_of_type(const std::string& type);  // 0 if unknown
char letter_of_bytes(int bytes);
// Records the size of an access, for the granularity of the checks.
void note_granularity(Decoder& decoder, Space space, int bytes);

}  // namespace vgg::emulator
