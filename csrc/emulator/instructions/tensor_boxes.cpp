#include "emulator/instructions/tensor_boxes.h"

#include <cstring>

#include "emulator/core/program.h"

namespace vgg::emulator {
namespace {

constexpr uint32_t PIECE = 16;  // bytes that a swizzle keeps together

uint32_t swizzled(const TensorMap& map, uint32_t offset) {
  const uint32_t lines = (1u << static_cast<int>(map.swizzle)) - 1;
  return offset ^ ((offset >> 7 & lines) << 4);
}
static_assert(SHARED_BASE % 1024 == 0, "swizzling offsets equals swizzling addresses");

// Calls f(offset in the row, address in shared memory) for the pieces of the row at `offset`.
template <class F>
void for_each_piece(const TensorMap& map, char* shared, uint32_t offset, F f) {
  for (uint32_t i = 0; i < map.row_bytes(); i += PIECE) {
    f(i, shared + swizzled(map, offset + i));
  }
}

}  // namespace

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

}  // namespace vgg::emulator
