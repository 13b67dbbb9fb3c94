// The Python module vgg_cuda._C: unpack, check, call. The only file that knows Python.
//
// Arrays are any objects with __cuda_array_interface__ (version 2 or 3): CuPy's, PyTorch's. Every
// array is checked here and nowhere below: TypeError for kinds and dtypes, ValueError for shapes
// and layouts, before anything is launched. The caller makes the arrays' device current and
// orders `stream` behind the work that produced them; the call only enqueues.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <exception>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "array.h"
#include "device.h"
#include "ops.h"

namespace py = pybind11;
using namespace pybind11::literals;

namespace {

using vgg::Array;
using vgg::Shape;

// ---- Unpacking ----

using Dtype = std::optional<std::string>;

Array unpack(const std::string& label, const py::object& object) {
  if (!py::hasattr(object, "__cuda_array_interface__")) {
    throw vgg::TypeError(label +
                         ": expected an array in GPU memory (with __cuda_array_interface__), got " +
                         Py_TYPE(object.ptr())->tp_name);
  }
  const auto interface = object.attr("__cuda_array_interface__").cast<py::dict>();
  const auto optional = [&](const char* key) -> py::object {
    return interface.contains(key) ? py::object(interface[key]) : py::none();
  };
  if (!optional("mask").is_none()) {
    throw vgg::TypeError(label + ": expected an array without a mask");
  }
  const auto [data, readonly] = interface["data"].cast<std::pair<uintptr_t, bool>>();
  const auto typestr = interface["typestr"].cast<std::string>();
  const Array array{label,    interface["shape"].cast<Shape>(),
                    typestr,  reinterpret_cast<void*>(data),
                    readonly, vgg::parse_typestr(typestr)};
  check_data(array);
  const py::object strides = optional("strides");
  if (!strides.is_none()) check_contiguous(array, strides.cast<Shape>());
  return array;
}

// x, w and bias as the ops take them; `rank` and `layout` of x.
Array unpack_x(const std::string& op, const py::object& object, const Dtype& dtype, size_t rank,
               const char* layout) {
  Array x = unpack(op + ": x", object);
  check_dtype(x, dtype);
  check_rank(x, rank, layout);
  check_not_zero(x);
  for (int64_t size : x.shape) check_fits(x, "every size", {size});
  if (rank == 4) {
    check_fits(x, "N*H*W", {x.shape[0], x.shape[1], x.shape[2]});
    check_fits(x, "W*C", {x.shape[2], x.shape[3]});
  }
  return x;
}

Array unpack_w(const std::string& op, const py::object& object, const Dtype& dtype, const Array& x,
               const Shape& tail, const char* layout) {
  Array w = unpack(op + ": w", object);
  check_same_dtype(w, dtype, *x.dtype);
  check_rank(w, 1 + tail.size(), layout);
  Shape expected{w.shape[0]};
  expected.insert(expected.end(), tail.begin(), tail.end());
  check_shape(w, expected, layout);
  if (w.shape[0] == 0) {
    throw std::invalid_argument(w.label + ": expected K >= 1, got " + vgg::tuple_text(w.shape));
  }
  check_fits(w, "K", {w.shape[0]});
  int64_t gemm_k = 1;
  for (int64_t size : tail) gemm_k *= size;
  check_fits(w, "R*S*C", {gemm_k});
  return w;
}

const float* unpack_bias(const std::string& op, const py::object& object, int64_t K) {
  const Array bias = unpack(op + ": bias", object);
  if (bias.dtype != vgg::DType::float32) {
    throw vgg::TypeError(bias.label + ": expected float32, got typestr '" + bias.typestr + "'");
  }
  check_shape(bias, {K}, "K");
  return static_cast<const float*>(bias.data);
}

Array unpack_out(const std::string& op, const py::object& object, const Dtype& dtype,
                 const Array& x) {
  Array out = unpack(op + ": out", object);
  check_same_dtype(out, dtype, *x.dtype);
  if (out.readonly) throw std::invalid_argument(out.label + ": expected a writable array");
  return out;
}

int to_int(int64_t size) { return static_cast<int>(size); }

// Launchers count the blocks of a GEMM_M x GEMM_N grid of 64x64 tiles in int32.
void check_grid(const Array& out, int64_t gemm_m, int64_t gemm_n) {
  check_fits(out, "the number of 64x64 tiles", {gemm_m / 64 + 1, gemm_n / 64 + 1});
}

// Nothing to compute, nothing to launch; otherwise Python may run on while we enqueue.
template <class Op>
void enqueue(void (*run)(const Op&, vgg::Stream), const Op& op, const Array& out,
             uintptr_t stream) {
  if (out.empty()) return;
  py::gil_scoped_release release;
  run(op, reinterpret_cast<vgg::Stream>(stream));
}

// ---- The operations ----

void conv3x3(const py::object& x_, const py::object& w_, const py::object& bias_,
             const py::object& out_, bool relu, bool pool, uintptr_t stream, const Dtype& dtype) {
  const Array x = unpack_x("conv3x3", x_, dtype, 4, "NHWC");
  const int64_t N = x.shape[0], H = x.shape[1], W = x.shape[2], C = x.shape[3];
  const Array w = unpack_w("conv3x3", w_, dtype, x, {3, 3, C}, "KRSC");
  const int64_t K = w.shape[0];
  const float* bias = unpack_bias("conv3x3", bias_, K);
  const Array out = unpack_out("conv3x3", out_, dtype, x);
  check_shape(out, pool ? Shape{N, H / 2, W / 2, K} : Shape{N, H, W, K}, "NPQK");
  check_grid(out, N * H * W, K);
  const vgg::Conv3x3 op{*x.dtype,  x.data,    w.data,    bias,      out.data, to_int(N),
                        to_int(H), to_int(W), to_int(C), to_int(K), relu,     pool};
  enqueue(vgg::conv3x3, op, out, stream);
}

void linear(const py::object& x_, const py::object& w_, const py::object& bias_,
            const py::object& out_, bool relu, uintptr_t stream, const Dtype& dtype) {
  const Array x = unpack_x("linear", x_, dtype, 2, "NC");
  const int64_t N = x.shape[0], C = x.shape[1];
  const Array w = unpack_w("linear", w_, dtype, x, {C}, "KC");
  const int64_t K = w.shape[0];
  const float* bias = unpack_bias("linear", bias_, K);
  const Array out = unpack_out("linear", out_, dtype, x);
  check_shape(out, {N, K}, "NK");
  check_grid(out, N, K);
  const vgg::Linear op{*x.dtype,  x.data,    w.data,    bias, out.data,
                       to_int(N), to_int(C), to_int(K), relu};
  enqueue(vgg::linear, op, out, stream);
}

void maxpool2x2(const py::object& x_, const py::object& out_, uintptr_t stream,
                const Dtype& dtype) {
  const Array x = unpack_x("maxpool2x2", x_, dtype, 4, "NHWC");
  const int64_t N = x.shape[0], H = x.shape[1], W = x.shape[2], C = x.shape[3];
  const Array out = unpack_out("maxpool2x2", out_, dtype, x);
  check_shape(out, {N, H / 2, W / 2, C}, "NPQC");
  const vgg::MaxPool2x2 op{*x.dtype, x.data, out.data, to_int(N), to_int(H), to_int(W), to_int(C)};
  enqueue(vgg::maxpool2x2, op, out, stream);
}

void avgpool(const py::object& x_, const py::object& out_, uintptr_t stream, const Dtype& dtype) {
  const Array x = unpack_x("avgpool", x_, dtype, 4, "NHWC");
  const int64_t N = x.shape[0], H = x.shape[1], W = x.shape[2], C = x.shape[3];
  const Array out = unpack_out("avgpool", out_, dtype, x);
  check_rank(out, 4, "N, grid, grid, C");
  const int64_t grid = out.shape[1];
  if (grid == 0)
    throw std::invalid_argument(out.label + ": expected grid >= 1, got " +
                                vgg::tuple_text(out.shape));
  check_shape(out, {N, grid, grid, C}, "N, grid, grid, C");
  check_fits(out, "N*grid*grid", {N, grid, grid});
  const vgg::AvgPool op{*x.dtype,  x.data,    out.data,  to_int(N),
                        to_int(H), to_int(W), to_int(C), to_int(grid)};
  enqueue(vgg::avgpool, op, out, stream);
}

void softmax(const py::object& x_, const py::object& out_, uintptr_t stream, const Dtype& dtype) {
  const Array x = unpack_x("softmax", x_, dtype, 2, "rows, n");
  const Array out = unpack_out("softmax", out_, dtype, x);
  check_shape(out, x.shape, "rows, n");
  const vgg::Softmax op{*x.dtype, x.data, out.data, to_int(x.shape[0]), to_int(x.shape[1])};
  enqueue(vgg::softmax, op, out, stream);
}

void relu(const py::object& x_, const py::object& out_, uintptr_t stream, const Dtype& dtype) {
  Array x = unpack("relu: x", x_);
  check_dtype(x, dtype);
  const Array out = unpack_out("relu", out_, dtype, x);
  check_shape(out, x.shape, "as x");
  enqueue(vgg::relu, vgg::Relu{*x.dtype, x.data, out.data, x.size()}, out, stream);
}

// ---- Queries ----

py::object text_or_none(const std::string& text) {
  return text.empty() ? py::object(py::none()) : py::object(py::str(text));
}

py::dict device_info() {
  vgg::DeviceInfo info;
  {
    py::gil_scoped_release release;  // the first call starts the driver
    info = vgg::device_info();
  }
  py::list devices;
  for (const vgg::Device& device : info.devices) {
    devices.append(py::dict("index"_a = device.index, "name"_a = device.name,
                            "compute_capability"_a = py::make_tuple(device.major, device.minor),
                            "memory_bytes"_a = device.memory_bytes,
                            "sm_count"_a = device.sm_count));
  }
  return py::dict("available"_a = info.available, "reason"_a = text_or_none(info.reason),
                  "driver"_a = text_or_none(info.driver), "devices"_a = devices);
}

std::vector<std::string> architectures() {
  std::vector<std::string> out(1);
  for (const char* c = vgg::architectures(); *c; ++c) {
    if (*c == ',') {
      out.emplace_back();
    } else {
      out.back() += *c;
    }
  }
  if (out.back().empty()) out.clear();
  return out;
}

}  // namespace

