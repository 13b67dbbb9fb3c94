// Plans of one launch in a one-dimensional grid, and the checks that they share.

#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "kernels/params.h"
#include "ops.h"

namespace vgg {

constexpr int64_t MAX_INT = std::numeric_limits<int32_t>::max();  // also the most blocks in a grid

// A factor of a product, and its name in messages.
struct Factor {
  std::string name;
  int64_t value;
};

// Returns the product. Throws std::invalid_argument with the reason `why` if it exceeds `limit`.
int64_t checked_product(const char* op, const std::vector<Factor>& factors, int64_t limit,
                        const char* why);

// Plans one launch that reads x and writes y once.
Plan one_launch(const char* op, const ArchSpec& arch, std::string kernel, int64_t blocks,
                int threads, int64_t x_bytes, int64_t y_bytes);

// Elements per access of a kernel: 16 bytes if rows of `length` elements allow it.
int pack_size(DType dtype, int64_t length, bool aligned);

// "maxpool2x2_f16_v8"
std::string kernel_name(const char* op, DType dtype, int size);

inline FastDivmod divmod(int64_t divisor) { return FastDivmod(static_cast<int>(divisor)); }

}  // namespace vgg
