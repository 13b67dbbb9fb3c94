// Bindings of the operations: check the arrays against the plan, then enqueue the launches.

#include <array>
#include <optional>
#include <tuple>

#include "bindings/bindings.h"

namespace vgg::bindings {

namespace {

using Normalize = std::optional<std::tuple<std::array<float, 3>, std::array<float, 3>, bool>>;

template <class Op>
const Op& op_of(const PyPlan& plan, const char* name) {
  if (const Op* op = std::get_if<Op>(&plan.op)) return *op;
  throw std::invalid_argument(std::string(name) + ": plan: expected a plan for " + name +
                              ", got a plan for " + plan.plan.op);
}

// Unpacks and checks the arrays of one call.
struct Arrays {
  std::string op;
  bool in_gpu_memory;

  Array input(const char* name, const py::object& object, DType dtype, const Shape& shape,
              const char* layout) const {
    const Array array = unpack(op + ": " + name, object, in_gpu_memory);
    check_dtype(array, dtype);
    check_shape(array, shape, layout);
    return array;
  }

  void* output(const py::object& object, DType dtype, const Shape& shape, const char* layout,
               bool aligned) const {
    const Array array = input("out", object, dtype, shape, layout);
    if (array.readonly) throw std::invalid_argument(array.label + ": expected a writable array");
    if (aligned) check_aligned(array, 16);
    return array.data;
  }

  // The input x, aligned to 16 bytes if the plan assumes so.
  const void* x(const py::object& object, DType dtype, const Shape& shape, const char* layout,
                bool aligned) const {
    const Array array = input("x", object, dtype, shape, layout);
    if (aligned) check_aligned(array, 16);
    return array.data;
  }

  // Packed weights, which kernels read in 16-byte accesses.
  const void* packed(const char* name, const py::object& object, DType dtype,
                     const Shape& shape) const {
    const Array array = input(name, object, dtype, shape, "packed");
    check_aligned(array, 16);
    return array.data;
  }

