// Declarations shared by the files of this folder, the only files that include Python headers.
//
// Executors on a GPU take any objects with __cuda_array_interface__ (CuPy, PyTorch); executors on
// the CPU take objects with __array_interface__ (NumPy). Arrays are checked only here, before any
// launch: TypeError for kinds and dtypes, ValueError for shapes and layouts.

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

// An executor held by Python, and the memory that its arrays must be in.
class PyExecutor {
 public:
  virtual ~PyExecutor() = default;
  virtual Executor& executor() = 0;
  virtual bool in_gpu_memory() const = 0;
};

// A plan and its operation.
struct PyPlan {
  std::variant<Conv3x3, FusedConv1Block, Linear, MaxPool2x2, AvgPool, AdaptiveMaxPool, Softmax,
               Relu, Affine, Convert>
      op;
  Plan plan;
};

// Returns the entry `name` of `known`. Throws ValueError for an unknown name; the message begins
// with `what`.
template <class T>
T find(const std::map<std::string, T>& known, const char* what, const std::string& name) {
  const auto found = known.find(name);
  if (found != known.end()) return found->second;
  std::string expected;
  for (const auto& entry : known) expected += (expected.empty() ? "" : ", ") + entry.first;
  throw std::invalid_argument(std::string(what) + ": expected one of " + expected + ", got '" +
                              name + "'");
}

// Returns the dtype `name`. Throws TypeError unless it is one of `known`; the message begins with
// `what`.
DType parse_dtype(const std::string& name, const std::string& what,
                  std::initializer_list<DType> known);

// Reads the array interface of `object`, and checks its data pointer and that it is contiguous.
Array unpack(const std::string& label, const py::object& object, bool in_gpu_memory);

py::tuple tuple_of(const Dim3& dim);

void bind_plan_types(py::module_& m);
void bind_plans(py::module_& m);
void bind_operations(py::module_& m);
void bind_executors(py::module_& m);
void bind_tensor_maps(py::module_& m);
void bind_emulator(py::module_& m);  // emulator.cpp or no_emulator.cpp

}  // namespace vgg::bindings
