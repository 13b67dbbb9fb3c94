// Tensor maps: descriptions of tensors from which the hardware (TMA) of sm_90 copies boxes. A
// kernel takes a map as 128 bytes of its parameters, encoded by the GPU's driver or for the
// emulator.

#pragma once

#include <cstdint>
#include <string>

#include "kernels/params.h"

namespace vgg {

constexpr int MAX_DIMENSIONS = 5;

// Names and numeric values follow CUtensorMap*: see cuTensorMapEncodeTiled and
// cuTensorMapEncodeIm2col. Interleaving is not supported.
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
  // Arrays per dimension, the contiguous dimension first.
  uint64_t dims[MAX_DIMENSIONS] = {};
  uint64_t strides[MAX_DIMENSIONS] = {};  // bytes; [0] is the element size and need not be set
  uint32_t element_strides[MAX_DIMENSIONS] = {1, 1, 1, 1, 1};
  Swizzle swizzle = Swizzle::none;
  Promotion promotion = Promotion::none;
  Fill fill = Fill::zero;  // for elements out of bounds

  // Tiled: a box of elements. im2col: pixels and channels of a tensor [N, (D, (H,)) W, C].
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
  uint32_t rows() const;  // rows per copy
  uint32_t bytes() const { return rows() * row_bytes(); }
};

// "dims 64 x 28 x 28, strides 128, 3584, box 64 x 8 x 8": what a report about a refused map needs.
std::string describe(const TensorMap& map);

// Throws std::invalid_argument if the driver's documentation does not allow the map.
void check(const TensorMap& map);

// Checks a map and encodes it for the emulator.
TensorMapBytes encode_for_emulator(const TensorMap& map);
// Decodes such a map. Returns false if the bytes are not one.
bool decode_for_emulator(const void* bytes, TensorMap& map);

// Checks a map and encodes it with the driver. Throws CudaError, which names `kernel`, if the build
// has no CUDA or there is no usable driver, and LaunchRefused if the driver refuses the map.
TensorMapBytes encode_for_gpu(const TensorMap& map, const std::string& kernel);

}  // namespace vgg
