// ld, st, atom, red.

#include <algorithm>
#include <atomic>
#include <cstring>

#include "emulator/decode/decode.h"
#include "emulator/instructions/bulk_copies.h"
#include "emulator/instructions/instructions.h"
#include "emulator/instructions/memory_access.h"
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

// Memory holds Element; a register holds Stored, to which it is extended.
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

// Sign-extended elements have signed types; int16_t goes to a 16-bit register as it is.
template <class Element, class Narrow>
Handler load_to(char letter) {
  if (letter == DOUBLE) return &load<Element, uint64_t>;
  return letter == WORD ? &load<Element, uint32_t> : &load<Narrow, uint32_t>;
}

// The low half of a sign-extended byte: 16-bit registers are kept zero-extended.
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

char letter_for(int bytes) { return bytes == 8 ? DOUBLE : bytes == 4 ? WORD : HALF; }

// Notes the smallest access, which is the granularity of the checks.
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
    decoder.fail("the number of registers is not that of the vector");
  }
  const int bytes = bytes_of_type(parsed.type);
  if (bytes * parsed.count > 16) decoder.fail("more than 16 bytes at once");
  // Registers may be wider than memory, but all elements' alike.
  char letter = letter_for(bytes);
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
  to.space = parsed.space;
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

// What an atomic leaves in memory, given what was there.
template <class T>
T atomic_add(T old, T value, T) {
  return old + value;
}
template <class T>
T atomic_min(T old, T value, T) {
  return value < old ? value : old;
}
template <class T>
T atomic_max(T old, T value, T) {
  return old < value ? value : old;
}
template <class T>
T atomic_exchange(T, T value, T) {
  return value;
}
template <class T>
T atomic_compare(T old, T expected, T value) {
  return old == expected ? value : old;
}
template <class T>
T atomic_and(T old, T value, T) {
  return old & value;
}
template <class T>
T atomic_or(T old, T value, T) {
  return old | value;
}
template <class T>
T atomic_xor(T old, T value, T) {
  return old ^ value;
}
template <class T>
T atomic_increment(T old, T limit, T) {
  return old >= limit ? 0 : old + 1;
}
template <class T>
T atomic_decrement(T old, T limit, T) {
  return old == 0 || old > limit ? limit : old - 1;
}

// Operands: [destination], address, value [, value]; Instruction::count destinations.
template <class T, T (*F)(T, T, T)>
void atomic(Warp& warp, const Instruction& in, uint32_t active) {
  using Stored = typename LaneType<T>::Stored;
  using Bits = typename LaneType<T>::Bits;
  const Operand* operands = in.operands + in.count;
  const Stored* first = warp.lanes<Stored>(operands[1]);
  const Stored* second = warp.lanes<Stored>(operands[2]);
  warp.block->counters.atomics += __builtin_popcount(active);
  auto update = [&](uint32_t threads, const Addresses& at) {
    for_each_lane(threads, [&](int lane) {
      auto* memory = reinterpret_cast<Bits*>(at.of[lane]);
      Bits old = __atomic_load_n(memory, __ATOMIC_SEQ_CST), changed;
      do {
        changed = bit_cast<Bits>(F(bit_cast<T>(old), bit_cast<T>(static_cast<Bits>(first[lane])),
                                   bit_cast<T>(static_cast<Bits>(second[lane]))));
      } while (!__atomic_compare_exchange_n(memory, &old, changed, false, __ATOMIC_SEQ_CST,
                                            __ATOMIC_SEQ_CST));
      if (in.count != 0) warp.lanes<Stored>(in.operands[0])[lane] = old;
    });
  };
  access_memory(warp, in, active, operands[0], sizeof(T), AccessKind::atomic, update);
}

template <class T>
Handler atomic_handler(const std::string& operation) {
  if (operation == "add") return &atomic<T, atomic_add<T>>;
  if (operation == "min") return &atomic<T, atomic_min<T>>;
  if (operation == "max") return &atomic<T, atomic_max<T>>;
  if (operation == "exch") return &atomic<T, atomic_exchange<T>>;
  if (operation == "cas") return &atomic<T, atomic_compare<T>>;
  if constexpr (std::is_unsigned_v<T>) {
    if (operation == "and") return &atomic<T, atomic_and<T>>;
    if (operation == "or") return &atomic<T, atomic_or<T>>;
    if (operation == "xor") return &atomic<T, atomic_xor<T>>;
    if (operation == "inc") return &atomic<T, atomic_increment<T>>;
    if (operation == "dec") return &atomic<T, atomic_decrement<T>>;
  }
  return nullptr;
}

void decode_atomic(Decoder& decoder, const PtxInstruction& from,
                   const std::vector<std::string>& modifiers, Instruction& to, bool returns) {
  const MemoryModifiers parsed =
      parse_memory_modifiers(decoder, returns ? "atom" : "red", modifiers);
  const std::string& type = parsed.type;
  if (type == "u32" || type == "b32") to.handler = atomic_handler<uint32_t>(parsed.operation);
  if (type == "s32") to.handler = atomic_handler<int32_t>(parsed.operation);
  if (type == "u64" || type == "b64") to.handler = atomic_handler<uint64_t>(parsed.operation);
  if (type == "s64") to.handler = atomic_handler<int64_t>(parsed.operation);
  if (type == "f32") to.handler = atomic_handler<float>(parsed.operation);
  if (to.handler == nullptr) decoder.fail("this atomic is not modelled");
  const size_t values = parsed.operation == "cas" ? 2 : 1, first = returns ? 1 : 0;
  decoder.expect_operands(first + 1 + values);
  const int bytes = bytes_of_type(type);
  const char letter = letter_for(bytes);
  if (returns) decoder.write(from.operands[0], letter);
  decoder.read_address(from.operands[first], to);
  decoder.read(from.operands[first + 1], letter);
  decoder.read(from.operands[first + values], letter);
  to.space = parsed.space;
  to.count = static_cast<uint8_t>(first);
  note_granularity(decoder, parsed.space, bytes);
}

void decode_atom(Decoder& decoder, const PtxInstruction& from,
                 const std::vector<std::string>& modifiers, Instruction& to) {
  decode_atomic(decoder, from, modifiers, to, true);
}

void decode_red(Decoder& decoder, const PtxInstruction& from,
                const std::vector<std::string>& modifiers, Instruction& to) {
  decode_atomic(decoder, from, modifiers, to, false);
}

}  // namespace

void add_loads_and_stores(InstructionTable& table) {
  table.add_family("ld", decode_load);
  table.add_family("st", decode_store);
}

void add_atomics(InstructionTable& table) {
  table.add_family("atom", decode_atom);
  table.add_family("red", decode_red);
}

}  // namespace vgg::emulator
