// What every launcher needs: the dtype as a type, the choice of access width, the check.

#pragma once

#include <cuda_runtime.h>

#include <string>
#include <type_traits>

#include "../../ops.h"
#include "element.cuh"

namespace vgg::smxx {

// f(T{}) with T the element type that `dtype` names.
template <class F>
void with_type(DType dtype, F f) {
  switch (dtype) {
    case DType::float32:
      return f(float{});
    case DType::float16:
      return f(__half{});
    case DType::bfloat16:
      return f(__nv_bfloat16{});
  }
}

// f(integral_constant<int, SIZE>): SIZE = elements per access, 1 unless `vector` holds.
template <class T, class F>
void with_vector(bool vector, F f) {
  if (vector) {
    f(std::integral_constant<int, VECTOR<T>>{});
  } else {
    f(std::integral_constant<int, 1>{});
  }
}

// May rows of `length` elements of T, starting at these pointers, be read 16 bytes at a time?
template <class T, class... Pointers>
bool vectorizable(int64_t length, Pointers... pointers) {
  return length % VECTOR<T> == 0 && (... && (reinterpret_cast<uintptr_t>(pointers) % 16 == 0));
}

inline void check_launch(const char* op) {
  const cudaError_t error = cudaGetLastError();
  if (error == cudaSuccess) return;
  throw CudaError(std::string(op) + ": " + cudaGetErrorName(error) + ": " +
                  cudaGetErrorString(error));
}

inline int ceil_div(int a, int b) { return a / b + (a % b != 0); }

}  // namespace vgg::smxx
