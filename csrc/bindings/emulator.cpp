// The emulator, in a build that has it.

#include "launch/emulator.h"

#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "bindings/bindings.h"

namespace vgg::bindings {

namespace {

template <class T>
T find(const std::map<std::string, T>& known, const char* what, const std::string& name) {
  const auto found = known.find(name);
  if (found != known.end()) return found->second;
  std::string expected;
  for (const auto& entry : known) expected += (expected.empty() ? "" : ", ") + entry.first;
  throw std::invalid_argument(std::string("emulator: ") + what + ": expected one of " + expected +
                              ", got '" + name + "'");
}

class PyEmulator : public PyExecutor {
 public:
  PyEmulator(const std::string& schedule, bool lazy, bool races, uint32_t seed, int workers,
             uint64_t instruction_limit,
             const std::optional<std::map<std::string, std::string>>& modules)
      : executor_(options_of(schedule, lazy, races, seed, workers, instruction_limit),
                  modules.value_or(std::map<std::string, std::string>())) {}
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
              int smem_bytes, const std::tuple<uint32_t, uint32_t, uint32_t>& cluster) {
    using Access = emulator::Buffer::Access;
    static const std::map<std::string, Access> ACCESSES = {{"read", Access::read},
                                                           {"write_once", Access::write_once},
                                                           {"update", Access::update},
                                                           {"any", Access::any}};
    const emulator::Module module(ptx, "ptx");
    std::vector<emulator::Buffer> unpacked;
    for (const auto& [name, object, access] : buffers) {
      // Elements of any type: only bytes count.
      const auto info =
          object.attr("__array_interface__")["data"].cast<std::pair<uintptr_t, bool>>();
      unpacked.push_back({name, reinterpret_cast<void*>(info.first),
                          object.attr("nbytes").cast<int64_t>(), find(ACCESSES, "access", access)});
    }
    const std::string bytes = params;
    py::gil_scoped_release release;
    executor_.counters += emulator::launch(
        module.kernel(kernel), {std::get<0>(grid), std::get<1>(grid), std::get<2>(grid)},
        {std::get<0>(block), std::get<1>(block), std::get<2>(block)}, smem_bytes, bytes.data(),
        bytes.size(), unpacked, executor_.options(),
        {std::get<0>(cluster), std::get<1>(cluster), std::get<2>(cluster)});
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
    options.schedule = find(SCHEDULES, "schedule", schedule);
    options.lazy = lazy;
    options.races = races;
    options.seed = seed;
    options.workers = workers;
    options.instruction_limit = instruction_limit;
    options.interrupted = [] {  // launches run without the interpreter's lock
      py::gil_scoped_acquire acquire;
      return PyErr_CheckSignals() != 0;
    };
    return options;
  }

  EmulatorExecutor executor_;
};

}  // namespace

py::bytes tensor_map(
    uint64_t address, const std::string& dtype, const std::vector<uint64_t>& dims,
    const std::vector<uint64_t>& strides, const std::optional<std::vector<uint32_t>>& box,
    const std::optional<std::vector<uint32_t>>& element_strides, int swizzle,
    const std::string& fill,
    const std::optional<std::tuple<std::vector<int>, std::vector<int>, uint32_t, uint32_t>>&
        im2col) {
  using Type = TensorMap::Type;
  static const std::map<std::string, Type> TYPES = {
      {"uint8", Type::uint8},      {"uint16", Type::uint16},   {"uint32", Type::uint32},
      {"int32", Type::int32},      {"uint64", Type::uint64},   {"int64", Type::int64},
      {"float16", Type::float16},  {"float32", Type::float32}, {"float64", Type::float64},
      {"bfloat16", Type::bfloat16}};
  static const std::map<std::string, TensorMap::Swizzle> SWIZZLES = {
      {"0", TensorMap::Swizzle::none},
      {"32", TensorMap::Swizzle::bytes32},
      {"64", TensorMap::Swizzle::bytes64},
      {"128", TensorMap::Swizzle::bytes128}};
  static const std::map<std::string, TensorMap::Fill> FILLS = {{"zero", TensorMap::Fill::zero},
                                                               {"nan", TensorMap::Fill::nan}};
  TensorMap map;
  map.type = find(TYPES, "dtype", dtype);
  map.rank = static_cast<int>(dims.size());
  map.address = address;
  map.swizzle = find(SWIZZLES, "swizzle", std::to_string(swizzle));
  map.fill = find(FILLS, "fill", fill);
  auto copy = [](const char* name, const auto& from, auto* to, size_t most) {
    if (from.size() > most) {
      throw std::invalid_argument(std::string("tensor map: ") + name + ": at most " +
                                  std::to_string(most) + " numbers");
    }
    std::copy(from.begin(), from.end(), to);
  };
  copy("dims", dims, map.dims, MOST_DIMENSIONS);
  copy("strides", strides, map.strides + 1, MOST_DIMENSIONS - 1);
  if (box) copy("box", *box, map.box, MOST_DIMENSIONS);
  if (element_strides) {
    copy("element_strides", *element_strides, map.element_strides, MOST_DIMENSIONS);
  }
  if (im2col) {
    map.im2col = true;
    copy("lower_corner", std::get<0>(*im2col), map.lower_corner, 3);
    copy("upper_corner", std::get<1>(*im2col), map.upper_corner, 3);
    map.channels_per_pixel = std::get<2>(*im2col);
    map.pixels_per_column = std::get<3>(*im2col);
  }
  const TensorMapBytes bytes = encode_for_emulator(map);
  return py::bytes(reinterpret_cast<const char*>(bytes.bytes), sizeof(bytes));
}

void bind_emulator(py::module_& m) {
  py::register_local_exception_translator([](std::exception_ptr error) {
    try {
      if (error) std::rethrow_exception(error);
    } catch (const emulator::Interrupted&) {  // the signal's exception, KeyboardInterrupt, is set
    }
  });
  py::register_exception<emulator::Error>(m, "EmulatorError", PyExc_RuntimeError);
  py::class_<PyEmulator, PyExecutor>(m, "Emulator", "Runs the same kernels on the CPU.")
      .def(py::init<const std::string&, bool, bool, uint32_t, int, uint64_t,
                    const std::optional<std::map<std::string, std::string>>&>(),
           py::kw_only(), "schedule"_a = "forward", "lazy"_a = true, "races"_a = true, "seed"_a = 1,
           "workers"_a = 0, "instruction_limit"_a = emulator::Options().instruction_limit,
           "modules"_a = py::none())
      .def("counters", &PyEmulator::counters)
      .def("reset", &PyEmulator::reset)
      .def("launch", &PyEmulator::launch, "ptx"_a, "kernel"_a, py::kw_only(), "grid"_a, "block"_a,
           "params"_a, "buffers"_a, "smem_bytes"_a = 0, "cluster"_a = std::make_tuple(1, 1, 1));
  m.def("emulator_tensor_map", &tensor_map, "address"_a, "dtype"_a, "dims"_a, "strides"_a,
        py::kw_only(), "box"_a = py::none(), "element_strides"_a = py::none(), "swizzle"_a = 0,
        "fill"_a = "zero", "im2col"_a = py::none(), "128 bytes of a kernel's parameters.");
  m.def("emulator_modules", &ptx_texts, "The PTX that the emulator runs, by name.");
  m.def("built_with_emulator", [] { return true; });
}

}  // namespace vgg::bindings
