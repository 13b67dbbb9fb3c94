// Tensor maps of arrays.

#pragma once

#include <initializer_list>

#include "dtype.h"
#include "launch/tensor_map.h"

namespace vgg {

// Returns the map of a dense array of 16-bit floats, with the contiguous dimension first. The rows
// of its boxes have 128 bytes, which are swizzled.
inline TensorMap map_of(DType dtype, const void* data, std::initializer_list<int64_t> dims,
                        std::initializer_list<int> box) {
  TensorMap map;
  map.type = dtype == DType::float16 ? TensorMap::Type::float16 : TensorMap::Type::bfloat16;
  map.rank = static_cast<int>(dims.size());
  map.address = reinterpret_cast<uint64_t>(data);
  uint64_t stride = static_cast<uint64_t>(size_bytes(dtype));
  for (int i = 0; i < map.rank; ++i) {
    map.dims[i] = static_cast<uint64_t>(dims.begin()[i]);
    map.box[i] = static_cast<uint32_t>(box.begin()[i]);
    map.strides[i] = stride;
    stride *= map.dims[i];
  }
  map.swizzle = TensorMap::Swizzle::bytes128;
  map.promotion = TensorMap::Promotion::bytes256;
  return map;
}

}  // namespace vgg
