// Bindings of the emulator, in builds that include it.

#include "launch/emulator.h"

#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "bindings/bindings.h"

namespace vgg::bindings {

namespace {

class PyEmulator : public PyExecutor {
 public:
  PyEmulator(const std::string& schedule, bool lazy, bool races, uint32_t seed, int workers,
             uint64_t instruction_limit,
             const std::optional<std::map<std::string, std::string>>& modules, bool dry)
      : executor_(options_of(schedule, lazy, races, seed, workers, instruction_limit),
                  modules.value_or(std::map<std::string, std::string>()), dry) {}
  Executor& executor() override { return executor_; }
  bool in_gpu_memory() const override { return false; }

  py::dict counters() const {
    py::dict out;
    for (const auto& [name, value] : executor_.counters.items()) out[name] = value;
    return out;
  }
  void reset() { executor_.counters = {}; }

  void launch(const std::string& ptx, const std::string& kernel,
              const std::tuple<uint32_t, uint32_t, uint32_t>& grid,
              const std::tuple<uint32_t, uint32_t, uint32_t>& block, const py::bytes& params,
              const std::vector<std::tuple<std::string, py::object, std::string>>& buffers,
              int smem_bytes, const std::tuple<uint32_t, uint32_t, uint32_t>& cluster, bool early) {
    using Access = emulator::Buffer::Access;
    static const std::map<std::string, Access> ACCESSES = {{"read", Access::read},
                                                           {"constant", Access::constant},
                                                           {"write_once", Access::write_once},
                                                           {"update", Access::update},
                                                           {"any", Access::any}};
    const emulator::Module module(ptx, "ptx");
    std::vector<emulator::Buffer> unpacked;
    for (const auto& [name, object, access] : buffers) {
      // Elements may have any type.
      const auto info =
          object.attr("__array_interface__")["data"].cast<std::pair<uintptr_t, bool>>();
      unpacked.push_back({name, reinterpret_cast<void*>(info.first),
                          object.attr("nbytes").cast<int64_t>(),
                          find(ACCESSES, "emulator: access", access)});
    }
    const std::string bytes = params;
    py::gil_scoped_release release;
    executor_.counters += emulator::launch(
        module.kernel(kernel), {std::get<0>(grid), std::get<1>(grid), std::get<2>(grid)},
        {std::get<0>(block), std::get<1>(block), std::get<2>(block)}, smem_bytes, bytes.data(),
        bytes.size(), unpacked, executor_.options(),
        {std::get<0>(cluster), std::get<1>(cluster), std::get<2>(cluster)}, early);
  }

 private:
  static emulator::Options options_of(const std::string& schedule, bool lazy, bool races,
                                      uint32_t seed, int workers, uint64_t instruction_limit) {
    static const std::map<std::string, emulator::Schedule> SCHEDULES = {
        {"forward", emulator::Schedule::forward},
        {"reverse", emulator::Schedule::reverse},
        {"round_robin", emulator::Schedule::round_robin},
        {"random", emulator::Schedule::random}};
    if (workers < 0) {
      throw std::invalid_argument("emulator: workers: expected a number >= 0, got " +
                                  std::to_string(workers));
    }
    emulator::Options options;
    options.schedule = find(SCHEDULES, "emulator: schedule", schedule);
    options.lazy = lazy;
    options.races = races;
    options.seed = seed;
    options.workers = workers;
    options.instruction_limit = instruction_limit;
    options.interrupted = [] {  // launches run without the GIL
      py::gil_scoped_acquire acquire;
      return PyErr_CheckSignals() != 0;
    };
    return options;
  }

  EmulatorExecutor executor_;
};

}  // namespace

void bind_emulator(py::module_& m) {
  py::register_local_exception_translator([](std::exception_ptr error) {
    try {
      if (error) std::rethrow_exception(error);
    } catch (const emulator::Interrupted&) {  // PyErr_CheckSignals has set KeyboardInterrupt
    }
  });
  py::register_exception<emulator::Error>(m, "EmulatorError", PyExc_RuntimeError);
  py::class_<PyEmulator, PyExecutor>(m, "Emulator",
                                     "Executor that runs the same kernels on the CPU.")
      .def(py::init<const std::string&, bool, bool, uint32_t, int, uint64_t,
                    const std::optional<std::map<std::string, std::string>>&, bool>(),
           py::kw_only(), "schedule"_a = "forward", "lazy"_a = true, "races"_a = true, "seed"_a = 1,
           "workers"_a = 0, "instruction_limit"_a = emulator::Options().instruction_limit,
           "modules"_a = py::none(), "dry"_a = false)
      .def("counters", &PyEmulator::counters)
      .def("reset", &PyEmulator::reset)
      .def("launch", &PyEmulator::launch, "ptx"_a, "kernel"_a, py::kw_only(), "grid"_a, "block"_a,
           "params"_a, "buffers"_a, "smem_bytes"_a = 0, "cluster"_a = std::make_tuple(1, 1, 1),
           "early"_a = false);
  m.def(
      "emulator_modules",
      [](bool debug_waits) { return debug_waits ? debug_waits_ptx_texts() : ptx_texts(); },
      "Return the PTX that the emulator runs, by name, or PTX of kernels with debug waits.",
      py::kw_only(), "debug_waits"_a = false);
  m.def("built_with_emulator", [] { return true; });
}

}  // namespace vgg::bindings
