// Replaces emulator.cpp in a build without the emulator, with the same Python names.

#include "bindings/bindings.h"

namespace vgg::bindings {

namespace {

[[noreturn]] void refuse() {
  throw std::runtime_error(
      "this build has no emulator: build with -C cmake.define.VGG_CUDA_EMULATOR=ON");
}

// Has no instances.
class PyEmulator : public PyExecutor {};

}  // namespace

void bind_emulator(py::module_& m) {
  m.attr("EmulatorError") = PyErr_NewException("vgg_cuda._C.EmulatorError", PyExc_RuntimeError, {});
  py::class_<PyEmulator, PyExecutor>(m, "Emulator", "Not available in this build.")
      .def(py::init([](const py::kwargs&) -> std::unique_ptr<PyEmulator> { refuse(); }));
  m.def(
      "emulator_modules", [](bool) { return py::dict(); }, py::kw_only(), "debug_waits"_a = false);
  m.def("built_with_emulator", [] { return false; });
}

}  // namespace vgg::bindings
