// Tensor maps: what a kernel for sm_90 is told of a tensor so that the hardware (TMA) copies boxes
// of it. One description; 128 bytes of a kernel's parameters, which a GPU's driver and the emulator
// each write in their own way.

#pragma once

#include <cstdint>
#include <string>

#include "kernels/params.h"

namespace vgg {

constexpr int MAX_DIMENSIONS = 5;

// The names and numbers are those of CUtensorMap*: see cuTensorMapEncodeTiled and ...Im2col.
// Without interleaving.
struct TensorMap {
  enum class Type : uint8_t {
    uint8,
    uint16,
    uint32,
    int32,
    uint64,
    int64,
    float16,
    float32,
    float64,
    bfloat16
  };
  enum class Swizzle : uint8_t { none, bytes32, bytes64, bytes128 };
  enum class Promotion : uint8_t { none, bytes64, bytes128, bytes256 };
  enum class Fill : uint8_t { zero, nan };

  Type type = Type::float16;
  int rank = 1;
  uint64_t address = 0;
  // The dimension that is contiguous first.
  uint64_t dims[MAX_DIMENSIONS] = {};
  uint64_t strides[MAX_DIMENSIONS] = {};  // bytes; [0] is that of an element, and not to be given
  uint32_t element_strides[MAX_DIMENSIONS] = {1, 1, 1, 1, 1};
  Swizzle swizzle = Swizzle::none;
  Promotion promotion = Promotion::none;
  Fill fill = Fill::zero;  // of what lies out of bounds

  // A box of elements; or, for im2col, pixels of a tensor [N, (D, (H,)) W, C] and channels of them.
  uint32_t box[MAX_DIMENSIONS] = {};
  bool im2col = false;
  int lower_corner[3] = {}, upper_corner[3] = {};  // W, H, D
  uint32_t channels_per_pixel = 0, pixels_per_column = 0;

  int element_bytes() const;
  int swizzle_bytes() const {
    return swizzle == Swizzle::none ? 0 : 16 << static_cast<int>(swizzle);
  }
  uint32_t row_bytes() const {  // contiguous in shared memory
    return (im2col ? channels_per_pixel : box[0]) * static_cast<uint32_t>(element_bytes());
  }
  uint32_t rows() const;  // that one copy has
  uint32_t bytes() const { return rows() * row_bytes(); }
};

// Throws std::invalid_argument for what the driver's documentation does not allow.
void check(const TensorMap& map);

// The emulator's own encoding of a map, which is checked.
TensorMapBytes encode_for_emulator(const TensorMap& map);
// False if these bytes are not such a map.
bool decode_for_emulator(const void* bytes, TensorMap& map);

// The driver's encoding, in builds with CUDA. Throws CudaError where the driver has none or
// refuses.
TensorMapBytes encode_for_gpu(const TensorMap& map);

}  // namespace vgg
