// Bindings of executors.

#include <cstdint>

#include "bindings/bindings.h"
#include "launch/cuda.h"

namespace vgg::bindings {

namespace {

class PyCuda : public PyExecutor {
 public:
  PyCuda(uintptr_t stream, bool early, bool dry)
      : executor_(reinterpret_cast<Stream>(stream), early, dry) {}
  Executor& executor() override { return executor_; }
  bool in_gpu_memory() const override { return true; }

 private:
  CudaExecutor executor_;
};

}  // namespace

void bind_executors(py::module_& m) {
  // The last translator that is registered is asked first, so derived classes come last.
  const auto cuda_error =
      py::register_local_exception<CudaError>(m, "CudaError", PyExc_RuntimeError);
  py::register_local_exception<LaunchRefused>(m, "LaunchRefused", cuda_error);
  py::register_local_exception<DeviceLost>(m, "DeviceLost", cuda_error);
  py::class_<PyExecutor>(m, "Executor",
                         "Base class of executors, which run the launches of plans.");
  py::class_<PyCuda, PyExecutor>(m, "Cuda",
                                 "Executor that enqueues on a stream of the current device.")
      .def(py::init<uintptr_t, bool, bool>(), "stream"_a, py::kw_only(), "early"_a = false,
           "dry"_a = false);
  bind_emulator(m);
}

}  // namespace vgg::bindings
