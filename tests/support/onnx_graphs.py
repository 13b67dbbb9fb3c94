"""Small ONNX graphs built node by node, their results in onnxruntime, and PyTorch's exports."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from support.tolerance import assert_close

from vgg_cuda import VGG
from vgg_cuda.weights import load_weights

SIZE = 8
AXES = np.array([2, 3])


class Net:
    """A chain of nodes: ``add`` appends a node that reads the last result."""

    def __init__(
        self, *, opset: int = 17, dims: tuple[int | str, ...] = ("N", 3, SIZE, SIZE), ir: int = 8
    ) -> None:
        self.rng = np.random.default_rng(opset)
        self.opset, self.dims, self.ir = opset, dims, ir
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self.functions: list[Any] = []
        self.value = "x"

    def add(self, kind: str, *operands: Any, left: bool = False, **attributes: Any) -> Net:
        """Append a node; its operands are names, or arrays that become initialisers."""
        domain = attributes.pop("domain", "")
        name = f"{kind.lower()}_{len(self.nodes)}"
        named = [self.constant(f"{name}.{i}", o) for i, o in enumerate(operands)]
        inputs = [*named, self.value] if left else [self.value, *named]
        attributes |= {"domain": domain} if domain else {}
        self.nodes.append(helper.make_node(kind, inputs, [f"{name}:0"], name=name, **attributes))
        self.value = f"{name}:0"
        return self

    def constant(self, name: str, value: Any) -> str:
        if isinstance(value, str):
            return value
        self.initializers.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def make(self, kind: str, inputs: list[Any], **attributes: Any) -> str:
        """Add a node beside the chain and return the name of its result."""
        name = f"{kind.lower()}_{len(self.nodes)}"
        named = [self.constant(f"{name}.{i}", o) for i, o in enumerate(inputs)]
        self.nodes.append(helper.make_node(kind, named, [f"{name}:0"], name=name, **attributes))
        return f"{name}:0"

    def random(self, *shape: int) -> np.ndarray:
        fan_in = int(np.prod(shape[1:]))
        scale = (2 / fan_in) ** 0.5 if len(shape) > 1 else 0.1
        return (self.rng.standard_normal(shape) * scale).astype(np.float32)

    def conv(self, c: int, k: int, relu: bool = True, **attributes: Any) -> Net:
        attributes = {"pads": [1, 1, 1, 1], "kernel_shape": [3, 3]} | attributes
        attributes = {name: value for name, value in attributes.items() if value is not None}
        self.add("Conv", self.random(k, c, 3, 3), self.random(k), **attributes)
        return self.add("Relu") if relu else self

    def maxpool(self, **attributes: Any) -> Net:
        return self.add("MaxPool", **({"kernel_shape": [2, 2], "strides": [2, 2]} | attributes))

    def gemm(self, c: int, k: int) -> Net:
        return self.add("Gemm", self.random(k, c), self.random(k), transB=1)

    def features(self) -> Net:
        """Append layers from images of 8 x 8 to [N, 6, 2, 2]."""
        return self.conv(3, 4).maxpool().conv(4, 6).maxpool()

    def head(self) -> Net:
        """Append layers from rows of 24 to 3 classes."""
        return self.gemm(24, 5).add("Relu").gemm(5, 3)

    def model(self) -> Any:
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, self.dims)],
            [helper.make_tensor_value_info(self.value, TensorProto.FLOAT, None)],
            self.initializers,
        )
        imports = [helper.make_opsetid("", self.opset)]
        imports += [helper.make_opsetid(f.domain, 1) for f in self.functions]
        return helper.make_model(
            graph, opset_imports=imports, ir_version=self.ir, functions=self.functions
        )


def plain() -> Net:
    return Net().features().add("Flatten", axis=1).head()


def run(model: Any, x: np.ndarray) -> np.ndarray:
    """Return onnxruntime's result; ``model`` is a path or a model."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    content = str(model) if isinstance(model, Path) else model.SerializeToString()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    (name,) = [i.name for i in session.get_inputs()][:1]
    (y,) = session.run(None, {name: x})
    return np.asarray(y)


def images(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape, dtype=np.float32)


def assert_same(path: Path, x: np.ndarray, expected: np.ndarray, layout: str = "NCHW") -> VGG:
    """Load the file, compare its result for x with ``expected``, and return the network."""
    network = VGG(load_weights(path), device="cpu")
    y = network(x, layout=layout)
    assert_close(y.transpose(0, 3, 1, 2) if y.ndim == 4 else y, expected, what=path.name)
    return network


def exported(
    module: torch.nn.Module,
    path: Path,
    x: torch.Tensor,
    *,
    dynamo: bool,
    open_axes: tuple[int, ...] = (0,),
    **options: Any,
) -> Path:
    """Export ``module`` by PyTorch for x [N,3,H,W], with ``open_axes`` dynamic."""
    if dynamo:
        letters = dict.fromkeys(open_axes, torch.export.Dim.DYNAMIC)
        options |= {"dynamic_shapes": (letters,), "verbose": False}
    else:
        options["dynamic_axes"] = {"x": {axis: "NCHW"[axis] for axis in open_axes}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the one exporter is old
        torch.onnx.export(module.eval(), (x,), path, dynamo=dynamo, input_names=["x"], **options)
    return path


def saved(model: Any, path: Path, edit: Callable[[Any], None] | None = None) -> Path:
    """Write ``model``, edited, without onnx's checks."""
    if edit is not None:
        edit(model)
    path.write_bytes(model.SerializeToString())
    return path


__all__ = ["AXES", "Net", "assert_same", "exported", "images", "onnx", "plain", "run", "saved"]
