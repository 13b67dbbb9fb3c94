// Arrays as described by the caller, and checks of them. Includes no Python header.
//
// Messages name the argument, the expected value and the given value:
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

// Thrown for a wrong kind of array or element; wrong shapes and values throw
// std::invalid_argument.
struct TypeError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Array {
  std::string label;    // "conv3x3: x", the start of every message about the array
  Shape shape;          // elements
  std::string typestr;  // NumPy's type string, "<f4"
  void* data;
  bool readonly;
  std::optional<DType> dtype;  // empty for a dtype that no kernel supports

  int64_t size() const;  // elements
  bool empty() const { return size() == 0; }
};

std::string tuple_text(const Shape& shape);  // "(2, 3)"

// Parses a type string. ml_dtypes' bfloat16 is "<V2".
std::optional<DType> parse_typestr(const std::string& typestr);

// Throws TypeError unless the elements have type `dtype`. For bfloat16, any type string of two
// bytes except float16 is accepted, because libraries disagree on it.
void check_dtype(const Array& array, DType dtype);

// Throws if the data pointer is null (unless the array is empty) or not aligned to the element
// size.
void check_data(const Array& array);
void check_contiguous(const Array& array, const Shape& strides);  // strides in bytes
void check_shape(const Array& array, const Shape& expected, const char* layout);
void check_aligned(const Array& array, int64_t bytes);

}  // namespace vgg
