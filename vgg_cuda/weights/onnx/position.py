"""Where a walk along an ONNX graph's path has come to.

ONNX knows no difference between images and rows: a head may be Gemm on rows or 1x1 convolutions on
1x1 images, and axes may be transposed on the way. So it is followed which axis is which: "NCHW" or
"NHWC" while there are pixels; after, "N", "C" and a "1" for each that a global pool left.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...text import one_line
from ..canonical import Array
from ..chain import Layer, UnsupportedError
from .graph import Graph
from .nodes import Attributes
from .tensors import listed_dims

PIXELS = ("NCHW", "NHWC")

# What stands for a size that the graph leaves open: unlikely by chance, and halved by five pools
_OPEN_SIZES = {"N": 7919, "C": 7907, "H": 32 * 74, "W": 32 * 88}


class Position:
    """What the path has come to: the ``layers`` so far, the value's ``axes`` and their ``sizes``.

    Where the graph leaves a size open, its axis is in ``open`` and a number stands for it, so that
    what is computed from shapes can be computed. ``adaptive`` says that every average pool in the
    file stands for an adaptive one; ``averaged`` are the axes that half of one has been at;
    ``value`` is the name of the value.
    """

    def __init__(
        self, graph: Graph, axes: str, sizes: Mapping[str, int | None], adaptive: bool
    ) -> None:
        self.graph = graph
        self.axes = axes
        self.open = {axis for axis, size in sizes.items() if size is None}
        self.sizes = {axis: size or _OPEN_SIZES[axis] for axis, size in sizes.items()}
        self.adaptive = adaptive
        self.averaged: dict[str, int] = {}
        self.layers: list[Layer] = []
        self.value = ""
        self.moved(None)

    def moved(self, node: Any) -> None:
        """Takes note that the path has come behind ``node``; None: to the images."""
        self.value = self.graph.input.name if node is None else node.output[0]
        self.graph.shapes[self.value] = self.shape

    @property
    def pixels(self) -> bool:
        """Whether the value has pixels still, not rows of features."""
        return "H" in self.axes

    @property
    def known(self) -> tuple[int, int] | None:
        """Height and width, where the graph says both."""
        return None if self.open & {"H", "W"} else (self.sizes["H"], self.sizes["W"])

    @property
    def shape(self) -> tuple[int, ...]:
        """The value's shape, with a number for every size that is open."""
        return tuple(1 if axis == "1" else self.sizes[axis] for axis in self.axes)

    @property
    def shown(self) -> str:
        """The shape for a message, with letters for sizes that are open."""
        return listed_dims(
            [
                axis if axis in self.open else size
                for axis, size in zip(self.axes, self.shape, strict=True)
            ]
        )

    def check_channels(self, node: Any, w: Array, after: int) -> None:
        """Refuses weights [K,C,...] for another C; ``after`` are the channels from here on."""
        if "C" not in self.open and self.sizes["C"] != w.shape[1]:
            raise self.error(
                node, f"expected weights for {self.sizes['C']} channels, got {list(w.shape)}"
            )
        self.sizes["C"] = after
        self.open.discard("C")

    def error(self, node: Any, text: str) -> UnsupportedError:
        """An error about ``node``."""
        return self.graph.unsupported(node, text)

    def weights(self, node: Any, position: int) -> Array:
        """A floating-point operand that must be there."""
        found = self.graph.constant(node, position)
        if found is None or found.dtype.kind != "f":
            what = "none" if found is None else str(found.dtype)
            raise self.error(
                node, f"operand {position}: expected floating-point weights, got {what}"
            )
        return found

    def integers(self, node: Any, array: Array) -> list[int]:
        """A target or axes, which is an operand of a few integers."""
        if array.dtype.kind not in "iu" or array.size > 8:
            raise self.error(node, f"expected a few integers, got {array.size} of {array.dtype}")
        return [int(value) for value in array.ravel()]

    def pads(self, node: Any, a: Attributes, kernel: tuple[int, ...], stride: int) -> list[int]:
        """Padding [top, left, bottom, right] of a window of ``kernel`` over the value."""
        auto = a.pop("auto_pad", b"NOTSET")
        pads = [int(pad) for pad in a.pop("pads", [0, 0, 0, 0])]
        if auto in (b"NOTSET", b""):
            return pads
        if auto == b"VALID":
            return [0, 0, 0, 0]
        if auto in (b"SAME_UPPER", b"SAME_LOWER"):
            sizes = self.known or ((1, 1) if stride == 1 else None)
            if sizes is None:
                raise self.error(node, f"auto_pad {auto.decode()}: expected a stated image size")
            total = [
                max((-(-size // stride) - 1) * stride + k - size, 0)
                for size, k in zip(sizes, kernel, strict=True)
            ]
            first = [t // 2 if auto == b"SAME_UPPER" else t - t // 2 for t in total]
            return [*first, *(t - f for t, f in zip(total, first, strict=True))]
        raise self.error(node, f"auto_pad: expected a known kind, got {one_line(auto, 40)}")
