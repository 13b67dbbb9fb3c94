// Arrays as the caller described them, and the checks on them. Knows no Python.
//
// A message names the argument and says what was expected and what came:
// "conv3x3: w: expected [64, 3, 3, 3] (KRSC), got (64, 3, 3, 4)".

#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "ops.h"

namespace vgg {

using Shape = std::vector<int64_t>;

// A wrong kind of array or element; wrong shapes and values are std::invalid_argument.
struct TypeError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Array {
  std::string label;    // "conv3x3: x", how every message about it begins
  Shape shape;          // elements
  std::string typestr;  // NumPy's, "<f4"
  void* data;
  bool readonly;
  std::optional<DType> dtype;  // none: a dtype that no kernel takes

  int64_t size() const;  // elements
  bool empty() const { return size() == 0; }
};

std::string tuple_text(const Shape& shape);  // "(2, 3)"

// `typestr` as a dtype. ml_dtypes calls bfloat16 "<V2".
std::optional<DType> parse_typestr(const std::string& typestr);

// Sets `array.dtype` where the caller names it, and says it is one that the kernels take. The
// name is for bfloat16, whose typestr is a matter of taste: any two-byte element may be it.
DType check_dtype(Array& array, const std::optional<std::string>& dtype);
void check_same_dtype(Array& array, const std::optional<std::string>& dtype, DType of_x);

void check_data(const Array& array);  // not null unless empty, and aligned
void check_contiguous(const Array& array, const Shape& strides);  // in bytes
void check_rank(const Array& array, size_t rank, const char* layout);
void check_shape(const Array& array, const Shape& expected, const char* layout);
void check_not_zero(const Array& array);  // every size but the first

// Kernels count rows, columns and blocks in int32, and elements in int64.
void check_fits(const Array& array, const char* what, std::initializer_list<int64_t> factors);

}  // namespace vgg
