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

#include "dtype.h"

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

// Throws unless the elements are of `dtype`. Arrays of bfloat16 call themselves what they like, if
// it has two bytes.
void check_dtype(const Array& array, DType dtype);

void check_data(const Array& array);  // not null unless empty, and aligned to an element
void check_contiguous(const Array& array, const Shape& strides);  // in bytes
void check_shape(const Array& array, const Shape& expected, const char* layout);
void check_aligned(const Array& array, int64_t bytes);

}  // namespace vgg
