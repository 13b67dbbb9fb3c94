// What the files of this folder, the only ones that know Python, share.
//
// Arrays are any objects with __cuda_array_interface__ (CuPy's, PyTorch's) for an executor that
// launches on a GPU, or with __array_interface__ (NumPy's) for one that runs on the CPU. Every
// array is checked here and nowhere below: TypeError for kinds and dtypes, ValueError for shapes
// and layouts, before anything is launched.

#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <initializer_list>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <variant>

#include "bindings/array.h"
#include "launch/executor.h"
#include "ops.h"

namespace vgg::bindings {

namespace py = pybind11;
using namespace pybind11::literals;

// An executor as Python holds it, and where it wants its arrays.
class PyExecutor {
 public:
  virtual ~PyExecutor() = default;
  virtual Executor& executor() = 0;
  virtual bool in_gpu_memory() const = 0;
};

// A plan and the operation that it is for.
struct PyPlan {
  std::variant<Conv3x3, FusedConv1Block, Linear, MaxPool2x2, AvgPool, AdaptiveMaxPool, Softmax,
               Relu, Convert>
      op;
  Plan plan;
};

// The one of `known` that is called `name`; ValueError, about `what`, for another.
template <class T>
T find(const std::map<std::string, T>& known, const char* what, const std::string& name) {
  const auto found = known.find(name);
  if (found != known.end()) return found->second;
  std::string expected;
  for (const auto& entry : known) expected += (expected.empty() ? "" : ", ") + entry.first;
  throw std::invalid_argument(std::string(what) + ": expected one of " + expected + ", got '" +
                              name + "'");
}

// The one of `known` that is called `name`; TypeError, about `what`, for another.
DType parse_dtype(const std::string& name, const std::string& what,
                  std::initializer_list<DType> known);

Array unpack(const std::string& label, const py::object& object, bool in_gpu_memory);

py::tuple tuple_of(const Dim3& dim);

void bind_plans(py::module_& m);
void bind_operations(py::module_& m);
void bind_executors(py::module_& m);
void bind_tensor_maps(py::module_& m);
void bind_emulator(py::module_& m);  // emulator.cpp, or no_emulator.cpp

}  // namespace vgg::bindings
