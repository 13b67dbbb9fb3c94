// Element types of arrays and of matrix products.

#pragma once

#include <cstdint>

namespace vgg {

// tf32 is float32 in memory; products round their operands to eleven binary digits.
enum class DType { float32, float16, bfloat16, uint8, tf32 };

// Element type of arrays in memory for computations in `dtype`.
constexpr DType storage(DType dtype) { return dtype == DType::tf32 ? DType::float32 : dtype; }

constexpr int64_t size_bytes(DType dtype) {
  return storage(dtype) == DType::float32 ? 4 : dtype == DType::uint8 ? 1 : 2;
}

// NumPy's name, and the abbreviation in kernel names.
constexpr const char* name(DType dtype) {
  return dtype == DType::float32    ? "float32"
         : dtype == DType::float16  ? "float16"
         : dtype == DType::bfloat16 ? "bfloat16"
         : dtype == DType::tf32     ? "tf32"
                                    : "uint8";
}
constexpr const char* short_name(DType dtype) {
  return dtype == DType::float32    ? "f32"
         : dtype == DType::float16  ? "f16"
         : dtype == DType::bfloat16 ? "bf16"
         : dtype == DType::tf32     ? "tf32"
                                    : "u8";
}

}  // namespace vgg
