// The Python module vgg_cuda._C, documented in _C.pyi.

#include <exception>
#include <string>
#include <vector>

#include "bindings/bindings.h"
#include "device.h"
#include "launch/kernel_table.h"

namespace vgg::bindings {

namespace {

py::object text_or_none(const std::string& text) {
  return text.empty() ? py::object(py::none()) : py::object(py::str(text));
}

py::dict describe_devices() {
  DeviceInfo info;
  {
    py::gil_scoped_release release;  // the first call starts the driver
    info = device_info();
  }
  py::list devices;
  for (const Device& device : info.devices) {
    devices.append(py::dict("index"_a = device.index, "name"_a = device.name,
                            "compute_capability"_a = py::make_tuple(device.major, device.minor),
                            "memory_bytes"_a = device.memory_bytes,
                            "sm_count"_a = device.sm_count));
  }
  return py::dict("available"_a = info.available, "reason"_a = text_or_none(info.reason),
                  "driver"_a = text_or_none(info.driver), "devices"_a = devices);
}

std::vector<std::string> list_architectures() {
  std::vector<std::string> out(1);
  for (const char* c = architectures(); *c; ++c) {
    if (*c == ',') {
      out.emplace_back();
    } else {
      out.back() += *c;
    }
  }
  if (out.back().empty()) out.clear();
  return out;
}

void bind_queries(py::module_& m) {
  m.def(
      "commit", [] { return std::string(commit()); },
      "Return the commit of the sources, with \"-dirty\" if files differed, or \"unknown\". Builds "
      "with VGG_CUDA_DEBUG_WAITS add \"-debug-waits\".");
  m.def("built_with_cuda", &built_with_cuda, "Return whether this build contains CUDA kernels.");
  m.def(
      "cuda_version", [] { return text_or_none(cuda_version()); },
      "Return the version of the CUDA toolkit of the build, \"13.0\", or None without CUDA.");
  m.def("architectures", &list_architectures,
        "Return the architectures of the kernels: machine code (sm_80) and PTX (compute_80).");
  m.def("device_info", &describe_devices,
        "Return the GPUs of this machine, or the reason why none is usable. Never raises.");
  m.def(
      "kernels", [] { return built_with_cuda() ? kernel_names() : std::vector<std::string>(); },
      "Return the names of all kernels.");
}

}  // namespace

PYBIND11_MODULE(_C, m) {
  m.doc() = "CUDA kernels of vgg_cuda; see _C.pyi. Can be imported on machines without a GPU.";

  py::register_local_exception_translator([](std::exception_ptr error) {
    try {
      if (error) std::rethrow_exception(error);
    } catch (const TypeError& type_error) {
      py::set_error(PyExc_TypeError, type_error.what());
    }
  });
  bind_queries(m);
  bind_plan_types(m);
  bind_plans(m);
  bind_executors(m);
  bind_tensor_maps(m);
  bind_operations(m);
}

}  // namespace vgg::bindings
