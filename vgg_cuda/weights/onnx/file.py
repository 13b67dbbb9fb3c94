"""Reader of ONNX files: a graph of operations with its weights.

The package ``onnx`` parses the graph; no code of the file runs, and :mod:`.wire` keeps the weights
out of the parser. Format: https://onnx.ai/onnx/repo-docs/IR.html.
"""

from __future__ import annotations

import dataclasses
import importlib
import mmap
import re
from pathlib import Path
from typing import Any

from ...images.presets import MAX_SIDE, PRESETS
from ...text import one_line
from ..canonical import Weights, WeightsError, import_extra
from ..chain import to_weights
from ..chain.layers import UnsupportedError
from ..metadata import parse
from .functions import inlined
from .graph import Graph, Joined
from .inputs import SKIPPED
from .layers import translate
from .nodes import Attributes, label
from .position import Position
from .tensors import FLOATING, UINT8, Storage
from .wire import WireError, strip

SUFFIX = ".onnx"
OLDEST_OPSET = 7  # the first with NumPy's broadcasting

QUANTIZED = re.compile("QuantizeLinear|^Q(Linear|Gemm|Attention)|Integer|^MatMulNBits")
"""Operations of quantised models; also "DynamicQuantizeLinear" and "ConvInteger"."""

_AFTER_VERSION = b"\x12\x1a\x22\x28\x32\x3a\x42"  # tags of a model's fields 2 to 8


def matches(head: bytes, suffix: str = "") -> bool:
    """Return whether ``head``, the first bytes of a file, looks like an ONNX model.

    ONNX's writers begin with field 1, the IR version, below 128, then one of the fields 2 to 8.
    Protobuf has no magic number, so test other formats first. A name that ends in .onnx matches,
    too: the error then says what is wrong with the file.
    """
    begins = len(head) > 2 and head[0] == 8 and 0 < head[1] < 128 and head[2] in _AFTER_VERSION
    return begins or suffix.lower() == SUFFIX


def read(path: Path, source: str) -> Weights:
    """Return the weights of the VGG in an ONNX file.

    The image size is the graph's, if the graph states one; ``to_weights`` says when it is required.
    An average pool that an exporter wrote for an adaptive one becomes adaptive again. Preset and
    labels come from the metadata that :func:`.export.save_onnx` writes.

    Raises :class:`UnsupportedError`, which names the node, for a graph that is not a VGG, and
    :class:`WeightsError` for a file that cannot be read.
    """
    onnx = import_onnx()
    with path.open("rb") as file:
        try:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:
            raise WeightsError("not a readable ONNX file: it is empty") from None
    storage = Storage(mapped, path.parent)
    model = onnx.ModelProto()
    decode_error = importlib.import_module("google.protobuf.message").DecodeError
    try:
        model.ParseFromString(strip(memoryview(mapped)))
        _check_text(model)
        weights = _from_model(onnx, model, storage, source)
    except WeightsError:
        raise
    except (WireError, decode_error) as error:
        raise WeightsError(f"not a readable ONNX file: {one_line(error)}") from None
    for name, tensor in weights.tensors.items():
        if storage.shares(tensor):  # the weights must not change if the file does
            weights.tensors[name] = tensor.copy()
    return weights


def import_onnx() -> Any:
    """Return the package ``onnx``. Raises :class:`WeightsError`, which names the extra."""
    return import_extra("onnx", "onnx", "an ONNX file")


def _check_text(message: Any) -> None:
    """Refuse names that are not UTF-8, which protobuf returns as bytes."""
    for field, value in message.ListFields():
        values = [value] if hasattr(value, "ListFields") or isinstance(value, str) else value
        if field.message_type is not None:
            for inner in values:
                _check_text(inner)
        elif field.type == field.TYPE_STRING and (
            isinstance(value, bytes) or any(isinstance(text, bytes) for text in values)
        ):
            raise WireError(f"{field.name}: expected UTF-8 text, got other bytes")


