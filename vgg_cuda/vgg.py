"""VGG networks with their weights, on one device."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from .activations import activated
from .backends import Backend, get_backend
from .backends.streams import callers_stream
from .backends.switches import tune_mode
from .configs import IN_CHANNELS, Config, get_config
from .forward import make_runner, pack
from .forward.inputs import check_dtype, check_images
from .images.batches import as_list, batches
from .images.presets import Preset
from .layers import resolve_layer
from .predictions import Prediction, check_classifies, top_classes
from .summary import summary_table
from .weights import Source, Weights, he_weights, load_weights
from .weights.stated import Labels, chosen_preset, warn_if_assumed, with_stated

if TYPE_CHECKING:  # these modules need the extension
    from .forward.captured import CapturedForward
    from .forward.plan import Memory
    from .forward.planned import PlannedRunner


class VGG:
    """A VGG network on one device; safe to call from several threads.

    Attributes: ``config`` (architecture), ``device`` ("cpu", "cuda:0", "emulator"), ``dtype``
    (precision, such as "float16" or "tf32"), ``activation`` ("softmax", "sigmoid" or "log_softmax",
    as the source of the weights states it, or None if calls return logits), ``labels`` (a name per
    class, or None), ``preset`` (how images are preprocessed), ``preset_stated`` (whether the source
    or :meth:`load` states the preset; if not, it is an assumption), ``weights`` (float32 in host
    memory; do not modify them) and ``source`` (where they are from).
    """

    def __init__(
        self,
        weights: Weights,
        *,
        device: str = "auto",
        dtype: str | None = None,
        arch: str | None = None,
        tune: str | None = None,
    ) -> None:
        mode = tune_mode(tune)
        self._backend: Backend = get_backend(device, arch)
        self._backend.report_families()
        self.device = self._backend.device
        self.dtype = check_dtype(self._backend, dtype)
        self.weights, self.source = weights, weights.source
        self.config: Config = weights.config
        self.activation, self.labels = weights.activation, weights.labels
        self.preset, self.preset_stated = weights.preset, weights.preset_stated
        self._network = pack(weights, self._backend, self.dtype)
        self._backend.synchronize()  # streams of other threads do not wait for the uploads
        self._run = make_runner(self._network, mode)

    @classmethod
    def load(
        cls,
        source: Source,
        *,
        device: str = "auto",
        dtype: str | None = None,
        arch: str | None = None,
        tune: str | None = None,
        preset: str | Preset | None = None,
        labels: Labels | None = None,
    ) -> VGG:
        """Load the network in ``source``: "digits", "imagenet", a weights file or a dict of arrays.

        :func:`vgg_cuda.weights.load_weights` lists the files and names. ``device`` is "auto" (the
        first GPU, else the CPU), "cpu", "cuda", "cuda:N" or "emulator" (the GPU kernels executed on
        the CPU, for tests). ``dtype`` is float32 on the CPU; on other devices float16 (default),
        float32, tf32 or bfloat16. ``arch`` is the GPU architecture that kernels are planned for, by
        default that of the device; it has no effect if "auto" is the CPU, and is an error for
        "cpu". ``tune`` selects kernels by estimates ("never"), by what tuning
        measured before ("cached", the default) or measures now ("now"); the CPU ignores it. See
        docs/tuning.md. ``preset`` (a name, a .json file or a :class:`Preset`) and ``labels``
        (names, or a .txt or .json file) replace the source's own. Raises ``FileNotFoundError``;
        ``WeightsError`` (a ``ValueError``) for weights of another architecture; ``ValueError`` for
        an unknown device, dtype, arch, tune or preset; ``RuntimeError`` for an unavailable device.
        Warns once (``DeviceWarning``) if kernels of the GPU are off or have not been tested.
        """
        tune = tune_mode(tune)
        get_backend(device, arch)  # report an unavailable device before a long read
        weights = with_stated(load_weights(source), preset, labels)
        return cls(weights, device=device, dtype=dtype, arch=arch, tune=tune)

    @classmethod
    def from_config(
        cls,
        name: str,
        *,
        num_classes: int = 1000,
        include_top: bool = True,
        seed: int = 0,
        device: str = "auto",
        dtype: str | None = None,
        arch: str | None = None,
        tune: str | None = None,
    ) -> VGG:
        """Make a published network ("vgg11", "vgg13", "vgg16", "vgg19") with random weights.

        Weights are He-scaled; the same ``seed`` gives the same bits. ``include_top=False`` omits
        the dense head. The other arguments and errors are as for :meth:`load`.
        """
        config = get_config(name, num_classes=num_classes, include_top=include_top)
        get_backend(device, arch)
        return cls(he_weights(config, seed), device=device, dtype=dtype, arch=arch, tune=tune)

    def __call__(self, x: Any, *, layout: str = "NHWC") -> Any:
        """Return logits [N,classes] of x, or probabilities if ``activation`` is set.

        x is [N,H,W,3] (or [N,3,H,W] with ``layout="NCHW"``) with H, W >= 32: preprocessed
        images in floating point, as ``preset`` returns them, or uint8 RGB pixels, which are
        normalized inside the first convolution. Networks of other origin may differ: see
        ``config.in_channels``, ``config.input_size`` and ``config.min_size``. Without a dense head
        the result is that of the last layer, pool5 [N,H/32,W/32,C] or a global pool [N,C]. The
        result is an array of the same kind as x. Warns once (``RangeWarning``) if x looks like
        pixels that were not preprocessed. Raises ``ValueError`` for shapes, ``TypeError`` for
        dtypes and array kinds.
        """
        return self._flat(self._activated(self._taps(x, [self._result], layout)[self._result]))

    def features(
        self, x: Any, layers: str | Iterable[str], *, layout: str = "NHWC"
    ) -> dict[str, Any]:
        """Return the tensors at ``layers``, by the given names; computes no deeper layer.

        x is as for a call. Spatial results are NHWC for either layout of x, dense ones [N,C], all
        of the same array kind as x. ``vgg_cuda.layers`` defines the names: "relu1_2", "pool5",
        "block1_conv2", "features.3". Raises ``ValueError`` for an unknown name.
        """
        names = [layers] if isinstance(layers, str) else list(layers)
        canonical = {name: resolve_layer(self.config, name) for name in names}
        tensors = self._taps(x, list(canonical.values()), layout)
        return {name: tensors[tap] for name, tap in canonical.items()}

    def classify(
        self,
        images: Any,
        top_k: int = 5,
        *,
        batch_size: int = 32,
        preset: str | Preset | None = None,
    ) -> list[list[Prediction]]:
        """Return the ``top_k`` most probable classes of every image, the best first.

        ``images`` is one image or a sequence of images. An image is a path, the bytes of a file, a
        binary file object, a Pillow image, a uint8 array [H,W,3] or [H,W], or a float array [H,W,3]
        in the preset's ``pixel_range``. Images are preprocessed with ``preset`` (as for
        :meth:`load`), by default the network's; warns once (``AssumedWarning``) if its source does
        not state that one. Raises ``ImageError`` (a ``ValueError``) for an unreadable image,
        ``ValueError`` for an unknown preset and for a network without a dense head.
        """
        check_classifies(self.config, top_k, batch_size)
        results: list[list[Prediction]] = []
        chosen = chosen_preset(self.weights, self.preset if preset is None else preset)
        for batch in batches(as_list(images), chosen, batch_size, self.config):
            for item in batch.failed:
                raise item.error
            results += self.top(self.probabilities(batch.x), top_k)
        return results

    def probabilities(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return class probabilities [N,classes] in host memory, for preprocessed x [N,H,W,3]."""
        return np.asarray(self._taps(x, ["prob"], "NHWC", check_range=False)["prob"], np.float32)

    def top(self, probabilities: NDArray[np.float32], top_k: int) -> list[list[Prediction]]:
        """Return the ``top_k`` best classes of every row of ``probabilities`` [N,classes]."""
        return top_classes(probabilities, self.labels, top_k)

    def memory(self, shape: Sequence[int], dtype: Any = None) -> Memory:
        """Return the device memory, in bytes, that a call with x of ``shape`` [N,H,W,3] needs.

        ``dtype`` is that of x: uint8, float32, or by default the dtype of the model. Batches that
        do not fit in memory are split. Raises ``ValueError`` for shapes, dtypes, and a model on
        the CPU, which plans no memory.
        """
        return self._planned("memory").memory(shape, dtype, self._result)

    def capture(self, shape: Sequence[int], dtype: Any = None) -> CapturedForward:
        """Capture a call with x of ``shape`` [N,H,W,3] as a CUDA graph: one launch for all kernels.

        The graph holds its memory, as :meth:`memory` reports, until it is deleted. ``dtype`` and
        ``ValueError`` are as for :meth:`memory`. Waits for the GPU. Raises ``MemoryError`` if the
        memory does not fit.
        """
        if self.activation not in (None, "softmax"):
            raise ValueError(f"capture: expected logits or a softmax, got a {self.activation}")
        return self._planned("capture").capture(shape, dtype, self._result)

    def to_onnx(self, path: str | Path, *, size: int | tuple[int, int] | None = None) -> None:
        """Write the network as an ONNX graph; see :func:`vgg_cuda.weights.save_onnx`."""
        from .weights import save_onnx

        save_onnx(self.weights, path, size=size)

    def summary(self, size: int | tuple[int, int] | None = None) -> str:
        """Return the table of layers for images of ``size``; see :func:`vgg_cuda.summary.rows`."""
        return summary_table(self.config, size or self.weights.natural_size, self.activation)

    def __repr__(self) -> str:
        about = f"{self.config.num_classes or 'no'} classes, {self.dtype} on {self.device}"
        return f"<VGG {self.config.name}: {about}, weights: {self.source}>"

    @property
    def _result(self) -> str:
        """The tap that kernels compute for a call."""
        return "prob" if self.activation == "softmax" else self.config.last

    def _activated(self, y: Any) -> Any:
        """Apply the last activation to what kernels have computed, unless they compute it."""
        return y if self.activation in (None, "softmax") else activated(y, self.activation)

    def _flat(self, y: Any) -> Any:
        """Flatten a spatial result to [N,features] if the network ends in a flatten layer."""
        return y.reshape(y.shape[0], -1) if self.config.flat and len(y.shape) == 4 else y

    def _planned(self, what: str) -> PlannedRunner:
        if self._backend.name == "cpu":
            expected = 'a model on a GPU (device="cuda") or on the emulator'
            raise ValueError(f"{what}: expected {expected}, got one on the cpu")
        return cast("PlannedRunner", self._run)

    def _taps(
        self, x: Any, taps: Sequence[str], layout: str, *, check_range: bool = True
    ) -> dict[str, Any]:
        """Return the tensors at canonical ``taps``, of the same array kind as x."""
        with callers_stream(x, "x"):
            x, restore = check_images(x, layout, self._backend, self.config)
            if x.dtype == np.uint8:
                warn_if_assumed(self.weights)
            if check_range and x.dtype != np.uint8 and self.config.in_channels == IN_CHANNELS:
                self.preset.check_range(x, stacklevel=4)  # the caller of the model
            last = self.config.last if self.activation == "sigmoid" else "prob"
            sources = {tap: last if tap == "prob" else tap for tap in taps}
            found = self._run(x, layout, set(sources.values()))
            tensors = {tap: restore(found[source]) for tap, source in sources.items()}
            if "prob" in tensors and last != "prob":
                tensors["prob"] = activated(tensors["prob"], "sigmoid")
            return tensors
