// Conversion of Python objects to arrays.

#include <cstdint>
#include <string>
#include <utility>

#include "bindings/bindings.h"

namespace vgg::bindings {

DType parse_dtype(const std::string& name, const std::string& what,
                  std::initializer_list<DType> known) {
  std::string expected;
  for (const DType* dtype = known.begin(); dtype != known.end(); ++dtype) {
    if (name == vgg::name(*dtype)) return *dtype;
    expected += dtype == known.begin() ? "" : dtype + 1 == known.end() ? " or " : ", ";
    expected += vgg::name(*dtype);
  }
  throw TypeError(what + ": expected " + expected + ", got " + name);
}

Array unpack(const std::string& label, const py::object& object, bool in_gpu_memory) {
  const char* protocol = in_gpu_memory ? "__cuda_array_interface__" : "__array_interface__";
  if (!py::hasattr(object, protocol)) {
    throw TypeError(label + ": expected an array in " + (in_gpu_memory ? "GPU" : "host") +
                    " memory (with " + protocol + "), got " + Py_TYPE(object.ptr())->tp_name);
  }
  const auto interface = object.attr(protocol).cast<py::dict>();
  const auto optional = [&](const char* key) -> py::object {
    return interface.contains(key) ? py::object(interface[key]) : py::none();
  };
  if (!optional("mask").is_none()) throw TypeError(label + ": expected an array without a mask");
  const auto [data, readonly] = interface["data"].cast<std::pair<uintptr_t, bool>>();
  const auto typestr = interface["typestr"].cast<std::string>();
  const Array array{label,    interface["shape"].cast<Shape>(),
                    typestr,  reinterpret_cast<void*>(data),
                    readonly, parse_typestr(typestr)};
  check_data(array);
  const py::object strides = optional("strides");
  if (!strides.is_none()) check_contiguous(array, strides.cast<Shape>());
  return array;
}

py::tuple tuple_of(const Dim3& dim) { return py::make_tuple(dim.x, dim.y, dim.z); }

}  // namespace vgg::bindings
