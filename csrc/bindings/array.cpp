#include "bindings/array.h"

#include <cstdlib>

namespace vgg {

namespace {

std::string joined(const Shape& shape) {
  std::string out;
  for (size_t i = 0; i < shape.size(); ++i) out += (i ? ", " : "") + std::to_string(shape[i]);
  return out;
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
  if (typestr == "|u1") return DType::uint8;
  if (typestr == "<V2" || typestr == "|V2") return DType::bfloat16;
  return std::nullopt;
}

void check_dtype(const Array& array, DType dtype) {
  if (array.dtype == dtype) return;
  if (dtype == DType::bfloat16 && item_bytes(array) == 2 && array.dtype != DType::float16) return;
  throw TypeError(array.label + ": expected " + name(dtype) + ", got " +
                  (array.dtype ? name(*array.dtype) : "typestr '" + array.typestr + "'"));
}

void check_data(const Array& array) {
  if (!array.data && !array.empty()) {
    throw std::invalid_argument(array.label + ": expected a data pointer, got null");
  }
  const int64_t bytes = item_bytes(array);
  if (bytes > 0 && reinterpret_cast<uintptr_t>(array.data) % bytes != 0) {
    throw std::invalid_argument(array.label + ": expected an address that is a multiple of " +
                                std::to_string(bytes) + ", the element size");
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

void check_shape(const Array& array, const Shape& expected, const char* layout) {
  if (array.shape != expected) {
    throw std::invalid_argument(array.label + ": expected [" + joined(expected) + "] (" + layout +
                                "), got " + tuple_text(array.shape));
  }
}

void check_aligned(const Array& array, int64_t bytes) {
  if (reinterpret_cast<uintptr_t>(array.data) % static_cast<uintptr_t>(bytes) != 0) {
    throw std::invalid_argument(array.label + ": expected an address that is a multiple of " +
                                std::to_string(bytes));
  }
}

}  // namespace vgg
