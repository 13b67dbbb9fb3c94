// Element types of arrays, and what matrix products compute in.

#pragma once

#include <cstdint>

namespace vgg {

// tf32 is float32 in memory whose values are rounded to eleven digits where they are multiplied.
enum class DType { float32, float16, bfloat16, uint8, tf32 };

// The dtype of arrays that are computed with in `dtype`.
constexpr DType storage(DType dtype) { return dtype == DType::tf32 ? DType::float32 : dtype; }

constexpr int64_t size_bytes(DType dtype) {
  return storage(dtype) == DType::float32 ? 4 : dtype == DType::uint8 ? 1 : 2;
}

// As NumPy calls it, and as the names of kernels do.
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