PYBIND11_MODULE(_C, m) {
  m.doc() = "CUDA kernels of vgg_cuda; see _C.pyi. Imports on machines without a GPU.";

  py::register_local_exception_translator([](std::exception_ptr error) {
    try {
      if (error) std::rethrow_exception(error);
    } catch (const vgg::TypeError& type_error) {
      py::set_error(PyExc_TypeError, type_error.what());
    }
  });

  m.def(
      "commit", [] { return std::string(vgg::commit()); },
      "Commit of the sources, \"-dirty\" where files differed, or \"unknown\".");
  m.def("built_with_cuda", &vgg::built_with_cuda, "Are there kernels in this build?");
  m.def(
      "cuda_version", [] { return text_or_none(vgg::cuda_version()); },
      "Version of the CUDA toolkit of the build, \"13.0\"; None without CUDA.");
  m.def("architectures", &architectures,
        "What the kernels are compiled for: machine code (sm_80) and PTX (compute_80).");
  m.def("device_info", &device_info,
        "The GPUs of this machine, or the reason why none can be used. Never raises.");

  const auto stream = "stream"_a;
  const auto dtype = "dtype"_a = py::none();
  m.def("conv3x3", &conv3x3, "x"_a, "w"_a, "bias"_a, "out"_a, py::kw_only(), "relu"_a, "pool"_a,
        stream, dtype, "x [N,H,W,C], w [K,3,3,C], bias [K] -> out [N,H,W,K] or [N,H/2,W/2,K].");
  m.def("linear", &linear, "x"_a, "w"_a, "bias"_a, "out"_a, py::kw_only(), "relu"_a, stream, dtype,
        "x [N,C], w [K,C], bias [K] -> out [N,K].");
  m.def("maxpool2x2", &maxpool2x2, "x"_a, "out"_a, py::kw_only(), stream, dtype,
        "x [N,H,W,C] -> out [N,H/2,W/2,C].");
  m.def("avgpool", &avgpool, "x"_a, "out"_a, py::kw_only(), stream, dtype,
        "x [N,H,W,C] -> out [N,grid,grid,C].");
  m.def("softmax", &softmax, "x"_a, "out"_a, py::kw_only(), stream, dtype,
        "x [rows,n] -> out [rows,n], over the last axis.");
  m.def("relu", &relu, "x"_a, "out"_a, py::kw_only(), stream, dtype, "x -> out, of any shape.");
}
