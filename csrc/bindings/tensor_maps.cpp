// Bindings of tensor maps, for tests that launch additional kernels.

#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "bindings/bindings.h"
#include "launch/tensor_map.h"

namespace vgg::bindings {

namespace {

template <TensorMapBytes (&ENCODE)(const TensorMap&)>
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
  map.type = find(TYPES, "tensor map: dtype", dtype);
  map.rank = static_cast<int>(dims.size());
  map.address = address;
  map.swizzle = find(SWIZZLES, "tensor map: swizzle", std::to_string(swizzle));
  map.fill = find(FILLS, "tensor map: fill", fill);
  auto copy = [](const char* name, const auto& from, auto* to, size_t most) {
    if (from.size() > most) {
      throw std::invalid_argument(std::string("tensor map: ") + name + ": expected at most " +
                                  std::to_string(most) + " numbers, got " +
                                  std::to_string(from.size()));
    }
    std::copy(from.begin(), from.end(), to);
  };
  copy("dims", dims, map.dims, MAX_DIMENSIONS);
  copy("strides", strides, map.strides + 1, MAX_DIMENSIONS - 1);
  if (box) copy("box", *box, map.box, MAX_DIMENSIONS);
  if (element_strides) {
    copy("element_strides", *element_strides, map.element_strides, MAX_DIMENSIONS);
  }
  if (im2col) {
    map.im2col = true;
    copy("lower_corner", std::get<0>(*im2col), map.lower_corner, 3);
    copy("upper_corner", std::get<1>(*im2col), map.upper_corner, 3);
    map.channels_per_pixel = std::get<2>(*im2col);
    map.pixels_per_column = std::get<3>(*im2col);
  }
  const TensorMapBytes bytes = ENCODE(map);
  return py::bytes(reinterpret_cast<const char*>(bytes.bytes), sizeof(bytes));
}

template <TensorMapBytes (&ENCODE)(const TensorMap&)>
void bind(py::module_& m, const char* name) {
  m.def(name, &tensor_map<ENCODE>, "address"_a, "dtype"_a, "dims"_a, "strides"_a, py::kw_only(),
        "box"_a = py::none(), "element_strides"_a = py::none(), "swizzle"_a = 0, "fill"_a = "zero",
        "im2col"_a = py::none(), "Return 128 bytes for a kernel's parameters.");
}

TensorMapBytes encode_for_any_kernel(const TensorMap& map) {
  return encode_for_gpu(map, "gpu_tensor_map");
}

}  // namespace

void bind_tensor_maps(py::module_& m) {
  bind<encode_for_emulator>(m, "emulator_tensor_map");
  bind<encode_for_any_kernel>(m, "gpu_tensor_map");
}

}  // namespace vgg::bindings
