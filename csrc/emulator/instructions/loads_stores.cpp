// ld, st.

#include <algorithm>
#include <atomic>
#include <cstring>

#include "emulator/decode/decode.h"
#include "emulator/instructions/bulk_copies.h"
#include "emulator/instructions/instructions.h"
#include "emulator/instructions/memory_access.h"
#include "emulator/instructions/memory_modifiers.h"
#include "emulator/run/block.h"

namespace vgg::emulator {
namespace {

constexpr uint8_t FENCES = 1;  // Instruction::mode

template <class T>
T read_memory(uint64_t host) {
  T value;
  std::memcpy(&value, reinterpret_cast<const void*>(host), sizeof(value));
  return value;
}

// Memory holds Element; the register holds Stored, to which the element is extended.
template <class Element, class Stored>
void load(Warp& warp, const Instruction& in, uint32_t active) {
  const uint32_t bytes = sizeof(Element) * in.count;
  auto copy = [&](uint32_t threads, const Addresses& from) {
    for (int e = 0; e < in.count; ++e) {
      Stored* to = warp.lanes<Stored>(in.operands[e]);
      auto one = [&](int i) {
        to[i] = static_cast<Stored>(read_memory<Element>(from.of[i] + e * sizeof(Element)));
      };
      if (threads == ALL_LANES) {
        for (int i = 0; i < LANES; ++i) one(i);
      } else {
        for_each_lane(threads, one);
      }
    }
  };
  access_memory(warp, in, active, in.operands[in.count], bytes, AccessKind::read, copy);
  if (in.mode & FENCES) std::atomic_thread_fence(std::memory_order_acquire);
}

template <class Element, class Stored>
void store(Warp& warp, const Instruction& in, uint32_t active) {
  if (in.mode & FENCES) std::atomic_thread_fence(std::memory_order_release);
  const uint32_t bytes = sizeof(Element) * in.count;
  auto copy = [&](uint32_t threads, const Addresses& to) {
    for (int e = 0; e < in.count; ++e) {
      const Stored* from = warp.lanes<Stored>(in.operands[e]);
      for_each_lane(threads, [&](int i) {
        const auto value = static_cast<Element>(from[i]);
        std::memcpy(reinterpret_cast<void*>(to.of[i] + e * sizeof(Element)), &value, sizeof(value));
      });
    }
  };
  access_memory(warp, in, active, in.operands[in.count], bytes, AccessKind::write, copy);
}

// Handler for a load of Element, whose signedness determines the extension. Narrow is used for
// 16-bit registers, which are kept zero-extended.
template <class Element, class Narrow>
Handler load_to(char letter) {
  if (letter == DOUBLE) return &load<Element, uint64_t>;
  return letter == WORD ? &load<Element, uint32_t> : &load<Narrow, uint32_t>;
}

// A sign-extended byte in a 16-bit register: zero-extended from 16 bits.
struct SignedByte16 {
  int8_t value;
  explicit operator uint32_t() const { return static_cast<uint16_t>(value); }
};

Handler load_handler(const std::string& type, char letter) {
  if (type == "s8") return load_to<int8_t, SignedByte16>(letter);
  if (type == "s16") return load_to<int16_t, uint16_t>(letter);
  if (type == "s32") return load_to<int32_t, int32_t>(letter);
  switch (bytes_of_type(type)) {
    case 1:
      return load_to<uint8_t, uint8_t>(letter);
    case 2:
      return load_to<uint16_t, uint16_t>(letter);
    case 4:
      return load_to<uint32_t, uint32_t>(letter);
    default:
      return load_to<uint64_t, uint64_t>(letter);
  }
}

template <class Stored>
Handler store_handler(int bytes) {
  return bytes == 1   ? &store<uint8_t, Stored>
         : bytes == 2 ? &store<uint16_t, Stored>
         : bytes == 4 ? &store<uint32_t, Stored>
                      : &store<uint64_t, Stored>;
}

void decode_load_or_store(Decoder& decoder, const PtxInstruction& from,
                          const std::vector<std::string>& modifiers, Instruction& to,
                          bool is_load) {
  const MemoryModifiers parsed = parse_memory_modifiers(decoder, is_load ? "ld" : "st", modifiers);
  decoder.expect_operands(2);
  const PtxOperand& value = from.operands[is_load ? 0 : 1];
  const PtxOperand& address = from.operands[is_load ? 1 : 0];
  const std::vector<PtxOperand> elements =
      value.kind == PtxOperand::Kind::vector ? value.parts : std::vector<PtxOperand>{value};
  if (elements.size() != static_cast<size_t>(parsed.count)) {
    decoder.fail("expected " + std::to_string(parsed.count) + " registers, got " +
                 std::to_string(elements.size()));
  }
  const int bytes = bytes_of_type(parsed.type);
  if (bytes * parsed.count > 16) decoder.fail("accesses more than 16 bytes");
  // Registers may be wider than the elements in memory, but all must have the same width.
  char letter = letter_of_bytes(bytes);
  for (const PtxOperand& element : elements) {
    const char own = decoder.register_letter(element);
    if (own != 0) letter = own;
  }
  const int register_bytes = letter == DOUBLE ? 8 : letter == WORD ? 4 : 2;
  if (register_bytes < bytes) decoder.fail("the register is narrower than the access");
  for (const PtxOperand& element : elements) {
    if (is_load) {
      decoder.write(element, letter);
    } else {
      decoder.read(element, letter);
    }
  }
  decoder.read_address(address, to);
  const bool of_call = parsed.space == Space::param && decoder.is_local(address);
  to.space = of_call ? Space::local : parsed.space;
  to.bytes = static_cast<uint8_t>(bytes);
  to.count = static_cast<uint8_t>(parsed.count);
  to.mode = parsed.fences ? FENCES : 0;
  note_granularity(decoder, parsed.space, bytes * parsed.count);
  if (is_load) {
    to.handler = load_handler(parsed.type, letter);
  } else {
    to.handler = letter == DOUBLE ? store_handler<uint64_t>(bytes) : store_handler<uint32_t>(bytes);
  }
}

void decode_load(Decoder& decoder, const PtxInstruction& from,
                 const std::vector<std::string>& modifiers, Instruction& to) {
  decode_load_or_store(decoder, from, modifiers, to, true);
}

void decode_store(Decoder& decoder, const PtxInstruction& from,
                  const std::vector<std::string>& modifiers, Instruction& to) {
  if (!modifiers.empty() && modifiers[0] == "async") {
    return decode_store_async(decoder, from, modifiers, to);
  }
  decode_load_or_store(decoder, from, modifiers, to, false);
}

}  // namespace

void add_loads_and_stores(InstructionTable& table) {
  table.add_family("ld", decode_load);
  table.add_family("st", decode_store);
}

}  // namespace vgg::emulator
