#include "emulator/instructions/memory_modifiers.h"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "emulator/decode/decode.h"

namespace vgg::emulator {

int bytes_of_type(const std::string& type) {
  static const std::unordered_map<std::string, int> bytes = {
      {"b8", 1},  {"u8", 1},  {"s8", 1},  {"b16", 2}, {"u16", 2},
      {"s16", 2}, {"f16", 2}, {"b32", 4}, {"u32", 4}, {"s32", 4},
      {"f32", 4}, {"b64", 8}, {"u64", 8}, {"s64", 8}, {"f64", 8}};
  const auto found = bytes.find(type);
  return found == bytes.end() ? 0 : found->second;
}

MemoryModifiers parse_memory_modifiers(Decoder& decoder, const std::string& instruction,
                                       const std::vector<std::string>& modifiers) {
  static const std::unordered_map<std::string, Space> spaces = {{"global", Space::global},
                                                                {"const", Space::global},
                                                                {"shared", Space::shared},
                                                                {"shared::cta", Space::shared},
                                                                {"shared::cluster", Space::cluster},
                                                                {"local", Space::local},
                                                                {"param", Space::param},
                                                                {"param::entry", Space::param}};
  // Ordering scopes and cache hints do not change what is read.
  static const std::unordered_set<std::string> scopes = {"weak",    "volatile", "relaxed", "cta",
                                                         "cluster", "gpu",      "sys"};
  static const std::unordered_set<std::string> load_caches = {"ca", "cg", "cs", "lu", "cv", "nc"};
  static const std::unordered_set<std::string> store_caches = {"wb", "cg", "cs", "wt"};
  static const std::unordered_set<std::string> hints = {"L1::evict_normal", "L1::evict_unchanged",
                                                        "L1::evict_first",  "L1::evict_last",
                                                        "L1::no_allocate",  "L2::64B",
                                                        "L2::128B",         "L2::256B"};
  static const std::unordered_set<std::string> operations = {"add", "min", "max", "exch", "cas",
                                                             "and", "or",  "xor", "inc",  "dec"};
  const bool is_load = instruction == "ld", is_store = instruction == "st";
  const bool is_atomic = !is_load && !is_store;
  MemoryModifiers result;
  for (const std::string& modifier : modifiers) {
    if (spaces.count(modifier) != 0) {
      result.space = spaces.at(modifier);
    } else if (scopes.count(modifier) != 0 || (is_load && hints.count(modifier) != 0) ||
               (is_load && load_caches.count(modifier) != 0) ||
               (is_store && store_caches.count(modifier) != 0)) {
      continue;
    } else if ((modifier == "acquire" && !is_store) || (modifier == "release" && !is_load) ||
               (modifier == "acq_rel" && is_atomic)) {
      result.fences = true;
    } else if (!is_atomic && (modifier == "v2" || modifier == "v4")) {
      result.count = modifier == "v2" ? 2 : 4;
    } else if (is_atomic && result.operation.empty() && operations.count(modifier) != 0) {
      result.operation = modifier;
    } else if (result.type.empty() && bytes_of_type(modifier) > 0) {
      result.type = modifier;
    } else {
      decoder.fail("the modifier ." + modifier + " is not modelled");
    }
  }
  if (result.type.empty()) decoder.fail("expected a type among the modifiers");
  return result;
}

char letter_of_bytes(int bytes) { return bytes == 8 ? DOUBLE : bytes == 4 ? WORD : HALF; }

void note_granularity(Decoder& decoder, Space space, int bytes) {
  Kernel& kernel = decoder.kernel();
  const auto size = static_cast<uint32_t>(bytes);
  if (space == Space::cluster) kernel.reads_other_blocks = true;
  if (space == Space::shared || space == Space::cluster || space == Space::generic) {
    kernel.shared_granularity = std::min(kernel.shared_granularity, size);
  }
  if (space == Space::global || space == Space::generic) {
    kernel.global_granularity = std::min(kernel.global_granularity, size);
  }
}

}  // namespace vgg::emulator
