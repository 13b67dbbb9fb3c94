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
Function entry_point(const char* name) {
  void* found = nullptr;
  cudaDriverEntryPointQueryResult result;
  const cudaError_t error =
      cudaGetDriverEntryPointByVersion(name, &found, 12000, cudaEnableDefault, &result);
  if (error == cudaErrorInsufficientDriver || error == cudaErrorNoDevice) {
    throw CudaError(std::string(name) + ": no usable NVIDIA driver");
  }
  if (error != cudaSuccess || result != cudaDriverEntryPointSuccess) {
    throw CudaError(std::string(name) + ": expected an NVIDIA driver for CUDA 12.0 or later");
  }
  return reinterpret_cast<Function>(found);
}

}  // namespace

TensorMapBytes encode_for_gpu(const TensorMap& map) {
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
        entry_point<decltype(&cuTensorMapEncodeIm2col)>("cuTensorMapEncodeIm2col");
    error = encode(&to, type, rank, address, dims, strides + 1, map.lower_corner, map.upper_corner,
                   map.channels_per_pixel, map.pixels_per_column, map.element_strides,
                   CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle, promotion, fill);
  } else {
    static const auto encode =
        entry_point<decltype(&cuTensorMapEncodeTiled)>("cuTensorMapEncodeTiled");
    error = encode(&to, type, rank, address, dims, strides + 1, map.box, map.element_strides,
                   CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle, promotion, fill);
  }
  if (error != CUDA_SUCCESS) {
    throw CudaError("tensor map: refused by the driver (CUresult " + std::to_string(error) + ')');
  }
  TensorMapBytes bytes;
  std::memcpy(&bytes, &to, sizeof(to));
  return bytes;
}

}  // namespace vgg
