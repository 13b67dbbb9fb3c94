"""Writer of ONNX files, for onnxruntime, TensorRT and other runtimes.

The graph uses opset 17. Its input is "images" [N, C, H, W], prepared as the preset says; its output
is "logits" or "probabilities" [N, classes], or "features" for a network without a head. Nodes carry
this package's layer names, and the metadata holds preset and labels, so that
:func:`vgg_cuda.weights.load_weights` returns the same network.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...configs import Config, Conv
from ...files import replacing
from ..canonical import Weights
from ..metadata import to_metadata
from ..state_dict import hwc_to_chw
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
    onnx = import_onnx(str(path))
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
        chosen = config.input_size or _preset_size(weights) or config.natural_size
    else:
        chosen = size if isinstance(size, tuple) else (size, size)
        numbers = all(isinstance(s, int) and not isinstance(s, bool) for s in chosen)
        if len(chosen) != 2 or not numbers:
            raise ValueError(f"size: expected pixels or (height, width), got {size!r}")
    wrong = config.wrong_size(*chosen)
    if wrong:
        raise ValueError(f"size: {wrong}")
    return chosen


def _preset_size(weights: Weights) -> tuple[int, int] | None:
    """Return the size of all images that the preset prepares; None if it varies."""
    preset, config = weights.preset, weights.config
    found = preset.resize if isinstance(preset.resize, tuple) else None
    if preset.crop is not None:
        found = (preset.crop, preset.crop)
    return found if found and not config.wrong_size(*found) else None


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
        self.features()
        self.pool()
        if self.config.flat and not self.config.head:  # features in HWC order, as a call returns
            self.node("Transpose", "channels_last", perm=[0, 2, 3, 1])
        if self.config.head or self.config.flat:
            self.node("Flatten", "flatten", axis=1)
        for i, dense in enumerate(self.config.dense):
            w = self.weights.tensors[f"{dense.name}.weight"]
            first = i == 0
            self.parameter(f"{dense.name}.weight", w.shape, "CHW" if first else "")
            self.parameter(f"{dense.name}.bias", w.shape[:1])
            operands = (f"{dense.name}.weight", f"{dense.name}.bias")
            self.node("Gemm", dense.name, *operands, transB=1)
            if dense.relu:
                self.node("Relu", dense.relu_name)
        name = "logits" if self.config.num_classes else "features"
        if self.weights.activation:
            self.node("Softmax", "prob", axis=-1)
            name = "probabilities"
        self.graph.node[-1].output[0] = name
        self.describe(name)

    def features(self) -> None:
        """Add the convolutions with their ReLUs, and the max-pools."""
        for layer in self.config.features:
            if isinstance(layer, Conv):
                w, bias = f"{layer.name}.weight", f"{layer.name}.bias"
                self.parameter(w, (layer.out_channels, layer.in_channels, 3, 3), "KCRS")
                self.parameter(bias, (layer.out_channels,))
                self.node("Conv", layer.name, w, bias, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
                if layer.relu:
                    self.node("Relu", layer.relu_name)
            else:
                self.node("MaxPool", layer.name, kernel_shape=[2, 2], strides=[2, 2])

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
        self.constant(f"{name}.rows", averaging_matrix(grid, rows))
        self.constant(f"{name}.columns", np.ascontiguousarray(averaging_matrix(grid, columns).T))
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

    def parameter(self, name: str, shape: tuple[int, ...], layout: str = "") -> None:
        """Add a canonical tensor as an initialiser; it is converted to ``layout`` on writing."""
        w = self.weights.tensors[name]
        channels = self.config.out_channels

        def read() -> memoryview:
            array = w
            if layout == "KCRS":
                array = w.transpose(0, 3, 1, 2)
            elif layout == "CHW":
                array = hwc_to_chw(w, channels)
            return _little_endian(array)

        self.tensors.append(TensorBytes(self._header(name, shape), 4 * w.size, read))

    def constant(self, name: str, array: NDArray[np.float32]) -> None:
        """Add an initialiser that is not a weight."""
        header = self._header(name, array.shape)
        self.tensors.append(TensorBytes(header, array.nbytes, lambda: _little_endian(array)))

    def _header(self, name: str, shape: tuple[int, ...]) -> bytes:
        kind = self.onnx.TensorProto.FLOAT
        return _bytes(self.onnx.TensorProto(name=name, dims=shape, data_type=kind))

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

    def _result(self) -> Iterator[int | str]:
        """Yield the output's sizes after the batch; names for dynamic ones."""
        config = self.config
        if config.head:
            yield config.head[-1]
            return
        rows: tuple[int | str, ...] = config.grid
        if config.reduces == "none":
            rows = tuple(s >> config.pools for s in self.size) if self.size else ("rows", "columns")
        if not config.flat:
            yield from (config.out_channels, *rows)
        elif all(isinstance(row, int) for row in rows):
            yield config.out_channels * int(rows[0]) * int(rows[1])
        else:
            yield "features"


def _little_endian(array: NDArray[np.float32]) -> memoryview:
    contiguous: Any = np.ascontiguousarray(array, "<f4")
    return memoryview(contiguous).cast("B")
