// Element types of arrays.

#pragma once

#include <cstdint>

namespace vgg {

enum class DType { float32, float16, bfloat16, uint8 };

constexpr int64_t size_bytes(DType dtype) {
  return dtype == DType::float32 ? 4 : dtype == DType::uint8 ? 1 : 2;
}

// As NumPy calls it, and as the names of kernels do.
constexpr const char* name(DType dtype) {
  return dtype == DType::float32    ? "float32"
         : dtype == DType::float16  ? "float16"
         : dtype == DType::bfloat16 ? "bfloat16"
                                    : "uint8";
}
constexpr const char* short_name(DType dtype) {
  return dtype == DType::float32    ? "f32"
         : dtype == DType::float16  ? "f16"
         : dtype == DType::bfloat16 ? "bf16"
                                    : "u8";
}

}  // namespace vgg