def _from_model(onnx: Any, model: Any, storage: Storage, source: str) -> Weights:
    stated = parse({entry.key: entry.value for entry in model.metadata_props})
    opset = _opset(onnx, model)
    if not model.HasField("graph"):
        raise WeightsError("not a readable ONNX file: it has no graph")
    inner = inlined(model).graph
    _check_program(inner)
    graph = Graph(inner, opset, storage)
    path = graph.path()
    axes, sizes = _input(graph, path)
    at = Position(graph, axes, sizes, adaptive=stated.present)
    size, preset, labels = at.known, stated.preset, stated.labels
    preset_stated = stated.preset_stated
    if not preset_stated and graph.input.type.tensor_type.elem_type == UINT8:
        preset, preset_stated = PRESETS["pixels"], True
    translate(at, path)
    weights = to_weights(
        at.layers, source=source, input_size=size, preset=preset, labels=labels,
        preset_stated=preset_stated,
    )  # fmt: skip
    if not stated.present:
        return weights
    config = dataclasses.replace(weights.config, batch_norm=stated.batch_norm)
    return dataclasses.replace(
        weights, config=config, preset=preset, labels=labels, preset_stated=preset_stated
    )


def _check_program(graph: Any) -> None:
    """Refuse graphs that another program has quantised, or written for one processor."""
    for node in graph.node:
        if node.domain == "com.microsoft.nchwc":
            raise UnsupportedError(
                "expected a portable graph, got one that onnxruntime has optimised for the layout "
                "NCHWc of one processor: load the original, or save with ORT_ENABLE_EXTENDED"
            )
        if QUANTIZED.search(node.op_type):
            raise UnsupportedError(
                f"{label(node)}: expected floating point, got a model quantised to integers: "
                "int8 is not supported yet, load the model from before the quantisation"
            )


def _opset(onnx: Any, model: Any) -> int:
    """Return the version of ONNX's default operator set."""
    found = {entry.domain: entry.version for entry in model.opset_import}
    version = found.get("", found.get("ai.onnx"))
    newest = onnx.defs.onnx_opset_version()
    if version is None or not OLDEST_OPSET <= version <= newest:
        raise UnsupportedError(
            f"expected an opset from {OLDEST_OPSET} to {newest} (of onnx {onnx.__version__}), got "
            f"{'none' if version is None else version}"
        )
    return int(version)


def _input(graph: Graph, path: list[Any]) -> tuple[str, dict[str, int | None]]:
    """Return the axes of the images and their sizes, None for dynamic ones."""
    name = one_line(graph.input.name, 80) or "the input"
    tensor = graph.input.type.tensor_type
    nodes = [node for node in path if not isinstance(node, Joined)]
    unmoved = (node.op_type for node in nodes if node.op_type not in ("Identity", "Transpose"))
    is_cast = tensor.elem_type == UINT8 and next(unmoved, "") == "Cast"
    if tensor.elem_type not in FLOATING and not is_cast:
        raise UnsupportedError(
            f"{name}: expected images in floating point, or in uint8 with a Cast after them, got "
            "another type; convert them outside the model"
        )
    if not tensor.HasField("shape") or len(tensor.shape.dim) != 4:
        raise UnsupportedError(
            f"{name}: expected images [N, C, H, W] of rank 4, got rank "
            f"{len(tensor.shape.dim) if tensor.HasField('shape') else 'unknown'}"
        )
    first = next((n for n in nodes if n.op_type not in SKIPPED), None)
    moved = first is not None and first.op_type == "Transpose"
    axes = "NHWC" if moved and Attributes(first).pop("perm") == [0, 3, 1, 2] else "NCHW"
    sizes = {
        axis: int(dim.dim_value) if dim.dim_value > 0 else None
        for axis, dim in zip(axes, tensor.shape.dim, strict=True)
    }
    large = [size for axis, size in sizes.items() if axis in "HW" and (size or 0) > MAX_SIDE]
    if large:
        raise UnsupportedError(
            f"{name}: expected images of at most {MAX_SIDE} x {MAX_SIDE} pixels, got a side of "
            f"{large[0]}"
        )
    return axes, sizes
