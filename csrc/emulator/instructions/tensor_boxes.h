// Boxes of a tensor, as tensor maps describe them: their rows in global memory, and copies between
// those and shared memory.
//
// A box lies in shared memory row after row, with the address bits swizzled as the map requires. A
// load fills in the elements outside the tensor's bounds; a store skips them.

#pragma once

#include <algorithm>
#include <cstdint>
#include <iterator>

#include "launch/tensor_map.h"

namespace vgg::emulator {

// One copy: a map, the coordinates of its box and, for im2col, the filter tap.
struct Box {
  TensorMap map;
  int64_t at[MAX_DIMENSIONS];
  int64_t tap[3];
};

// The elements [first, last) of a row that are in bounds, and the address of the first.
struct Row {
  uint64_t address;
  uint32_t first, last;
};

Row row_at(const Box& box, const int64_t* coordinates);

// Calls f(row) for every row of the box, in the order of shared memory.
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
  // The base pixel moves through its bounds, W fastest and images last; the tap is added to it.
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

// Copies between the tensor and shared memory at `offset`.
void fill_box(const Box& box, char* shared, uint32_t offset);
void write_box(const Box& box, char* shared, uint32_t offset);

}  // namespace vgg::emulator
