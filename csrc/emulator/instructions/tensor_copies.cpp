// cp.async.bulk.tensor: boxes of a tensor that a map describes, by the async proxy.
//
// A box lies in shared memory row after row, the bits of each address swizzled as the map says.
// What is out of the tensor's bounds is filled in, and counts as bytes for the mbarrier; stores
// leave it.

#include <algorithm>
#include <cstring>

#include "emulator/decode/decode.h"
#include "emulator/instructions/bulk_copies.h"
#include "emulator/instructions/instructions.h"
#include "emulator/run/block.h"
#include "launch/tensor_map.h"

namespace vgg::emulator {
namespace {

constexpr uint32_t BOX_ALIGNMENT = 128, MAP_ALIGNMENT = 64, MAP_BYTES = sizeof(TensorMapBytes);
constexpr uint32_t PIECE = 16;  // bytes that a swizzle keeps together

enum Flags : uint8_t {  // Instruction::mode
  MULTICAST = 1,
  IM2COL = 2,
  WIDE_SHARED = 4,
  WIDE_MBARRIER = 8,
};

struct Offsets {
  int32_t map, mbarrier;
};

// One copy: a map, where its box is, and for im2col which tap of the filter.
struct Box {
  TensorMap map;
  int64_t at[MAX_DIMENSIONS];
  int64_t tap[3];
};

// The elements [first, last) of a row that are in bounds, and where the first of them is.
struct Row {
  uint64_t address;
  uint32_t first, last;
};

Row row_at(const Box& box, const int64_t* coordinates) {
  const TensorMap& map = box.map;
  uint64_t address = map.address;
  for (int d = 1; d < map.rank; ++d) {
    if (coordinates[d] < 0 || coordinates[d] >= static_cast<int64_t>(map.dims[d])) return {0, 0, 0};
    address += static_cast<uint64_t>(coordinates[d]) * map.strides[d];
  }
  const auto count = static_cast<int64_t>(map.row_bytes() / map.element_bytes());
  const int64_t first = std::min(std::max<int64_t>(-coordinates[0], 0), count);
  const int64_t last =
      std::max(std::min(static_cast<int64_t>(map.dims[0]) - coordinates[0], count), first);
  address += static_cast<uint64_t>((coordinates[0] + first) * map.element_bytes());
  return {address, static_cast<uint32_t>(first), static_cast<uint32_t>(last)};
}

// f(row) for every row of the box, in the order of shared memory.
template <class F>
void for_each_row(const Box& box, F f) {
  const TensorMap& map = box.map;
  int64_t at[MAX_DIMENSIONS];
  std::copy(std::begin(box.at), std::end(box.at), at);
  const int last = map.rank - 1;
  if (!map.im2col) {
    auto end = [&](int d) { return box.at[d] + static_cast<int64_t>(map.box[d]); };
    for (;;) {
      f(row_at(box, at));
      int d = 1;
      for (; d <= last; ++d) {
        at[d] += map.element_strides[d];
        if (at[d] < end(d)) break;
        at[d] = box.at[d];
      }
      if (d > last) return;
    }
  }
  // The base pixel walks through its bounds, W fastest and images last; taps are added.
  for (uint32_t pixel = 0; pixel < map.pixels_per_column; ++pixel) {
    int64_t with_tap[MAX_DIMENSIONS];
    std::copy(std::begin(at), std::end(at), with_tap);
    for (int i = 0; i < last - 1; ++i) with_tap[i + 1] += box.tap[i];
    f(row_at(box, with_tap));
    int d = 1;
    for (; d < last; ++d) {
      at[d] += map.element_strides[d];
      if (at[d] <= static_cast<int64_t>(map.dims[d]) - 1 + map.upper_corner[d - 1]) break;
      at[d] = map.lower_corner[d - 1];
    }
    if (d == last) ++at[last];
  }
}

uint32_t swizzled(const TensorMap& map, uint32_t offset) {
  const uint32_t lines = (1u << static_cast<int>(map.swizzle)) - 1;
  return offset ^ ((offset >> 7 & lines) << 4);
}
static_assert(SHARED_BASE % 1024 == 0, "offsets are swizzled as addresses are");

// f(bytes of a row, bytes of shared memory, how many) for the pieces of a row at `offset`.
template <class F>
void for_each_piece(const TensorMap& map, char* shared, uint32_t offset, F f) {
  for (uint32_t i = 0; i < map.row_bytes(); i += PIECE) {
    f(i, shared + swizzled(map, offset + i));
  }
}

void fill_box(const Box& box, char* shared, uint32_t offset) {
  const TensorMap& map = box.map;
  const uint32_t row_bytes = map.row_bytes(), element = map.element_bytes();
  const int outside = map.fill == TensorMap::Fill::nan ? 0xff : 0;
  char line[256 * 8];
  for_each_row(box, [&](const Row& row) {
    if (row.last - row.first != row_bytes / element) std::memset(line, outside, row_bytes);
    std::memcpy(line + row.first * element, reinterpret_cast<const void*>(row.address),
                (row.last - row.first) * element);
    for_each_piece(map, shared, offset,
                   [&](uint32_t i, char* to) { std::memcpy(to, line + i, PIECE); });
    offset += row_bytes;
  });
}

void write_box(const Box& box, char* shared, uint32_t offset) {
  const TensorMap& map = box.map;
  const uint32_t element = map.element_bytes();
  char line[256 * 8];
  for_each_row(box, [&](const Row& row) {
    for_each_piece(map, shared, offset,
                   [&](uint32_t i, const char* from) { std::memcpy(line + i, from, PIECE); });
    std::memcpy(reinterpret_cast<void*>(row.address), line + row.first * element,
                (row.last - row.first) * element);
    offset += map.row_bytes();
  });
}

TensorMap read_map(Warp& warp, const Instruction& in, int lane, uint64_t generic) {
  Block& block = *warp.block;
  uint64_t address;
  const Space space = space_of(generic, address);
  const void* bytes = reinterpret_cast<const void*>(address);
  if (address % MAP_ALIGNMENT != 0) {
    fail(warp, in, lane, "a tensor map at an address that is no multiple of 64");
  }
  if (space == Space::param) {
    const uint64_t offset = address - PARAM_BASE;
    if (offset + MAP_BYTES > block.kernel().param_bytes) {
      fail(warp, in, lane, "a tensor map outside the kernel's parameters");
    }
    bytes = block.params() + offset;
  } else if (space == Space::global) {
    block.global().check_bulk_read(warp, in, lane, address, MAP_BYTES, block.number());
  } else {
    fail(warp, in, lane, "a tensor map that is neither a parameter nor in global memory");
  }
  TensorMap map;
  if (!decode_for_emulator(bytes, map)) {
    fail(warp, in, lane, "128 bytes that are no tensor map (of the emulator's)");
  }
  return map;
}

// Operands: shared, map, mbarrier, coordinates[count], taps[count - 2] of im2col, blocks.
Box read_box(Warp& warp, const Instruction& in, int lane) {
  const auto offsets = bit_cast<Offsets>(in.extra);
  Box box{};
  box.map = read_map(warp, in, lane, warp.lanes<uint64_t>(in.operands[1])[lane] + offsets.map);
  const TensorMap& map = box.map;
  if (map.rank != in.count) {
    fail(warp, in, lane,
         "copies in " + std::to_string(in.count) + " dimensions by a map of " +
             std::to_string(map.rank));
  }
  if (map.im2col != ((in.mode & IM2COL) != 0)) {
    fail(warp, in, lane, map.im2col ? "a map for im2col" : "no map for im2col");
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
             std::to_string(i + 1) + ": base pixels are " + std::to_string(first) + " to " +
             std::to_string(last));
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
    load.to = locate_shared(warp, in, lane, to, Space::shared, bytes, BOX_ALIGNMENT, "copies to");
    load.mbarrier = locate_shared(warp, in, lane, mbarrier, Space::shared, MBARRIER_BYTES,
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
    if (place.block != &block) fail(warp, in, lane, "stores from another block's shared memory");
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

void do_nothing(Warp&, const Instruction&, uint32_t) {}

void decode_prefetch(Decoder& decoder, const PtxInstruction&, const std::vector<std::string>& words,
                     Instruction& to) {
  Modifiers modifiers(words);
  modifiers.take_one_of({"param", "const"});
  if (!modifiers.take("tensormap") || !modifiers.empty()) decoder.fail("unknown prefetch");
  decoder.expect_operands(1);
  to.handler = do_nothing;
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
  bool multicast = false, known = tensor && global && !rank.empty();
  if (to_global) {
    known &= !im2col && modifiers.take("shared::cta") && modifiers.take("bulk_group");
  } else if (!prefetches) {
    known &= modifiers.take("shared::cluster") || modifiers.take("shared::cta");
    known &= modifiers.take("mbarrier::complete_tx::bytes");
    multicast = modifiers.take("multicast::cluster");
  }
  if (!known || !modifiers.empty()) decoder.fail("this copy is not modelled");
  to.count = rank.empty() ? 0 : static_cast<uint8_t>(rank[0] - '0');
  if (im2col && to.count < 3) decoder.fail("im2col has 3 to 5 dimensions");
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
    decoder.fail("expected [map, {coordinates}], as many as dimensions");
  }
  Instruction shared, described, mbarrier;
  decoder.read_address(operands[to_global ? 1 : 0], shared);
  decoder.read_address(map, described);
  if (!described.wide_address) decoder.fail("a tensor map has a 64-bit address");
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
