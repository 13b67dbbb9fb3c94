// Encoding of tensor maps by the driver. The entry points are looked up at run time, so that the
// build does not link against libcuda.

#include <cuda.h>
#include <cuda_runtime.h>

#include <cstring>
#include <string>

#include "launch/executor.h"
#include "launch/tensor_map.h"

namespace vgg {
namespace {

template <class Function>
Function entry_point(const char* name, const std::string& kernel) {
  void* found = nullptr;
  cudaDriverEntryPointQueryResult result;
  const cudaError_t error =
      cudaGetDriverEntryPointByVersion(name, &found, 12000, cudaEnableDefault, &result);
  const std::string what = kernel + ": " + name + ": ";
  if (error != cudaSuccess) {
    cudaGetLastError();  // clear the error, or the next checked call would report it
    throw CudaError(what + "no usable NVIDIA driver (" + cudaGetErrorName(error) + ')');
  }
  if (result != cudaDriverEntryPointSuccess) {
    throw LaunchRefused(what + "expected an NVIDIA driver for CUDA 12.0 or later");
  }
  return reinterpret_cast<Function>(found);
}

std::string error_name(CUresult error, const std::string& kernel) {
  static const auto get_name = entry_point<decltype(&cuGetErrorName)>("cuGetErrorName", kernel);
  const char* name = nullptr;
  const bool known = get_name(error, &name) == CUDA_SUCCESS && name != nullptr;
  return known ? name : "CUresult " + std::to_string(error);
}

}  // namespace

TensorMapBytes encode_for_gpu(const TensorMap& map, const std::string& kernel) {
  static_assert(sizeof(CUtensorMap) == sizeof(TensorMapBytes));
  check(map);
  CUtensorMap to;
  void* const address = reinterpret_cast<void*>(map.address);
  const auto type = static_cast<CUtensorMapDataType>(map.type);
  const auto swizzle = static_cast<CUtensorMapSwizzle>(map.swizzle);
  const auto promotion = static_cast<CUtensorMapL2promotion>(map.promotion);
  const auto fill = static_cast<CUtensorMapFloatOOBfill>(map.fill);
  const auto rank = static_cast<cuuint32_t>(map.rank);
  cuuint64_t dims[MAX_DIMENSIONS], strides[MAX_DIMENSIONS];
  for (int i = 0; i < MAX_DIMENSIONS; ++i) {
    dims[i] = map.dims[i];
    strides[i] = map.strides[i];
  }
  CUresult error;
  if (map.im2col) {
    static const auto encode =
        entry_point<decltype(&cuTensorMapEncodeIm2col)>("cuTensorMapEncodeIm2col", kernel);
    error = encode(&to, type, rank, address, dims, strides + 1, map.lower_corner, map.upper_corner,
                   map.channels_per_pixel, map.pixels_per_column, map.element_strides,
                   CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle, promotion, fill);
  } else {
    static const auto encode =
        entry_point<decltype(&cuTensorMapEncodeTiled)>("cuTensorMapEncodeTiled", kernel);
    error = encode(&to, type, rank, address, dims, strides + 1, map.box, map.element_strides,
                   CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle, promotion, fill);
  }
  if (error != CUDA_SUCCESS) {
    const std::string text = kernel + ": tensor map: " + error_name(error, kernel);
    // The other errors mean that the driver is shut down or has no context.
    if (error != CUDA_ERROR_INVALID_VALUE && error != CUDA_ERROR_NOT_SUPPORTED) {
      throw CudaError(text);
    }
    throw LaunchRefused(text + ": refused by the driver (" + describe(map) + ')');
  }
  TensorMapBytes bytes;
  std::memcpy(&bytes, &to, sizeof(to));
  return bytes;
}

}  // namespace vgg
