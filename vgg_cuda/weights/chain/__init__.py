"""A network as a list of layers, as other frameworks describe it, and its ``Weights``.

Every reader of a framework's models (Keras, PyTorch modules, ONNX) translates its layers into the
records of :mod:`.layers`, without knowledge of a VGG. :func:`to_weights` knows nothing of
frameworks: it folds batch norms, drops layers without effect in inference, brings the first dense
layer's columns to NHWC order, and refuses networks that this package cannot run, by layer name.
"""

from __future__ import annotations

from collections.abc import Iterable

from ...images.presets import PRESETS, Preset
from ..canonical import Weights, prefixed
from .builder import Chain
from .layers import Layer


def to_weights(
    layers: Iterable[Layer],
    *,
    source: str,
    input_size: tuple[int, int] | None = None,
    preset: Preset = PRESETS["torchvision"],
    labels: tuple[str, ...] | None = None,
    joint: str = ": ",
    preset_stated: bool = False,
) -> Weights:
    """Return the weights of the network of ``layers``, in order, from the images on.

    ``input_size`` (H, W) is the size of the framework's model, None if it takes any. If dense
    layers read a grid of pixels that no adaptive pool has made, sizes that give another grid are
    refused; if it is None in that case, a square is inferred. ``preset`` is fitted to the size;
    ``preset_stated`` is as in ``Weights``. A trailing ``Softmax`` becomes ``activation``.
    ``labels`` default to ImageNet's for published networks. ``joint`` stands between the names of a
    layer and of its parameter in messages.

    Raises :class:`UnsupportedError` for layers in an unsupported order, and :class:`WeightsError`
    for shapes that do not fit; messages begin with ``source``.
    """
    chain = Chain()
    with prefixed(source):
        for layer in layers:
            chain.add(layer)
        return chain.finish(source, input_size, preset, labels, preset_stated, joint)
