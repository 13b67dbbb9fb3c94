// cp.async.bulk.tensor: copies of boxes that a tensor map describes, by the async proxy. Elements
// filled in outside the tensor's bounds count as bytes for the mbarrier.

#include <algorithm>

#include "emulator/decode/decode.h"
#include "emulator/instructions/bulk_copies.h"
#include "emulator/instructions/instructions.h"
#include "emulator/instructions/tensor_boxes.h"
#include "emulator/run/block.h"

namespace vgg::emulator {
namespace {

constexpr uint32_t BOX_ALIGNMENT = 128, MAP_ALIGNMENT = 64, MAP_BYTES = sizeof(TensorMapBytes);

enum Flags : uint8_t {  // Instruction::mode
  MULTICAST = 1,
  IM2COL = 2,
  WIDE_SHARED = 4,
  WIDE_MBARRIER = 8,
};

struct Offsets {
  int32_t map, mbarrier;
};

TensorMap read_map(Warp& warp, const Instruction& in, int lane, uint64_t generic) {
  Block& block = *warp.block;
  uint64_t address;
  const Space space = space_of(warp, generic, address);
  const void* bytes = reinterpret_cast<const void*>(address);
  if (address % MAP_ALIGNMENT != 0) {
    fail(warp, in, lane, "uses a tensor map at an address that is not a multiple of 64");
  }
  if (space == Space::param) {
    const uint64_t offset = address - PARAM_BASE;
    const uint64_t size = block.kernel().param_bytes;
    if (offset > size || offset + MAP_BYTES > size) {
      fail(warp, in, lane, "uses a tensor map outside the kernel's parameters");
    }
    bytes = block.params() + offset;
  } else if (space == Space::global) {
    block.global().check_bulk_read(warp, in, lane, address, MAP_BYTES, block.number());
  } else {
    fail(warp, in, lane, "uses a tensor map that is neither a parameter nor in global memory");
  }
  TensorMap map;
  if (!decode_for_emulator(bytes, map)) {
    fail(warp, in, lane, "uses 128 bytes that are not a tensor map encoded for the emulator");
  }
  return map;
}

// Operands: shared, map, mbarrier, coordinates[count], taps[count - 2] for im2col, blocks.
Box read_box(Warp& warp, const Instruction& in, int lane) {
  const auto offsets = bit_cast<Offsets>(in.extra);
  Box box{};
  box.map = read_map(warp, in, lane, warp.lanes<uint64_t>(in.operands[1])[lane] + offsets.map);
  const TensorMap& map = box.map;
  if (map.rank != in.count) {
    fail(warp, in, lane,
         "copies in " + std::to_string(in.count) + " dimensions, but its tensor map has " +
             std::to_string(map.rank));
  }
  if (map.im2col != ((in.mode & IM2COL) != 0)) {
    fail(warp, in, lane,
         map.im2col ? "copies a tile, but its tensor map is for im2col"
                    : "copies im2col, but its tensor map is for tiles");
  }
  const Operand* operand = in.operands + 3;
  for (int d = 0; d < in.count; ++d) box.at[d] = warp.lanes<int32_t>(*operand++)[lane];
  if (!map.im2col) return box;
  for (int i = 0; i < in.count - 2; ++i) {
    box.tap[i] = warp.lanes<uint32_t>(*operand++)[lane] & 0xffff;
    const int64_t first = map.lower_corner[i],
                  last = static_cast<int64_t>(map.dims[i + 1]) - 1 + map.upper_corner[i];
    if (box.at[i + 1] >= first && box.at[i + 1] <= last) continue;
    fail(warp, in, lane,
         "starts at pixel " + std::to_string(box.at[i + 1]) + " of dimension " +
             std::to_string(i + 1) + ": expected a base pixel from " + std::to_string(first) +
             " to " + std::to_string(last));
  }
  return box;
}

void load(Warp& warp, const Instruction& in, uint32_t active) {
  Block& block = *warp.block;
  const auto offsets = bit_cast<Offsets>(in.extra);
  for_each_lane(active, [&](int lane) {
    const Box box = read_box(warp, in, lane);
    const uint32_t bytes = box.map.bytes(), element = box.map.element_bytes();
    const uint64_t to = address_of(warp, in.operands[0], in.mode & WIDE_SHARED, in.immediate, lane);
    const uint64_t mbarrier =
        address_of(warp, in.operands[2], in.mode & WIDE_MBARRIER, offsets.mbarrier, lane);
    BulkLoad load;
    load.to = locate_shared(warp, in, lane, to, in.space, bytes, BOX_ALIGNMENT, "copies to");
    load.mbarrier = locate_shared(warp, in, lane, mbarrier, in.space, MBARRIER_BYTES,
                                  MBARRIER_BYTES, "uses as an mbarrier");
    load.bytes = bytes;
    if (in.mode & MULTICAST) {
      const int operand = 3 + in.count + (in.mode & IM2COL ? in.count - 2 : 0);
      load.blocks = warp.lanes<uint32_t>(in.operands[operand])[lane] & 0xffff;
    }
    uint32_t inside = 0;
    for_each_row(box, [&](const Row& row) {
      const uint32_t count = (row.last - row.first) * element;
      if (count == 0) return;
      block.global().check_bulk_read(warp, in, lane, row.address, count, block.number());
      inside += count;
    });
    block.counters.bulk_load_bytes += inside;
    block.counters.bulk_zero_bytes += bytes - inside;
    load.copy = [box](char* shared, uint32_t offset) { fill_box(box, shared, offset); };
    begin_load(warp, in, lane, load);
  });
}

void store(Warp& warp, const Instruction& in, uint32_t active) {
  Block& block = *warp.block;
  for_each_lane(active, [&](int lane) {
    const Box box = read_box(warp, in, lane);
    const uint32_t bytes = box.map.bytes(), element = box.map.element_bytes();
    const uint64_t from =
        address_of(warp, in.operands[0], in.mode & WIDE_SHARED, in.immediate, lane);
    const SharedPlace place =
        locate_shared(warp, in, lane, from, Space::shared, bytes, BOX_ALIGNMENT, "copies from");
    for_each_row(box, [&](const Row& row) {
      const uint32_t count = (row.last - row.first) * element;
      if (count == 0) return;
      block.global().check_bulk_write(warp, in, lane, row.address, count, block.number());
      block.counters.bulk_store_bytes += count;
    });
    begin_store(warp, in, lane, place.offset, bytes,
                [&block, box, place] { write_box(box, block.shared.data(), place.offset); });
  });
}

// Operand: address of a map. Instruction::extra: start of its window among generic addresses.
void prefetch_map(Warp& warp, const Instruction& in, uint32_t active) {
  for_each_lane(active, [&](int lane) {
    const uint64_t at = address_of(warp, in.operands[0], in.wide_address, in.immediate, lane);
    read_map(warp, in, lane, in.extra + at);
  });
}

void do_nothing(Warp&, const Instruction&, uint32_t) {}

void decode_prefetch(Decoder& decoder, const PtxInstruction& from,
                     const std::vector<std::string>& words, Instruction& to) {
  Modifiers modifiers(words);
  const std::string space = modifiers.take_one_of({"param", "const"});
  if (!modifiers.take("tensormap") || !modifiers.empty()) decoder.fail("unknown prefetch");
  decoder.expect_operands(1);
  decoder.read_address(from.operands[0], to);
  to.extra = space == "param" ? PARAM_WINDOW : 0;
  to.handler = prefetch_map;
}

}  // namespace

// `words`: tensor.4d.shared::cluster.global.im2col...
void decode_tensor_copy(Decoder& decoder, const PtxInstruction& from,
                        const std::vector<std::string>& words, Instruction& to) {
  Modifiers modifiers(words);
  const bool prefetches = modifiers.take("prefetch") && modifiers.take("L2");
  const bool to_global =
      !words.empty() && words[0] == "tensor" && words.size() > 2 && words[2] == "global";
  const std::string rank = modifiers.take_one_of({"1d", "2d", "3d", "4d", "5d"});
  const bool tensor = modifiers.take("tensor"), global = modifiers.take("global");
  const bool im2col = modifiers.take("im2col");
  if (!im2col) modifiers.take("tile");
  const bool hint = modifiers.take("L2::cache_hint");
  to.space = Space::shared;
  bool multicast = false, known = tensor && global && !rank.empty();
  if (to_global) {
    known &= !im2col && modifiers.take("shared::cta") && modifiers.take("bulk_group");
  } else if (!prefetches) {
    if (modifiers.take("shared::cluster")) {
      to.space = Space::cluster;
    } else {
      known &= modifiers.take("shared::cta");
    }
    known &= modifiers.take("mbarrier::complete_tx::bytes");
    multicast = modifiers.take("multicast::cluster");
  }
  if (!known || !modifiers.empty()) decoder.fail("this copy is not modelled");
  to.count = rank.empty() ? 0 : static_cast<uint8_t>(rank[0] - '0');
  if (im2col && to.count < 3) decoder.fail("expected 3 to 5 dimensions for im2col");
  const auto& operands = from.operands;
  decoder.expect_operands(prefetches  ? 1 + im2col + hint
                          : to_global ? 2 + hint
                                      : 3 + im2col + multicast + hint);
  if (prefetches) {
    to.handler = do_nothing;
    return;
  }
  decoder.kernel().has_async_proxy = true;
  const PtxOperand& map = operands[to_global ? 0 : 1];
  if (map.kind != PtxOperand::Kind::address || map.parts.size() != to.count) {
    decoder.fail("expected [map, {coordinates}] with one coordinate per dimension");
  }
  Instruction shared, described, mbarrier;
  decoder.read_address(operands[to_global ? 1 : 0], shared);
  decoder.read_address(map, described);
  if (!described.wide_address) decoder.fail("expected a 64-bit address of the tensor map");
  if (to_global) {
    decoder.read_constant(0, WORD);
    decoder.kernel().global_granularity = std::min(decoder.kernel().global_granularity, 2u);
  } else {
    decoder.kernel().has_mbarriers = true;
    decoder.read_address(operands[2], mbarrier);
  }
  for (const PtxOperand& part : map.parts) decoder.read(part, WORD);
  size_t next = 3;
  if (im2col) {
    if (operands[next].parts.size() + 2 != to.count) decoder.fail("wrong number of offsets");
    for (const PtxOperand& part : operands[next++].parts) decoder.read(part, HALF);
  }
  if (multicast) decoder.read(operands[next], HALF);
  const Offsets offsets = {static_cast<int32_t>(described.immediate),
                           static_cast<int32_t>(mbarrier.immediate)};
  to.immediate = shared.immediate;
  to.extra = bit_cast<uint64_t>(offsets);
  to.mode = (multicast ? MULTICAST : 0) | (im2col ? IM2COL : 0) |
            (shared.wide_address ? WIDE_SHARED : 0) | (mbarrier.wide_address ? WIDE_MBARRIER : 0);
  to.handler = to_global ? store : load;
}

void add_tensor_prefetches(InstructionTable& table) {
  table.add_family("prefetch", decode_prefetch);
}

}  // namespace vgg::emulator
