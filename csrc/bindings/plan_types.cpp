// Bindings of architectures and of the properties of plans.

#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "bindings/bindings.h"

namespace vgg::bindings {

namespace {

using RateByName = std::map<std::string, double Rates::*>;

const RateByName& rates_by_name() {
  static const RateByName rates = {
#define RATE(NAME) {#NAME, &Rates::NAME}
      RATE(wgmma_macs),
      RATE(mma_macs),
      RATE(ffma_macs),
      RATE(port_bytes),
      RATE(l2_bytes),
      RATE(cached_bytes),
      RATE(streamed_bytes),
      RATE(port_free),
      RATE(port_contention),
      RATE(launch_cycles),
      RATE(halo_subtile_cycles),
      RATE(swap_ab_subtile_cycles),
      RATE(dense_block_cycles),
      RATE(dense_cluster_cycles)
#undef RATE
  };
  static constexpr size_t FIELDS = sizeof(Rates) / sizeof(double);
  if (rates.size() != FIELDS) throw std::logic_error("a rate has no name");
  return rates;
}

py::dict rates_of(const ArchSpec& arch) {
  py::dict rates;
  for (const auto& [name, rate] : rates_by_name()) rates[py::str(name)] = arch.rates.*rate;
  return rates;
}

ArchSpec with_rates(ArchSpec arch, const py::kwargs& given) {
  for (const auto& [key, value] : given) {
    const auto name = key.cast<std::string>();
    const double rate = PyFloat_AsDouble(value.ptr());
    if (PyErr_Occurred()) throw py::error_already_set();
    if (!(rate > 0) || std::isinf(rate)) {
      throw std::invalid_argument("rates: " + name + ": expected a positive number, got " +
                                  py::str(value).cast<std::string>());
    }
    arch.rates.*find(rates_by_name(), "rates", name) = rate;
  }
  return arch;
}

py::tuple families_of(const ArchSpec& arch) {
  py::list names;
  for (const Family family : arch.families) names.append(name(family));
  return py::tuple(names);
}

py::dict as_dict(const Estimate& estimate) {
  if (estimate.cycles == 0) return {};
  return py::dict("cycles"_a = estimate.cycles, "main_cycles"_a = estimate.main,
                  "math_cycles"_a = estimate.math, "port_cycles"_a = estimate.port,
                  "l2_cycles"_a = estimate.l2);
}

py::dict as_dict(const Plan& plan) {
  py::list launches;
  for (const Launch& launch : plan.launches) {
    launches.append(py::dict("kernel"_a = launch.kernel, "grid"_a = tuple_of(launch.grid),
                             "block"_a = tuple_of(launch.block), "smem_bytes"_a = launch.smem_bytes,
                             "cluster"_a = tuple_of(launch.cluster), "early"_a = launch.early,
                             "blocks_per_sm"_a = launch.blocks_per_sm));
  }
  const auto tiling = [](const Tiling& t) {
    return py::dict("gemm_m"_a = t.gemm_m, "gemm_n"_a = t.gemm_n, "gemm_k"_a = t.gemm_k,
                    "block_m"_a = t.block_m, "block_n"_a = t.block_n, "block_k"_a = t.block_k,
                    "stages"_a = t.stages, "split_k"_a = t.split_k, "steps"_a = t.steps,
                    "partial_sum"_a = t.partial_sum,
                    "walk"_a = t.walk == Walk::rsc ? "rsc" : "csr");
  };
  py::dict found("op"_a = plan.op, "arch"_a = plan.arch, "family"_a = name(plan.family),
                 "variant"_a = plan.variant, "estimate"_a = as_dict(plan.estimate),
                 "macs"_a = plan.macs, "workspace_bytes"_a = plan.workspace_bytes,
                 "tiles"_a = plan.tiles, "issued_macs"_a = plan.issued_macs,
                 "load_bytes"_a = plan.load_bytes, "store_bytes"_a = plan.store_bytes,
                 "launches"_a = launches, "tiling"_a = tiling(plan.tiling));
  if (plan.first_tiling.gemm_k) found["first_tiling"] = tiling(plan.first_tiling);
  return found;
}

}  // namespace

void bind_plan_types(py::module_& m) {
  py::class_<ArchSpec>(m, "Arch", "Properties of a GPU that plans depend on.")
      .def_readonly("name", &ArchSpec::name)
      .def_readonly("sm_count", &ArchSpec::sm_count)
      .def_readonly("smem_per_block_bytes", &ArchSpec::smem_per_block_bytes)
      .def_readonly("smem_per_sm_bytes", &ArchSpec::smem_per_sm_bytes)
      .def_readonly("threads_per_sm", &ArchSpec::threads_per_sm)
      .def_property_readonly("families", &families_of)
      .def_property_readonly("rates", &rates_of)
      .def("without", &without, "families"_a, "Return a copy without these kernel families.")
      .def("with_rates", &with_rates, "Return a copy with other rates.")
      .def("__repr__", [](const ArchSpec& arch) {
        return "<Arch " + arch.name + ": " + std::to_string(arch.sm_count) + " SMs>";
      });
  m.def("arch", &arch_spec, "name"_a,
        "Return the architecture `name`, with the properties of its largest GPU.");
  m.def("arch_names", &arch_names);
  m.def("device_arch", &device_arch, "major"_a, "minor"_a, "sm_count"_a,
        "Return the architecture of a device.");
  m.def("can_run", &can_run, "arch"_a, "major"_a, "minor"_a,
        "Return whether a device of this compute capability can run plans for `arch`.");
  m.def(
      "families",
      [] {
        std::vector<std::string> names;
        for (const Family family : switchable_families()) names.push_back(name(family));
        return names;
      },
      "Return the kernel families that can be switched off.");

  py::class_<PyPlan>(m, "Plan", "Launches of one operation on arrays of one shape.")
      .def_property_readonly("op", [](const PyPlan& p) { return p.plan.op; })
      .def_property_readonly("arch", [](const PyPlan& p) { return p.plan.arch; })
      .def_property_readonly("kernel", [](const PyPlan& p) { return p.plan.launches[0].kernel; })
      .def_property_readonly("family", [](const PyPlan& p) { return name(p.plan.family); })
      .def_property_readonly("variant", [](const PyPlan& p) { return p.plan.variant; })
      .def_property_readonly("estimate", [](const PyPlan& p) { return as_dict(p.plan.estimate); })
      .def_property_readonly("workspace_bytes",
                             [](const PyPlan& p) { return p.plan.workspace_bytes; })
      .def_property_readonly("macs", [](const PyPlan& p) { return p.plan.macs; })
      .def("as_dict", [](const PyPlan& p) { return as_dict(p.plan); })
      .def("__repr__", [](const PyPlan& p) {
        const Launch& launch = p.plan.launches[0];
        return "<Plan " + p.plan.op + " on " + p.plan.arch + ": " + launch.kernel + ", " +
               std::to_string(launch.grid.x) + " x " + std::to_string(launch.grid.y) +
               " blocks of " + std::to_string(launch.block.x) + " threads>";
      });
}

}  // namespace vgg::bindings
