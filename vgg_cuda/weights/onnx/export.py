"""Writer of ONNX files, for onnxruntime, TensorRT and other runtimes.

The graph uses opset 17. Its input is "images" [N, C, H, W], prepared as the preset says; its output
is "logits" or "probabilities" [N, classes], or "features" for a network without a head. Nodes carry
this package's layer names, and the metadata holds preset and labels, so that
:func:`vgg_cuda.weights.load_weights` returns the same network.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...configs import Affine, Config, Conv
from ...system.files import replacing
from ..canonical import Weights, prefixed
from ..metadata import to_metadata
from .file import import_onnx
from .pools import averaging_matrix
from .wire import TensorBytes, write

OPSET, IR_VERSION = 17, 8
MAX_BYTES = 2**31 - 2**20  # protobuf messages end at 2 GiB; the graph needs a part of it


def save_onnx(
    weights: Weights, path: str | Path, *, size: int | tuple[int, int] | None = None
) -> None:
    """Write ``weights`` as an ONNX file, under a temporary name until it is complete.

    The batch size is dynamic. ``size`` is the images' height and width: by default the network's
    only size, else the preset's, else 224. ONNX has no adaptive pool, so an average pool before
    dense layers is written for that size: as nothing, an AveragePool, or two matrix products with
    the exact means of its bins. Without such a pool, height and width are dynamic if ``size`` is
    None. Equal weights and sizes give the same bytes.

    Raises ``ValueError`` for a size that the network does not take, and for weights beyond ONNX's
    2 GiB; :class:`WeightsError` without the package ``onnx``; ``OSError`` for the file.
    """
    with prefixed(str(path)):
        onnx = import_onnx()
    builder = _Builder(onnx, weights, _chosen_size(weights, size))
    builder.build()
    nbytes = sum(tensor.nbytes for tensor in builder.tensors)
    if nbytes > MAX_BYTES:
        raise ValueError(f"{path}: expected weights of at most 2 GiB for ONNX, got {nbytes} bytes")
    model = onnx.ModelProto(ir_version=IR_VERSION, producer_name="vgg_cuda")
    model.opset_import.add(domain="", version=OPSET)
    for key, value in to_metadata(weights).items():
        model.metadata_props.add(key=key, value=value)
    with replacing(path) as temporary, temporary.open("wb") as file:
        write(file, _bytes(model), _bytes(builder.graph), builder.tensors)


def _bytes(message: Any) -> bytes:
    result: bytes = message.SerializeToString(deterministic=True)
    return result


def _chosen_size(weights: Weights, size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    """Return height and width to write the graph for; None for dynamic ones."""
    config = weights.config
    if size is None:
        if config.input_size is None and (config.reduces == "none" or config.pool_grid == 1):
            return None
        chosen = weights.natural_size
    else:
        chosen = size if isinstance(size, tuple) else (size, size)
        numbers = all(isinstance(s, int) and not isinstance(s, bool) for s in chosen)
        if len(chosen) != 2 or not numbers:
            raise ValueError(f"size: expected pixels or (height, width), got {size!r}")
    wrong = config.wrong_size(*chosen)
    if wrong:
        raise ValueError(f"size: {wrong}")
    return chosen


class _Builder:
    """Builder of the graph, node by node; ``value`` is the name of the last result."""

    def __init__(self, onnx: Any, weights: Weights, size: tuple[int, int] | None) -> None:
        self.onnx = onnx
        self.weights = weights
        self.config: Config = weights.config
        self.size = size
        self.graph = onnx.GraphProto(name=self.config.name)
        self.tensors: list[TensorBytes] = []
        self.value = "images"

    def build(self) -> None:
        """Add all nodes, the input and the output."""
        self.inputs()
        self.features()
        self.pool()
        if self.config.flat and not self.config.head:  # features in HWC order, as a call returns
            self.node("Transpose", "channels_last", perm=[0, 2, 3, 1])
        if self.config.head or self.config.flat:
            self.node("Flatten", "flatten", axis=1)
        for i, dense in enumerate(self.config.dense):
            w, bias = f"{dense.name}.weight", f"{dense.name}.bias"
            array = self.weights.tensors[w]
            shape = array.shape
            if i == 0:  # columns from HWC to CHW order
                array = array.reshape(shape[0], -1, self.config.out_channels).transpose(0, 2, 1)
            self.tensor(w, array, shape)
            self.tensor(bias, self.weights.tensors[bias])
            self.node("Gemm", dense.name, w, bias, transB=1)
            if dense.relu:
                self.node("Relu", dense.relu_name)
        name = "logits" if self.config.num_classes else "features"
        match self.weights.activation:
            case "softmax":
                self.node("Softmax", "prob", axis=-1)
                name = "probabilities"
            case "sigmoid":
                self.node("Sigmoid", "prob")
                name = "probabilities"
            case "log_softmax":
                self.node("LogSoftmax", "log_prob", axis=-1)
                name = "log_probabilities"
        self.graph.node[-1].output[0] = name
        self.describe(name)

    def inputs(self) -> None:
        """Add the network's input layers; a reversal of channels is part of the first filters."""
        own = self.weights.normalization
        if own is not None:
            step = -1 if own.reverse else 1
            scale, offset = (np.array(part[::step], np.float32) for part in (own.scale, own.offset))
            self.affine("input", scale, offset)

    def affine(self, name: str, scale: NDArray[np.float32], offset: NDArray[np.float32]) -> None:
        """Add a scale and shift per channel [C]."""
        for kind, values in (("Mul", scale), ("Add", offset)):
            node = f"{name}_{kind.lower()}"
            self.tensor(f"{node}.value", values, (1, len(values), 1, 1))
            self.node(kind, node, f"{node}.value")

    def features(self) -> None:
        """Add the convolutions with their ReLUs, the scales and shifts, and the max-pools."""
        own = self.weights.normalization
        for layer in self.config.features:
            if isinstance(layer, Conv):
                w, bias = f"{layer.name}.weight", f"{layer.name}.bias"
                array = self.weights.tensors[w].transpose(0, 3, 1, 2)  # KRSC to KCRS
                if layer is self.config.features[0] and own is not None and own.reverse:
                    array = array[:, ::-1]
                self.tensor(w, array)
                self.tensor(bias, self.weights.tensors[bias])
                self.node("Conv", layer.name, w, bias, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
                if layer.relu:
                    self.node("Relu", layer.relu_name)
            elif isinstance(layer, Affine):
                parts = (self.weights.tensors[f"{layer.name}.{p}"] for p in ("weight", "bias"))
                self.affine(layer.name, *parts)
            else:
                up: dict[str, Any] = {"ceil_mode": 1} if self.config.exact_size else {}
                self.node("MaxPool", layer.name, kernel_shape=[2, 2], strides=[2, 2], **up)

    def pool(self) -> None:
        """Add the pool to a fixed grid, for the chosen size."""
        config, name = self.config, f"{self.config.reduces}pool"
        if config.reduces == "none":
            return
        if config.pool_grid == 1:
            self.node("GlobalAveragePool" if config.reduces == "avg" else "GlobalMaxPool", name)
            return
        if config.reduces == "max" or self.size is None:
            raise ValueError(f"{name}: expected an average or a global pool, got {config.grid}")
        rows, columns = (side >> config.pools for side in self.size)
        grid = config.pool_grid
        if rows % grid == 0 and columns % grid == 0:
            window = [rows // grid, columns // grid]
            self.node("AveragePool", name, kernel_shape=window, strides=window)
            return
        self.tensor(f"{name}.rows", averaging_matrix(grid, rows))
        self.tensor(f"{name}.columns", averaging_matrix(grid, columns).T)
        self.node("MatMul", f"{name}_rows", f"{name}.rows", left=True)
        self.node("MatMul", name, f"{name}.columns")

    def node(
        self, kind: str, name: str, *operands: str, left: bool = False, **attributes: Any
    ) -> None:
        """Add a node that reads the last result: its first operand, or its last with ``left``."""
        inputs = [*operands, self.value] if left else [self.value, *operands]
        self.graph.node.append(
            self.onnx.helper.make_node(kind, inputs, [name], name=name, **attributes)
        )
        self.value = name

    def tensor(
        self, name: str, array: NDArray[np.float32], shape: tuple[int, ...] | None = None
    ) -> None:
        """Add an initialiser; ``array`` becomes contiguous only when the file is written."""
        kind = self.onnx.TensorProto.FLOAT
        header = self.onnx.TensorProto(name=name, dims=shape or array.shape, data_type=kind)
        read = partial(_little_endian, array)
        self.tensors.append(TensorBytes(_bytes(header), array.nbytes, read))

    def describe(self, output: str) -> None:
        """Add names, types and shapes of the input and the output."""
        config, make = self.config, self.onnx.helper.make_tensor_value_info
        kind = self.onnx.TensorProto.FLOAT
        sides: tuple[int | str, ...] = self.size or ("H", "W")
        images = make("images", kind, ["N", config.in_channels, *sides])
        images.doc_string = (
            f"[N, {config.in_channels}, H, W] float32, {self.weights.preset.channels}, prepared "
            f"by preset {self.weights.preset.name!r}"
        )
        self.graph.input.append(images)
        self.graph.output.append(make(output, kind, ["N", *self._result()]))

    def _result(self) -> tuple[int | str, ...]:
        """Return the output's sizes after the batch, with names for dynamic ones."""
        config, channels = self.config, self.config.out_channels
        if config.head:
            return (config.head[-1],)
        grid = config.grid
        if config.reduces == "none":
            if self.size is None:
                return ("features",) if config.flat else (channels, "rows", "columns")
            grid = (self.size[0] >> config.pools, self.size[1] >> config.pools)
        return (channels * grid[0] * grid[1],) if config.flat else (channels, *grid)


def _little_endian(array: NDArray[np.float32]) -> memoryview:
    contiguous: Any = np.ascontiguousarray(array, "<f4")
    return memoryview(contiguous).cast("B")
