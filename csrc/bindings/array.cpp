#include "array.h"

#include <cstdlib>
#include <limits>

namespace vgg {

namespace {

std::string joined(const Shape& shape) {
  std::string out;
  for (size_t i = 0; i < shape.size(); ++i) out += (i ? ", " : "") + std::to_string(shape[i]);
  return out;
}

const char* name(DType dtype) {
  switch (dtype) {
    case DType::float32:
      return "float32";
    case DType::float16:
      return "float16";
    case DType::bfloat16:
      return "bfloat16";
  }
  return "";
}

int64_t item_bytes(const Array& array) {
  return array.typestr.size() > 2 ? std::atoi(array.typestr.c_str() + 2) : 0;
}

}  // namespace

std::string tuple_text(const Shape& shape) {
  return "(" + joined(shape) + (shape.size() == 1 ? ",)" : ")");
}

int64_t Array::size() const {
  int64_t product = 1;
  for (int64_t length : shape) product *= length;
  return product;
}

std::optional<DType> parse_typestr(const std::string& typestr) {
  if (typestr == "<f4") return DType::float32;
  if (typestr == "<f2") return DType::float16;
  if (typestr == "<V2" || typestr == "|V2") return DType::bfloat16;
  return std::nullopt;
}

DType check_dtype(Array& array, const std::optional<std::string>& dtype) {
  if (dtype) {
    if (*dtype == "bfloat16" && item_bytes(array) == 2) array.dtype = DType::bfloat16;
    if (!array.dtype || *dtype != name(*array.dtype)) {
      throw TypeError(array.label + ": expected " + *dtype + " (dtype=), got typestr '" +
                      array.typestr + "'");
    }
  }
  if (!array.dtype) {
    throw TypeError(array.label + ": expected float32, float16 or bfloat16, got typestr '" +
                    array.typestr + "'");
  }
  return *array.dtype;
}

void check_same_dtype(Array& array, const std::optional<std::string>& dtype, DType of_x) {
  const DType got = check_dtype(array, dtype);
  if (got != of_x) {
    throw TypeError(array.label + ": expected " + name(of_x) + " (as x), got " + name(got));
  }
}

void check_data(const Array& array) {
  if (!array.data && !array.empty()) {
    throw std::invalid_argument(array.label + ": the data pointer is null");
  }
  const int64_t bytes = item_bytes(array);
  if (bytes > 0 && reinterpret_cast<uintptr_t>(array.data) % bytes != 0) {
    throw std::invalid_argument(array.label + ": the data pointer is not aligned to an element");
  }
}

void check_contiguous(const Array& array, const Shape& strides) {
  if (array.empty()) return;
  bool contiguous = strides.size() == array.shape.size();
  int64_t expected = item_bytes(array);
  for (size_t i = strides.size(); contiguous && i-- > 0;) {
    contiguous = array.shape[i] == 1 || strides[i] == expected;
    expected *= array.shape[i];
  }
  if (!contiguous) {
    throw std::invalid_argument(array.label + ": expected a C-contiguous array, got strides " +
                                tuple_text(strides) + " for shape " + tuple_text(array.shape));
  }
}

void check_rank(const Array& array, size_t rank, const char* layout) {
  if (array.shape.size() != rank) {
    throw std::invalid_argument(array.label + ": expected " + std::to_string(rank) +
                                " dimensions (" + layout + "), got shape " +
                                tuple_text(array.shape));
  }
}

void check_shape(const Array& array, const Shape& expected, const char* layout) {
  if (array.shape != expected) {
    throw std::invalid_argument(array.label + ": expected [" + joined(expected) + "] (" + layout +
                                "), got " + tuple_text(array.shape));
  }
}

void check_not_zero(const Array& array) {
  for (size_t i = 1; i < array.shape.size(); ++i) {
    if (array.shape[i] == 0) {
      throw std::invalid_argument(array.label +
                                  ": expected sizes of at least 1 after the first, got " +
                                  tuple_text(array.shape));
    }
  }
}

void check_fits(const Array& array, const char* what, std::initializer_list<int64_t> factors) {
  constexpr int64_t LIMIT = std::numeric_limits<int32_t>::max() - 1024;  // room for a tile
  int64_t product = 1;
  for (int64_t factor : factors) {
    if (factor > 0 && product > LIMIT / factor) {
      throw std::invalid_argument(array.label + ": " + what +
                                  " must be less than 2^31, got shape " + tuple_text(array.shape));
    }
    product *= factor;
  }
}

}  // namespace vgg
