"""onnxruntime on an NCHW graph, as exporters write it, with bound memory on a GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...system.cpus import get_num_threads
from ..clock import HostClock
from ..inputs import cache_clearer_bytes, copies, in_turn
from ..layers import Layer, Shape
from ..work import Job, Work
from . import Absent, Program

OPSET, IR_VERSION = 17, 8


def start(job: Job) -> OnnxRuntime:
    """Load onnxruntime with the provider for the job's device."""
    return OnnxRuntime(job)


class OnnxRuntime:
    """onnxruntime with a session and a graph for each piece of work."""

    def __init__(self, job: Job) -> None:
        try:
            import onnx
            import onnxruntime
        except ImportError as error:
            raise Absent(
                "onnxruntime is not installed: "
                f'pip install ".[bench]" in a clone of vgg_cuda ({error})'
            ) from None
        self.onnx: Any = onnx
        self.runtime: Any = onnxruntime
        self.job = job
        known = onnxruntime.get_available_providers()
        if job.on_gpu and "CUDAExecutionProvider" not in known:
            raise Absent(f"onnxruntime {onnxruntime.__version__} has no CUDA provider")
        if job.dtype == "bfloat16":
            raise Absent("onnxruntime has no bfloat16 convolutions")
        self.place = "cuda", int(job.device.partition(":")[2] or 0)
        self.dtype = np.dtype("float16" if job.dtype == "float16" else "float32")
        self.versions = {"onnxruntime": str(onnxruntime.__version__), "onnx": str(onnx.__version__)}

    def prepare(self, work: Work) -> Program:
        """Build a program for ``work``."""
        session = self.session(self.model(work))
        x = work.input(self.job.seed).astype(self.dtype)
        if x.ndim == 4:
            x = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
        if self.job.on_gpu:
            return self.bound(session, x, alone=work.kind == "kernel")
        xs = in_turn(x, copies(x.nbytes, False))
        return Program(
            lambda i: session.run(None, {"x": xs[i]})[0],
            lambda: _nhwc(session.run(None, {"x": xs[0]})[0]),
            HostClock(), "session.run", len(xs),
        )  # fmt: skip

    def session(self, model: Any) -> Any:
        """Return a session of an ONNX model on the job's device."""
        options = self.runtime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads, options.inter_op_num_threads = get_num_threads(), 1
        # spinning threads would slow the program that is timed next
        options.add_session_config_entry("session.force_spinning_stop", "1")
        providers: list[Any] = ["CPUExecutionProvider"]
        if self.job.on_gpu:
            chosen = {
                "device_id": str(self.place[1]),
                "use_tf32": str(int(self.job.dtype == "tf32")),
                "prefer_nhwc": "1",
            }
            providers.insert(0, ("CUDAExecutionProvider", chosen))
        given = model.SerializeToString()
        return self.runtime.InferenceSession(given, options, providers=providers)

    def bound(self, session: Any, x: Any, alone: bool) -> Program:
        """Return a program with input and output in the GPU's memory; a call waits for its result.

        The cache is cleared before a layer that runs ``alone``; networks use copies of x in turn.
        """
        value, binding = self.runtime.OrtValue, session.io_binding()
        count = 1 if alone else copies(x.nbytes, True)
        xs = [value.ortvalue_from_numpy(x, *self.place) for _ in range(count)]
        binding.bind_output("y", *self.place)

        def call(i: int) -> Any:
            binding.bind_ortvalue_input("x", xs[i])
            session.run_with_iobinding(binding)

        def result() -> Any:
            call(0)
            return _nhwc(binding.copy_outputs_to_cpu()[0])

        return Program(
            call, result, HostClock(), "bound memory, host clock", len(xs),
            before=self.clearer() if alone else None,
            upload=lambda: value.ortvalue_from_numpy(x, *self.place),
        )  # fmt: skip

    def clearer(self) -> Callable[[int], None]:
        """Return a function that clears a GPU's L2 cache with a session that negates an array."""
        helper, kind = self.onnx.helper, self.onnx.TensorProto.FLOAT
        zeros = np.zeros(cache_clearer_bytes() // 4, np.float32)
        read, written = (helper.make_tensor_value_info(name, kind, [len(zeros)]) for name in "ab")
        nodes = [helper.make_node("Neg", ["a"], ["b"])]
        session = self.session(self.whole(helper.make_graph(nodes, "clear", [read], [written])))
        binding, place = session.io_binding(), self.runtime.OrtValue.ortvalue_from_numpy
        binding.bind_ortvalue_input("a", place(zeros, *self.place))
        binding.bind_ortvalue_output("b", place(zeros, *self.place))
        return lambda _: session.run_with_iobinding(binding)

    def model(self, work: Work) -> Any:
        """Return the layers as an ONNX model with input "x" and output "y"."""
        helper, proto = self.onnx.helper, self.onnx.TensorProto
        tensors, nodes, weights, y = work.tensors(self.job), [], [], "x"

        def add(op: str, name: str, inputs: list[str], **attributes: Any) -> str:
            nodes.append(helper.make_node(op, inputs, [name], **attributes))
            return name

        def weight(name: str, values: Any) -> str:
            array = np.ascontiguousarray(values, self.dtype)
            weights.append(self.onnx.numpy_helper.from_array(array, name))
            return name

        flat = len(work.shape) == 2
        for layer, shape in work.shapes():
            name = layer.name
            if layer.kind in ("avg", "max"):
                if shape[1:3] != (layer.grid, layer.grid):
                    op, sizes = _to_grid(layer, shape)
                    y = add(op, name, [y], **sizes)
                continue
            if layer.kind == "dense" and not flat:  # ONNX flattens CHW, the weights read HWC
                y = add("Transpose", f"{name}.nhwc", [y], perm=[0, 2, 3, 1])
                y, flat = add("Flatten", f"{name}.flat", [y]), True
            if layer.multiplies:
                w, bias = (tensors[f"{name}.{part}"] for part in ("weight", "bias"))
                w = w.transpose(0, 3, 1, 2) if layer.kind == "conv" else w
                given = [y, weight(f"{name}.w", w), weight(f"{name}.b", bias)]
                y = (
                    add("Conv", name, given, pads=[1, 1, 1, 1], kernel_shape=[3, 3])
                    if layer.kind == "conv"
                    else add("Gemm", name, given, transB=1)
                )
            y = add("Relu", f"{name}.relu", [y]) if layer.relu else y
            if layer.pool or layer.kind == "pool":
                y = add("MaxPool", f"{name}.pool", [y], kernel_shape=[2, 2], strides=[2, 2])
        add("Identity", "y", [y])
        kind = proto.FLOAT16 if self.dtype == np.float16 else proto.FLOAT
        graph = helper.make_graph(
            nodes, "vgg",
            [helper.make_tensor_value_info("x", kind, _nchw(work.shape))],
            [helper.make_tensor_value_info("y", kind, None)], weights,
        )  # fmt: skip
        return self.whole(graph)

    def whole(self, graph: Any) -> Any:
        """Return the ONNX model of a graph."""
        helper = self.onnx.helper
        opset = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION)


def _to_grid(layer: Layer, shape: Shape) -> tuple[str, dict[str, list[int]]]:
    """Return operator and attributes of an adaptive pool whose cells have equal sizes."""
    sides = shape[1:3]
    if any(side % layer.grid for side in sides):
        raise Absent(f"onnxruntime has no pool of {sides[0]} x {sides[1]} to {layer.grid} cells")
    cell = [side // layer.grid for side in sides]
    op = "AveragePool" if layer.kind == "avg" else "MaxPool"
    return op, {"kernel_shape": cell, "strides": cell}


def _nchw(shape: Shape) -> list[int]:
    return [shape[0], shape[3], *shape[1:3]] if len(shape) == 4 else list(shape)


def _nhwc(y: Any) -> Any:
    return y.transpose(0, 2, 3, 1) if y.ndim == 4 else y
