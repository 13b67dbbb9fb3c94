"""State of the translation of Keras' layers: the records so far, and the current image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from ...text import one_line
from ..canonical import Array
from ..chain.layers import Layer, UnsupportedError
from .graph import KerasLayer
from .terms import data_format, is_quantized

Arrays = Callable[[KerasLayer, Sequence[str]], list[Array]]
"""The float32 variables of a layer by Keras' names ("kernel", "moving_mean"), in that order.

The integer "count" is left out, although the layer has it.
"""


@dataclass
class State:
    """Records so far; ``size`` is (H, W) of the image or None, ``flat`` says that it is [N,C]."""

    arrays: Arrays
    data_format: str
    size: tuple[int, int] | None
    flat: bool = False
    padded: KerasLayer | None = None  # a ZeroPadding2D for the next convolution
    even_pools: list[KerasLayer] = field(default_factory=list)  # padding "same" of even sizes
    records: list[Layer] = field(default_factory=list)

    @classmethod
    def start(
        cls, layers: Sequence[KerasLayer], shape: Sequence[Any] | None, arrays: Arrays
    ) -> State:
        """Return the state before ``layers``; ``shape`` is the input's with the batch, or None."""
        spatial = (one for one in layers if one.kind in ("Conv2D", "MaxPooling2D"))
        order = next((data_format(one.config) for one in spatial), "channels_last")
        size = None
        if shape is not None and len(shape) == 4:
            height, width = shape[2:4] if order == "channels_first" else shape[1:3]
            if type(height) is int and type(width) is int:
                size = (height, width)
        return cls(arrays, order, size)

    def weights(self, layer: KerasLayer) -> tuple[Array, Array | None]:
        """Return kernel and bias in Keras' layout."""
        if is_quantized(layer.config):
            self.refuse(layer, "floating-point weights", "a quantized layer")
        if layer.config.get("lora_rank"):
            self.refuse(layer, "one kernel", "a LoRA adapter", "merge it first")
        if layer.config.get("use_bias", True):
            w, bias = self.arrays(layer, ("kernel", "bias"))
            return w, bias
        return self.arrays(layer, ("kernel",))[0], None

    def spatial(self, layer: KerasLayer) -> None:
        """Refuse a layer on images after a flattening, or with another data format."""
        if self.flat:
            self.refuse(layer, "layers on images before Flatten or a global pool", "one after it")
        self.check(layer, "data_format", data_format(layer.config), self.data_format)

    def check(self, layer: KerasLayer, what: str, got: Any, expected: Any) -> None:
        """Refuse ``layer`` unless its argument ``what`` equals ``expected``."""
        if got != expected:
            self.refuse(layer, f"{what} {expected!r}", one_line(repr(got), 60))

    def refuse(self, layer: KerasLayer, expected: str, got: str, why: str = "") -> NoReturn:
        """Raise for a layer that this package cannot run."""
        end = f": {why}" if why else ""
        raise UnsupportedError(f"{layer.name}: expected {expected}, got {got}{end}")
