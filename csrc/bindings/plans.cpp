// Bindings of plans.

#include <limits>
#include <optional>

#include "bindings/bindings.h"

namespace vgg::bindings {

namespace {

// Checks a size from Python and converts it to int.
int size(const std::string& op, const char* what, int64_t value) {
  if (value < 1 || value > std::numeric_limits<int32_t>::max()) {
    throw std::invalid_argument(op + ": " + what + ": expected 1 <= " + what + " < 2^31, got " +
                                std::to_string(value));
  }
  return static_cast<int>(value);
}

// Parses the dtype of a result.
DType float_dtype(const std::string& op, const std::string& name) {
  return parse_dtype(name, op + ": dtype", {DType::float32, DType::float16, DType::bfloat16});
}

// Parses the precision of a matrix product.
DType precision(const std::string& op, const std::string& name) {
  return parse_dtype(name, op + ": dtype",
                     {DType::float32, DType::tf32, DType::float16, DType::bfloat16});
}

// Parses the dtype of x.
DType x_dtype_of(const std::string& op, const std::string& name) {
  return parse_dtype(name, op + ": x",
                     {DType::float32, DType::float16, DType::bfloat16, DType::uint8});
}

template <class Op>
PyPlan make(const Op& op, const ArchSpec& arch) {
  return {op, plan(op, arch)};
}

// Plans an operation that has variants.
template <class Op>
PyPlan make(const Op& op, const ArchSpec& arch, const std::optional<std::string>& variant) {
  PyPlan made{op, plan(op, arch, variant.value_or(""))};
  if (variant && variant->empty()) {
    throw std::invalid_argument(made.plan.op + ": variant: expected a name or None, got ''");
  }
  return made;
}

Conv3x3 described(int64_t N, int64_t H, int64_t W, int64_t C, int64_t K, const std::string& dtype,
                  const std::string& x_dtype, bool relu, bool pool, bool aligned) {
  const std::string op = "conv3x3";
  const DType type = precision(op, dtype), x_type = x_dtype_of(op, x_dtype);
  if (pool && (H < 2 || W < 2)) {
    throw std::invalid_argument("conv3x3: x: expected H, W >= 2 with pool=True, got H = " +
                                std::to_string(H) + " and W = " + std::to_string(W));
  }
  if (x_type != type && x_type != DType::uint8 && x_type != DType::float32) {
    const std::string own = storage(type) == DType::float32 ? "" : dtype + ", ";
    throw TypeError(op + ": x: expected " + own + "float32 or uint8, got " + x_dtype);
  }
  return {type,
          x_type,
          size(op, "N", N),
          size(op, "H", H),
          size(op, "W", W),
          size(op, "C", C),
          size(op, "K", K),
          relu,
          pool,
          aligned};
}

PyPlan plan_conv3x3(int64_t N, int64_t H, int64_t W, int64_t C, int64_t K, const std::string& dtype,
                    const std::string& x_dtype, bool relu, bool pool, bool aligned,
                    const ArchSpec& arch, const std::optional<std::string>& variant) {
  return make(described(N, H, W, C, K, dtype, x_dtype, relu, pool, aligned), arch, variant);
}

std::optional<PyPlan> plan_fused_conv1_block(int64_t N, int64_t H, int64_t W, int64_t K1,
                                             int64_t K2, const std::string& dtype,
                                             const std::string& x_dtype, bool aligned,
                                             const ArchSpec& arch) {
  const std::string op = "fused_conv1_block";
  const FusedConv1Block block{
      precision(op, dtype), x_dtype_of(op, x_dtype), size(op, "N", N),   size(op, "H", H),
      size(op, "W", W),     size(op, "K1", K1),      size(op, "K2", K2), aligned};
  if (block.x_dtype != block.dtype && x_dtype != "uint8" && x_dtype != "float32") {
    throw TypeError(op + ": x: expected " + dtype + ", float32 or uint8, got " + x_dtype);
  }
  if (!has_plan(block, arch)) return std::nullopt;
  return make(block, arch);
}

Linear described(int64_t N, int64_t C, int64_t K, const std::string& dtype, bool relu,
                 bool aligned) {
  const std::string op = "linear";
  return {
      precision(op, dtype), size(op, "N", N), size(op, "C", C), size(op, "K", K), relu, aligned};
}

PyPlan plan_linear(int64_t N, int64_t C, int64_t K, const std::string& dtype, bool relu,
                   bool aligned, const ArchSpec& arch, const std::optional<std::string>& variant) {
  return make(described(N, C, K, dtype, relu, aligned), arch, variant);
}

PyPlan plan_maxpool2x2(int64_t N, int64_t H, int64_t W, int64_t C, const std::string& dtype,
                       bool aligned, const ArchSpec& arch) {
  const std::string op = "maxpool2x2";
  return make(MaxPool2x2{float_dtype(op, dtype), size(op, "N", N), size(op, "H", H),
                         size(op, "W", W), size(op, "C", C), aligned},
              arch);
}

// AvgPool and AdaptiveMaxPool.
template <class Op>
PyPlan plan_bins(const std::string& op, int64_t N, int64_t H, int64_t W, int64_t C, int64_t grid,
                 const std::string& dtype, bool aligned, const ArchSpec& arch) {
  return make(Op{float_dtype(op, dtype), size(op, "N", N), size(op, "H", H), size(op, "W", W),
                 size(op, "C", C), size(op, "grid", grid), aligned},
              arch);
}

PyPlan plan_avgpool(int64_t N, int64_t H, int64_t W, int64_t C, int64_t grid,
                    const std::string& dtype, bool aligned, const ArchSpec& arch) {
  return plan_bins<AvgPool>("avgpool", N, H, W, C, grid, dtype, aligned, arch);
}

PyPlan plan_adaptive_maxpool(int64_t N, int64_t H, int64_t W, int64_t C, int64_t grid,
                             const std::string& dtype, bool aligned, const ArchSpec& arch) {
  return plan_bins<AdaptiveMaxPool>("adaptive_maxpool", N, H, W, C, grid, dtype, aligned, arch);
}

PyPlan plan_softmax(int64_t rows, int64_t n, const std::string& dtype, bool aligned,
                    const ArchSpec& arch) {
  const std::string op = "softmax";
  return make(Softmax{float_dtype(op, dtype), size(op, "rows", rows), size(op, "n", n), aligned},
              arch);
}

PyPlan plan_relu(int64_t elements, const std::string& dtype, bool aligned, const ArchSpec& arch) {
  if (elements < 1) {
    throw std::invalid_argument("relu: expected a size >= 1, got " + std::to_string(elements));
  }
  return make(Relu{float_dtype("relu", dtype), elements, aligned}, arch);
}

PyPlan plan_affine(int64_t N, int64_t H, int64_t W, int64_t C, const std::string& dtype,
                   bool aligned, const ArchSpec& arch) {
  const std::string op = "affine";
  const int64_t pixels = int64_t{size(op, "N", N)} * size(op, "H", H);
  if (size(op, "W", W) > std::numeric_limits<int64_t>::max() / pixels) {
    throw std::invalid_argument("affine: expected N*H*W < 2^63");
  }
  return make(Affine{float_dtype(op, dtype), pixels * W, size(op, "C", C), aligned}, arch);
}

PyPlan plan_convert(int64_t N, int64_t rows, int64_t columns, const std::string& x_dtype,
                    const std::string& dtype, const ArchSpec& arch) {
  const std::string op = "convert";
  if (N < 1) throw std::invalid_argument("convert: expected N >= 1, got " + std::to_string(N));
  return make(Convert{x_dtype_of(op, x_dtype), float_dtype(op, dtype), N, size(op, "rows", rows),
                      size(op, "columns", columns)},
              arch);
}

}  // namespace

void bind_plans(py::module_& m) {
  const auto dtype = "dtype"_a;
  const auto aligned = "aligned"_a;
  const auto arch = "arch"_a;
  m.def("plan_conv3x3", &plan_conv3x3, "N"_a, "H"_a, "W"_a, "C"_a, "K"_a, py::kw_only(), dtype,
        "x_dtype"_a, "relu"_a, "pool"_a, aligned, arch, "variant"_a = py::none());
  m.def(
      "conv3x3_variants",
      [](int64_t N, int64_t H, int64_t W, int64_t C, int64_t K, const std::string& type,
         const std::string& x_type, bool relu, bool pool, bool is_aligned, const ArchSpec& spec) {
        return conv3x3_variants(described(N, H, W, C, K, type, x_type, relu, pool, is_aligned),
                                spec);
      },
      "N"_a, "H"_a, "W"_a, "C"_a, "K"_a, py::kw_only(), dtype, "x_dtype"_a, "relu"_a, "pool"_a,
      aligned, arch, "Return the valid values of `variant`.");
  m.def("plan_fused_conv1_block", &plan_fused_conv1_block, "N"_a, "H"_a, "W"_a, "K1"_a, "K2"_a,
        py::kw_only(), dtype, "x_dtype"_a, aligned, arch);
  m.def("plan_linear", &plan_linear, "N"_a, "C"_a, "K"_a, py::kw_only(), dtype, "relu"_a, aligned,
        arch, "variant"_a = py::none());
  m.def(
      "linear_variants",
      [](int64_t N, int64_t C, int64_t K, const std::string& type, bool relu, bool is_aligned,
         const ArchSpec& spec) {
        return linear_variants(described(N, C, K, type, relu, is_aligned), spec);
      },
      "N"_a, "C"_a, "K"_a, py::kw_only(), dtype, "relu"_a, aligned, arch,
      "Return the valid values of `variant`.");
  m.def("plan_maxpool2x2", &plan_maxpool2x2, "N"_a, "H"_a, "W"_a, "C"_a, py::kw_only(), dtype,
        aligned, arch);
  m.def("plan_avgpool", &plan_avgpool, "N"_a, "H"_a, "W"_a, "C"_a, "grid"_a, py::kw_only(), dtype,
        aligned, arch);
  m.def("plan_adaptive_maxpool", &plan_adaptive_maxpool, "N"_a, "H"_a, "W"_a, "C"_a, "grid"_a,
        py::kw_only(), dtype, aligned, arch);
  m.def("plan_softmax", &plan_softmax, "rows"_a, "n"_a, py::kw_only(), dtype, aligned, arch);
  m.def("plan_relu", &plan_relu, "size"_a, py::kw_only(), dtype, aligned, arch);
  m.def("plan_affine", &plan_affine, "N"_a, "H"_a, "W"_a, "C"_a, py::kw_only(), dtype, aligned,
        arch);
  m.def("plan_convert", &plan_convert, "N"_a, "rows"_a, "columns"_a, py::kw_only(), "x_dtype"_a,
        dtype, arch);
  m.def(
      "packed_columns",
      [](int64_t gemm_k, const std::string& name) {
        return packed_columns(gemm_k, precision("packed_columns", name));
      },
      "gemm_k"_a, dtype, "Return the number of columns of packed weights.");
  m.def("packed_bias", &packed_bias, "K"_a, "Return the length of a packed bias.");
}

}  // namespace vgg::bindings
