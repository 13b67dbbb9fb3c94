"""State of a walk along an ONNX graph's path: the current value's axes and sizes.

ONNX does not distinguish images from rows: a head may be Gemm on rows or 1x1 convolutions on 1x1
images, and axes may be transposed on the way. The walk therefore tracks the meaning of each axis:
"NCHW" or "NHWC" for pixels; later "N", "C" and a "1" for each axis that a global pool kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...text import one_line
from ..canonical import Array
from ..chain.layers import Layer, UnsupportedError
from .graph import Graph
from .nodes import Attributes, own_name, unsupported
from .tensors import listed_dims

PIXELS = ("NCHW", "NHWC")

# Stand-ins for dynamic sizes: unlikely in a real graph; H and W can be halved by five pools
_OPEN_SIZES = {"N": 7919, "C": 7907, "H": 32 * 74, "W": 32 * 88}


class Position:
    """The ``layers`` translated so far, and the current value's ``axes`` and their ``sizes``.

    ``open`` holds the axes of dynamic size; a stand-in number lets shape arithmetic be computed.
    ``adaptive`` says that every average pool in the file means an adaptive one. ``averaged`` holds
    the axes that the first half of an adaptive pool has reduced. ``value`` is the value's name, and
    ``node`` the node that is being translated.
    """

    def __init__(
        self, graph: Graph, axes: str, sizes: Mapping[str, int | None], adaptive: bool
    ) -> None:
        self.graph = graph
        self.axes = axes
        self.open = {axis for axis, size in sizes.items() if size is None}
        self.sizes = {axis: size or _OPEN_SIZES[axis] for axis, size in sizes.items()}
        self.adaptive = adaptive
        self.averaged: set[str] = set()
        self.layers: list[Layer] = []
        self.node: Any = None
        self.moved(graph.input.name)

    def moved(self, value: str) -> None:
        """Set the name of the current value."""
        self.value = value
        self.graph.shapes[value] = self.shape

    def drop_axes(self, dropped: set[int]) -> None:
        """Remove axes of size 1."""
        self.axes = "".join(axis for i, axis in enumerate(self.axes) if i not in dropped)

    @property
    def name(self) -> str:
        """The name of the layer that is being translated."""
        return own_name(self.node)

    @property
    def pixels(self) -> bool:
        """Whether the value has pixels, not rows of features."""
        return "H" in self.axes

    @property
    def known(self) -> tuple[int, int] | None:
        """Height and width; None if either is dynamic."""
        return None if self.open & {"H", "W"} else (self.sizes["H"], self.sizes["W"])

    @property
    def shape(self) -> tuple[int, ...]:
        """The value's shape, with stand-ins for dynamic sizes."""
        return tuple(1 if axis == "1" else self.sizes[axis] for axis in self.axes)

    @property
    def shown(self) -> str:
        """The shape for a message, with letters for dynamic sizes."""
        return listed_dims(
            [
                axis if axis in self.open else size
                for axis, size in zip(self.axes, self.shape, strict=True)
            ]
        )

    def check_channels(self, w: Array, after: int) -> None:
        """Check the C of weights [K,C,...], then set the number of channels to ``after``."""
        if "C" not in self.open and self.sizes["C"] != w.shape[1]:
            raise self.error(
                f"expected weights for {self.sizes['C']} channels, got {list(w.shape)}"
            )
        self.sizes["C"] = after
        self.open.discard("C")

    def error(self, text: str) -> UnsupportedError:
        """Return an error about the node that is being translated."""
        return unsupported(self.node, text)

    def constant(self, position: int) -> Array | None:
        """Return the node's operand at ``position``, None if it has none there."""
        return self.graph.constant(self.node, position)

    def weights(self, position: int) -> Array:
        """Return a required floating-point operand."""
        found = self.constant(position)
        if found is None or found.dtype.kind != "f":
            what = "none" if found is None else str(found.dtype)
            raise self.error(f"operand {position}: expected floating-point weights, got {what}")
        return found

    def integers(self, array: Array) -> list[int]:
        """Return an operand that holds a few integers, such as a shape or axes."""
        if array.dtype.kind not in "iu" or array.size > 8:
            raise self.error(f"expected a few integers, got {array.size} of {array.dtype}")
        return [int(value) for value in array.ravel()]

    def pads(self, a: Attributes, kernel: tuple[int, ...], stride: int) -> list[int]:
        """Return the padding [top, left, bottom, right] of a window of size ``kernel``."""
        auto = a.pop("auto_pad", b"NOTSET")
        pads = [int(pad) for pad in a.pop("pads", [0, 0, 0, 0])]
        if auto in (b"NOTSET", b""):
            return pads
        if auto == b"VALID":
            return [0, 0, 0, 0]
        if auto not in (b"SAME_UPPER", b"SAME_LOWER"):
            got = one_line(auto, 40)
            raise self.error(f"auto_pad: expected a value of the ONNX standard, got {got}")
        sizes = self.known or ((1, 1) if stride == 1 else None)
        if sizes is None:
            raise self.error(
                f"auto_pad {auto.decode()}: expected a static image size, got a dynamic one"
            )
        total = [
            max((-(-size // stride) - 1) * stride + k - size, 0)
            for size, k in zip(sizes, kernel, strict=True)
        ]
        first = [t // 2 if auto == b"SAME_UPPER" else t - t // 2 for t in total]
        return [*first, *(t - f for t, f in zip(total, first, strict=True))]
