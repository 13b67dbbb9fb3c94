// atom, red.

#include <unordered_map>

#include "emulator/core/lanes.h"
#include "emulator/decode/decode.h"
#include "emulator/instructions/instructions.h"
#include "emulator/instructions/memory_access.h"
#include "emulator/instructions/memory_modifiers.h"
#include "emulator/run/block.h"

namespace vgg::emulator {
namespace {

// New content of memory, from the old content and the operands.
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

// Operands: destination[count], address, value [, value]; Instruction::count is 0 or 1.
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
  const char letter = letter_of_bytes(bytes);
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

void add_atomics(InstructionTable& table) {
  table.add_family("atom", decode_atom);
  table.add_family("red", decode_red);
}

}  // namespace vgg::emulator