  void* workspace(const py::object& object, int64_t bytes) const {
    if (bytes == 0) return nullptr;
    const Array array = unpack(op + ": workspace", object, in_gpu_memory);
    if (array.dtype != DType::uint8 || array.size() < bytes || array.readonly) {
      throw std::invalid_argument(array.label + ": expected a writable uint8 array of at least " +
                                  std::to_string(bytes) + " bytes, got " +
                                  std::to_string(array.size()));
    }
    check_aligned(array, 16);
    return array.data;
  }
};

Normalization normalization_of(const Normalize& normalize) {
  Normalization result;
  if (normalize) std::tie(result.scale, result.shift, result.reversed) = *normalize;
  return result;
}

void conv3x3(const PyPlan& plan, const py::object& x, const py::object& w, const py::object& bias,
             const py::object& out, const py::object& workspace, PyExecutor& on,
             const Normalize& normalize) {
  const auto& op = op_of<Conv3x3>(plan, "conv3x3");
  const Arrays arrays{"conv3x3", on.in_gpu_memory()};
  const int P = op.pool ? op.H / 2 : op.H, Q = op.pool ? op.W / 2 : op.W;
  const bool first = op.C == 3;  // the first layer reads x by elements: no alignment needed
  if (normalize && !first) {
    throw std::invalid_argument("conv3x3: normalize: expected None unless C = 3");
  }
  const Normalization normalization = normalization_of(normalize);
  const Conv3x3Arrays pointers{
      arrays.x(x, op.x_dtype, {op.N, op.H, op.W, op.C}, "NHWC", op.aligned && !first),
      arrays.packed("w", w, storage(op.dtype), {op.K, packed_columns(int64_t{9} * op.C, op.dtype)}),
      static_cast<const float*>(arrays.packed("bias", bias, DType::float32, {packed_bias(op.K)})),
      arrays.output(out, storage(op.dtype), {op.N, P, Q, op.K}, "NPQK", op.aligned),
      arrays.workspace(workspace, plan.plan.workspace_bytes)};
  Executor& executor = on.executor();
  py::gil_scoped_release release;
  run(op, plan.plan, pointers, normalization, executor);
}

void fused_conv1_block(const PyPlan& plan, const py::object& x, const py::object& w1,
                       const py::object& bias1, const py::object& w2, const py::object& bias2,
                       const py::object& out, PyExecutor& on, const Normalize& normalize) {
  const auto& op = op_of<FusedConv1Block>(plan, "fused_conv1_block");
  const Arrays arrays{"fused_conv1_block", on.in_gpu_memory()};
  const auto bias = [&](const char* name, const py::object& object, int K) {
    return static_cast<const float*>(arrays.packed(name, object, DType::float32, {packed_bias(K)}));
  };
  const FusedConv1BlockArrays pointers{
      arrays.x(x, op.x_dtype, {op.N, op.H, op.W, 3}, "NHWC", false),
      arrays.packed("w1", w1, op.dtype, {op.K1, packed_columns(27, op.dtype)}),
      bias("bias1", bias1, op.K1),
      arrays.packed("w2", w2, op.dtype, {op.K2, packed_columns(int64_t{9} * op.K1, op.dtype)}),
      bias("bias2", bias2, op.K2),
      arrays.output(out, op.dtype, {op.N, op.H / 2, op.W / 2, op.K2}, "NPQK", op.aligned)};
  const Normalization normalization = normalization_of(normalize);
  Executor& executor = on.executor();
  py::gil_scoped_release release;
  run(op, plan.plan, pointers, normalization, executor);
}

void linear(const PyPlan& plan, const py::object& x, const py::object& w, const py::object& bias,
            const py::object& out, const py::object& workspace, PyExecutor& on) {
  const auto& op = op_of<Linear>(plan, "linear");
  const Arrays arrays{"linear", on.in_gpu_memory()};
  const LinearArrays pointers{
      arrays.x(x, storage(op.dtype), {op.N, op.C}, "NC", op.aligned),
      arrays.packed("w", w, storage(op.dtype), {op.K, packed_columns(op.C, op.dtype)}),
      static_cast<const float*>(arrays.packed("bias", bias, DType::float32, {packed_bias(op.K)})),
      arrays.output(out, storage(op.dtype), {op.N, op.K}, "NK", op.aligned),
      arrays.workspace(workspace, plan.plan.workspace_bytes)};
  Executor& executor = on.executor();
  py::gil_scoped_release release;
  run(op, plan.plan, pointers, executor);
}

// Runs an operation with one input and no weights.
template <class Op>
void run_simple(const Op& op, const PyPlan& plan, const void* x, void* out, PyExecutor& on) {
  Executor& executor = on.executor();
  py::gil_scoped_release release;
  run(op, plan.plan, x, out, executor);
}

void maxpool2x2(const PyPlan& plan, const py::object& x, const py::object& out, PyExecutor& on) {
  const auto& op = op_of<MaxPool2x2>(plan, "maxpool2x2");
  const Arrays arrays{"maxpool2x2", on.in_gpu_memory()};
  run_simple(op, plan, arrays.x(x, op.dtype, {op.N, op.H, op.W, op.C}, "NHWC", op.aligned),
             arrays.output(out, op.dtype, {op.N, op.H / 2, op.W / 2, op.C}, "NPQC", op.aligned),
             on);
}

// AvgPool and AdaptiveMaxPool.
template <class Op>
void pool_bins(const char* name, const PyPlan& plan, const py::object& x, const py::object& out,
               PyExecutor& on) {
  const auto& op = op_of<Op>(plan, name);
  const Arrays arrays{name, on.in_gpu_memory()};
  run_simple(
      op, plan, arrays.x(x, op.dtype, {op.N, op.H, op.W, op.C}, "NHWC", op.aligned),
      arrays.output(out, op.dtype, {op.N, op.grid, op.grid, op.C}, "N, grid, grid, C", op.aligned),
      on);
}

void avgpool(const PyPlan& plan, const py::object& x, const py::object& out, PyExecutor& on) {
  pool_bins<AvgPool>("avgpool", plan, x, out, on);
}

void adaptive_maxpool(const PyPlan& plan, const py::object& x, const py::object& out,
                      PyExecutor& on) {
  pool_bins<AdaptiveMaxPool>("adaptive_maxpool", plan, x, out, on);
}

void softmax(const PyPlan& plan, const py::object& x, const py::object& out, PyExecutor& on) {
  const auto& op = op_of<Softmax>(plan, "softmax");
  const Arrays arrays{"softmax", on.in_gpu_memory()};
  run_simple(op, plan, arrays.x(x, op.dtype, {op.rows, op.n}, "rows, n", op.aligned),
             arrays.output(out, op.dtype, {op.rows, op.n}, "rows, n", op.aligned), on);
}

// Unpacks an array of any shape with the plan's number of elements.
Array sized(const Arrays& arrays, const char* name, const py::object& object, DType dtype,
            int64_t size) {
  Array array = unpack(arrays.op + ": " + name, object, arrays.in_gpu_memory);
  check_dtype(array, dtype);
  if (array.size() != size) {
    throw std::invalid_argument(array.label + ": expected " + std::to_string(size) +
                                " elements, got " + tuple_text(array.shape));
  }
  return array;
}

void* sized_output(const Arrays& arrays, const py::object& object, DType dtype, int64_t size) {
  const Array array = sized(arrays, "out", object, dtype, size);
  if (array.readonly) throw std::invalid_argument(array.label + ": expected a writable array");
  return array.data;
}

void relu(const PyPlan& plan, const py::object& x, const py::object& out, PyExecutor& on) {
  const auto& op = op_of<Relu>(plan, "relu");
  const Arrays arrays{"relu", on.in_gpu_memory()};
  const Array input = sized(arrays, "x", x, op.dtype, op.size);
  void* output = sized_output(arrays, out, op.dtype, op.size);
  if (op.aligned) {
    check_aligned(input, 16);
    check_aligned(sized(arrays, "out", out, op.dtype, op.size), 16);
  }
  run_simple(op, plan, input.data, output, on);
}

void affine(const PyPlan& plan, const py::object& x, const py::object& scale,
            const py::object& shift, const py::object& out, PyExecutor& on) {
  const auto& op = op_of<Affine>(plan, "affine");
  const Arrays arrays{"affine", on.in_gpu_memory()};
  const int64_t size = op.pixels * op.C;
  const Array input = sized(arrays, "x", x, op.dtype, size);
  void* output = sized_output(arrays, out, op.dtype, size);
  if (op.aligned) {
    check_aligned(input, 16);
    check_aligned(sized(arrays, "out", out, op.dtype, size), 16);
  }
  const auto channels = [&](const char* name, const py::object& object) {
    return static_cast<const float*>(
        arrays.packed(name, object, DType::float32, {packed_bias(op.C)}));
  };
  const AffineArrays pointers{input.data, channels("scale", scale), channels("shift", shift),
                              output};
  Executor& executor = on.executor();
  py::gil_scoped_release release;
  run(op, plan.plan, pointers, executor);
}

void convert(const PyPlan& plan, const py::object& x, const py::object& out, PyExecutor& on) {
  const auto& op = op_of<Convert>(plan, "convert");
  const Arrays arrays{"convert", on.in_gpu_memory()};
  const int64_t size = op.N * op.rows * op.columns;
  const Array input = sized(arrays, "x", x, op.x_dtype, size);
  run_simple(op, plan, input.data, sized_output(arrays, out, op.dtype, size), on);
}

}  // namespace

void bind_operations(py::module_& m) {
  const auto plan = "plan"_a;
  const auto x = "x"_a;
  const auto out = "out"_a;
  const auto executor = "executor"_a;
  m.def("conv3x3", &conv3x3, plan, x, "w"_a, "bias"_a, out, "workspace"_a, executor, py::kw_only(),
        "normalize"_a = py::none(), "x [N,H,W,C] -> out [N,H,W,K] or [N,H/2,W/2,K].");
  m.def("fused_conv1_block", &fused_conv1_block, plan, x, "w1"_a, "bias1"_a, "w2"_a, "bias2"_a, out,
        executor, py::kw_only(), "normalize"_a = py::none(), "x [N,H,W,3] -> out [N,H/2,W/2,K2].");
  m.def("linear", &linear, plan, x, "w"_a, "bias"_a, out, "workspace"_a, executor,
        "x [N,C] -> out [N,K].");
  m.def("maxpool2x2", &maxpool2x2, plan, x, out, executor, "x [N,H,W,C] -> out [N,H/2,W/2,C].");
  m.def("avgpool", &avgpool, plan, x, out, executor, "x [N,H,W,C] -> out [N,grid,grid,C].");
  m.def("adaptive_maxpool", &adaptive_maxpool, plan, x, out, executor,
        "x [N,H,W,C] -> out [N,grid,grid,C].");
  m.def("softmax", &softmax, plan, x, out, executor, "x [rows,n] -> out [rows,n].");
  m.def("relu", &relu, plan, x, out, executor, "x -> out, both of any shape.");
  m.def("affine", &affine, plan, x, "scale"_a, "shift"_a, out, executor,
        "x [N,H,W,C] -> out [N,H,W,C].");
  m.def("convert", &convert, plan, x, out, executor, "x [N,rows,columns] -> out [N,columns,rows].");
}

}  // namespace vgg::bindings
