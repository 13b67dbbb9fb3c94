// Cooperation between blocks of a cluster: barrier.cluster, mapa, st.async.

#include <array>
#include <cstring>

#include "emulator/decode/decode.h"
#include "emulator/instructions/bulk_copies.h"
#include "emulator/instructions/instructions.h"
#include "emulator/instructions/memory_access.h"
#include "emulator/instructions/memory_modifiers.h"
#include "emulator/run/block.h"
#include "emulator/run/cluster.h"

namespace vgg::emulator {
namespace {

constexpr uint8_t SYNCHRONISES = 1, WIDE_MBARRIER = 2;  // Instruction::mode

void arrive(Warp& warp, const Instruction& in, uint32_t active) {
  warp.block->cluster().arrive(warp, in, active, in.mode & SYNCHRONISES);
}

void wait(Warp& warp, const Instruction& in, uint32_t active) {
  if (!warp.block->cluster().has_completed(warp, in, active)) warp.wait_for(Wait::cluster, 0);
}

// Operands: to, address in shared::cta, rank.
template <class T>
void map_address(Warp& warp, const Instruction& in, uint32_t active) {
  const auto* from = warp.lanes<T>(in.operands[1]);
  const auto* rank = warp.lanes<uint32_t>(in.operands[2]);
  const auto size = static_cast<uint32_t>(warp.block->cluster().size());
  for_each_lane(active, [&](int lane) {
    if (rank[lane] >= size) {
      fail(warp, in, lane,
           "maps an address to block " + std::to_string(rank[lane]) + " of a cluster of " +
               std::to_string(size));
    }
    constexpr T OWN = (T{1} << RANK_SHIFT) - 1, RANKS = T{0xff} << RANK_SHIFT;
    const T rest = from[lane] & ~(OWN | RANKS);  // the window of a generic address
    warp.lanes<T>(in.operands[0])[lane] =
        rest | static_cast<T>(rank[lane]) << RANK_SHIFT | (from[lane] & OWN);
  });
}

void decode_mapa(Decoder& decoder, const PtxInstruction& from,
                 const std::vector<std::string>& words, Instruction& to) {
  Modifiers modifiers(words);
  const bool shared = modifiers.take("shared::cluster");
  const std::string type = modifiers.take_one_of({"u32", "u64"});
  if (type.empty() || !modifiers.empty() || (!shared && type == "u32")) {
    decoder.fail("unknown mapa");
  }
  decoder.expect_operands(3);
  const char letter = type == "u32" ? WORD : DOUBLE;
  // Any load may use a generic address.
  if (!shared) decoder.kernel().reads_other_blocks = true;
  decoder.write(from.operands[0], letter);
  decoder.read(from.operands[1], letter);
  decoder.read(from.operands[2], WORD);
  to.handler = type == "u32" ? map_address<uint32_t> : map_address<uint64_t>;
}

// Operands: address, mbarrier, value[count].
void store_async(Warp& warp, const Instruction& in, uint32_t active) {
  for_each_lane(active, [&](int lane) {
    const uint32_t bytes = in.bytes * in.count;
    const uint64_t to = address_of(warp, in.operands[0], in.wide_address, in.immediate, lane);
    const uint64_t mbarrier = address_of(warp, in.operands[1], in.mode & WIDE_MBARRIER,
                                         static_cast<int64_t>(in.extra), lane);
    BulkLoad load;
    load.to = locate_shared(warp, in, lane, to, Space::cluster, bytes, bytes, "writes");
    load.mbarrier = locate_shared(warp, in, lane, mbarrier, Space::cluster, MBARRIER_BYTES,
                                  MBARRIER_BYTES, "uses as an mbarrier");
    load.bytes = bytes;
    load.generic_proxy = true;
    std::array<char, 16> value;
    for (int i = 0; i < in.count; ++i) {
      const char* from =
          in.bytes == 8 ? reinterpret_cast<char*>(warp.lanes<uint64_t>(in.operands[2 + i]) + lane)
                        : reinterpret_cast<char*>(warp.lanes<uint32_t>(in.operands[2 + i]) + lane);
      std::memcpy(value.data() + i * in.bytes, from, in.bytes);
    }
    load.copy = [value, bytes](char* shared, uint32_t offset) {
      std::memcpy(shared + offset, value.data(), bytes);
    };
    begin_load(warp, in, lane, load);
  });
}

}  // namespace

// `words`: cluster.arrive.release.aligned
void decode_cluster_barrier(Decoder& decoder, const PtxInstruction&,
                            const std::vector<std::string>& words, Instruction& to) {
  Modifiers modifiers(words);
  modifiers.take("cluster");
  const bool arrives = modifiers.take("arrive"), waits = !arrives && modifiers.take("wait");
  to.mode = SYNCHRONISES;
  if (arrives && !modifiers.take("release") && modifiers.take("relaxed")) {
    to.mode = 0;
    decoder.kernel().has_relaxed_arrivals = true;
  }
  if (waits) modifiers.take("acquire");
  const bool aligned = modifiers.take("aligned");
  if ((!arrives && !waits) || !modifiers.empty()) decoder.fail("unknown barrier");
  decoder.expect_operands(0);
  to.handler = arrives ? arrive : wait;
  to.control = arrives ? (aligned ? Control::aligned : Control::none)
                       : (aligned ? Control::wait_aligned : Control::wait);
}

// `words`: async.shared::cluster.mbarrier::complete_tx::bytes.v4.b32
void decode_store_async(Decoder& decoder, const PtxInstruction& from,
                        const std::vector<std::string>& words, Instruction& to) {
  Modifiers modifiers(words);
  modifiers.take("async");
  modifiers.take("weak");
  const std::string vector = modifiers.take_one_of({"v2", "v4"});
  const std::string type =
      modifiers.take_one_of({"b32", "u32", "s32", "f32", "b64", "u64", "s64", "f64"});
  if (type.empty() || !modifiers.take("shared::cluster") ||
      !modifiers.take("mbarrier::complete_tx::bytes") || !modifiers.empty()) {
    decoder.fail("this store is not modelled");
  }
  decoder.expect_operands(3);
  to.bytes = static_cast<uint8_t>(bytes_of_type(type));
  to.count = static_cast<uint8_t>(vector.empty() ? 1 : vector[1] - '0');
  const PtxOperand& value = from.operands[1];
  const std::vector<PtxOperand> parts =
      value.kind == PtxOperand::Kind::vector ? value.parts : std::vector<PtxOperand>{value};
  if (parts.size() != to.count || to.bytes * to.count > 16) {
    decoder.fail("wrong number of registers");
  }
  decoder.kernel().has_mbarriers = decoder.kernel().has_async_proxy = true;
  Instruction mbarrier;
  decoder.read_address(from.operands[0], to);
  decoder.read_address(from.operands[2], mbarrier);
  for (const PtxOperand& part : parts) decoder.read(part, to.bytes == 8 ? DOUBLE : WORD);
  to.mode = mbarrier.wide_address ? WIDE_MBARRIER : 0;
  to.extra = static_cast<uint64_t>(mbarrier.immediate);
  to.handler = store_async;
}

void add_cluster_operations(InstructionTable& table) { table.add_family("mapa", decode_mapa); }

}  // namespace vgg::emulator
