// Bindings of executors.

#include <cstdint>

#include "bindings/bindings.h"
#include "launch/cuda.h"

namespace vgg::bindings {

namespace {

class PyCuda : public PyExecutor {
 public:
  PyCuda(uintptr_t stream, bool early) : executor_(reinterpret_cast<Stream>(stream), early) {}
  Executor& executor() override { return executor_; }
  bool in_gpu_memory() const override { return true; }

 private:
  CudaExecutor executor_;
};

}  // namespace

void bind_executors(py::module_& m) {
  py::class_<PyExecutor>(m, "Executor",
                         "Base class of executors, which run the launches of plans.");
  py::class_<PyCuda, PyExecutor>(m, "Cuda",
                                 "Executor that enqueues on a stream of the current device.")
      .def(py::init<uintptr_t, bool>(), "stream"_a, py::kw_only(), "early"_a = false);
  bind_emulator(m);
}

}  // namespace vgg::bindings
