"""The VGG graph: the layers of a config, called one by one through ``ops``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import images as _images
from . import ops
from .arrays import is_cupy
from .backends import Array, Backend, PackedConv3x3, PackedLinear, get_backend
from .backends.streams import callers_stream
from .configs import MIN_SIZE, Config, Conv, Pool, get_config
from .inputs import batch_on, check_dtype, check_images
from .layers import resolve_layer
from .preprocess import Preset, as_preset
from .summary import summary_table
from .weights import Source, Weights, he_weights, load_weights


@dataclass(frozen=True)
class Prediction:
    """One class of one image: its label, index and probability."""

    label: str
    index: int
    probability: float


class VGG:
    """A VGG network on one device; safe to call from several threads.

    Attributes: ``config`` (architecture), ``device`` ("cpu", "cuda:0", "emulator"), ``dtype``
    (name of the compute dtype), ``activation`` ("softmax" where the weights' source states one:
    then a call gives probabilities; else None: logits), ``labels`` (a name per class, or None) and
    ``preset`` (how images become inputs).
    """

    def __init__(
        self,
        weights: Weights,
        *,
        device: str = "auto",
        dtype: str | None = None,
        arch: str | None = None,
    ) -> None:
        self._backend: Backend = get_backend(device, arch)
        self.device = self._backend.device
        self.dtype = check_dtype(self._backend, dtype)
        self.config: Config = weights.config
        self.activation = weights.activation
        self.labels = weights.labels
        self.preset: Preset = weights.preset
        self.source = weights.source
        tensors = weights.tensors
        self._convs: dict[str, PackedConv3x3] = {
            name: ops.pack_conv3x3(
                self._backend, tensors[f"{name}.weight"], tensors[f"{name}.bias"], dtype=self.dtype
            )
            for name in (conv.name for conv in self.config.convs)
        }
        self._dense: dict[str, PackedLinear] = {
            name: ops.pack_linear(
                self._backend, tensors[f"{name}.weight"], tensors[f"{name}.bias"], dtype=self.dtype
            )
            for name in (dense.name for dense in self.config.dense)
        }
        self._backend.synchronize()  # other threads' streams are not ordered behind the uploads

    @classmethod
    def load(
        cls,
        source: Source,
        *,
        device: str = "auto",
        dtype: str | None = None,
        arch: str | None = None,
    ) -> VGG:
        """The network in ``source``: "digits", "imagenet", a weights file, or a dict of arrays.

        :func:`vgg_cuda.weights.load_weights` says which files and names there are.

        ``device`` is "auto" (a GPU where there is one), "cpu", "cuda", "cuda:N" or "emulator" (a
        GPU's kernels executed on the CPU: for tests); ``dtype`` defaults to float32 on the CPU and
        float16 elsewhere; ``arch`` is the GPU that kernels are planned for, by default the
        device's own. Raises ``FileNotFoundError``, ``WeightsError`` (a ``ValueError``) for what
        does not make a VGG, ``ValueError`` for an unknown device, dtype or arch, ``RuntimeError``
        for a device that is not there.
        """
        get_backend(device, arch)  # a device that is not there is told before a long read
        return cls(load_weights(source), device=device, dtype=dtype, arch=arch)

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
    ) -> VGG:
        """A published network ("vgg11", "vgg13", "vgg16", "vgg19") with He-scaled random weights.

        ``include_top=False`` leaves the dense head off. The same seed gives the same bits.
        """
        config = get_config(name, num_classes=num_classes, include_top=include_top)
        get_backend(device, arch)
        return cls(he_weights(config, seed), device=device, dtype=dtype, arch=arch)

    def __call__(self, x: Any, *, layout: str = "NHWC") -> Any:
        """Logits [N, classes] of preprocessed images, or probabilities where ``activation`` is set.

        x [N,H,W,3] (or [N,3,H,W] with ``layout="NCHW"``), H and W >= 32, floating point; or RGB
        pixels of uint8, which ``preset`` normalizes inside the first convolution. Without a dense
        head the result is pool5 [N,H/32,W/32,C]. The result is of x's array kind.
        Warns once (``RangeWarning``) where x is not what ``preset`` would have made: raw pixels.
        Raises ``ValueError`` for shapes and ``TypeError`` for dtypes and array kinds.
        """
        tap = "pool5" if not self.config.dense else "prob" if self.activation else self._logits
        return self._taps(x, [tap], layout)[tap]

    def features(
        self, x: Any, layers: str | Iterable[str], *, layout: str = "NHWC"
    ) -> dict[str, Any]:
        """The tensors at ``layers``, by the names asked for; stops after the deepest one.

        x as for a call. Spatial results are NHWC whatever x's layout, dense ones [N,C], all of
        x's array kind. Layer names are those of ``vgg_cuda.layers``: "relu1_2", "pool5",
        "block1_conv2", "features.3". Raises ``ValueError`` for an unknown one.
        """
        names = [layers] if isinstance(layers, str) else list(layers)
        canonical = {name: resolve_layer(self.config, name) for name in names}
        found = self._taps(x, list(canonical.values()), layout)
        return {name: found[tap] for name, tap in canonical.items()}

    def classify(
        self,
        images: Any,
        top_k: int = 5,
        *,
        batch_size: int = 32,
        preset: str | Preset | None = None,
    ) -> list[list[Prediction]]:
        """The ``top_k`` most probable classes of every image, the best first.

        ``images`` is one image or a sequence of them, each a path, a Pillow image, a uint8 array
        [H,W,3] or [H,W], or a float array [H,W,3] in the preset's ``pixel_range``. They are
        prepared with ``preset``, a name or by default the network's own. Raises ``ImageError`` (a
        ``ValueError``) for a file that is no readable image, ``ValueError`` for an unknown preset
        and without a dense head.
        """
        if self.config.num_classes is None:
            raise ValueError("classify: this network has no dense head; use features()")
        for what, value in (("top_k", top_k), ("batch_size", batch_size)):
            if not isinstance(value, (int, np.integer)) or value < 1:
                raise ValueError(f"classify: {what}: expected an integer >= 1, got {value!r}")
        single = isinstance(images, (str, Path)) or not isinstance(images, (Sequence, np.ndarray))
        if isinstance(images, np.ndarray):
            single = images.ndim < 4
        pending = [images] if single else list(images)
        results: list[list[Prediction]] = []
        chosen = self.preset if preset is None else as_preset(preset)
        for batch in _images.batches(pending, chosen, batch_size, min_size=MIN_SIZE):
            for item in batch.failed:
                raise item.error
            results += self.top(self.probabilities(batch.x), top_k)
        return results

    def probabilities(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Class probabilities [N, classes], on the host, of preprocessed images x [N,H,W,3]."""
        found = self._taps(x, ["prob"], "NHWC", check_range=False)["prob"]
        return np.asarray(found, np.float32)

    def top(self, probabilities: NDArray[np.float32], top_k: int) -> list[list[Prediction]]:
        """The ``top_k`` best classes of every row of ``probabilities`` [N, classes]."""
        order = np.argsort(-probabilities, axis=1, kind="stable")[:, :top_k]
        labels = self.labels or tuple(str(i) for i in range(probabilities.shape[1]))
        return [
            [Prediction(labels[i], int(i), float(row[i])) for i in best]
            for row, best in zip(probabilities, order, strict=True)
        ]

    def summary(self, size: int | tuple[int, int] = 224) -> str:
        """The table of layers at an input of ``size``; see :mod:`vgg_cuda.summary`."""
        return summary_table(self.config, size, self.activation)

    def __repr__(self) -> str:
        return (
            f"<VGG {self.config.name}: {self.config.num_classes or 'no'} classes, {self.dtype} on "
            f"{self.device}, weights: {self.source}>"
        )

    @property
    def _logits(self) -> str:
        return self.config.dense[-1].name

    def _taps(
        self, x: Any, taps: Sequence[str], layout: str, *, check_range: bool = True
    ) -> dict[str, Any]:
        """The tensors at canonical ``taps``, of x's kind; runs batches that memory can hold."""
        with callers_stream(x, "x"):
            return self._taps_here(x, taps, layout, check_range)

    def _taps_here(
        self, x: Any, taps: Sequence[str], layout: str, check_range: bool
    ) -> dict[str, Any]:
        x, restore = check_images(x, layout, self._backend)
        if check_range and x.dtype != np.uint8:
            self.preset.check_range(x, stacklevel=5)  # whoever called the model
        n = x.shape[0]
        height, width = x.shape[1:3] if layout == "NHWC" else x.shape[2:]
        limit = self._backend.batch_limit
        step = n if limit is None else limit * 224 * 224 // (height * width)
        parts = [
            self._collect(
                batch_on(self._backend, x[i : i + max(step, 1)], layout, self.dtype), set(taps)
            )
            for i in range(0, max(n, 1), max(step, 1))
        ]
        if not is_cupy(x):
            parts = [{t: self._backend.to_numpy(y) for t, y in part.items()} for part in parts]
        if len(parts) == 1:
            return {tap: restore(y) for tap, y in parts[0].items()}
        return {tap: restore(np.concatenate([part[tap] for part in parts])) for tap in parts[0]}

    def _collect(self, x: Array, wanted: set[str]) -> dict[str, Array]:
        found: dict[str, Array] = {}
        with self._backend.session():
            for tap, y in self._forward(x, wanted) if wanted else ():
                if tap in wanted:
                    found[tap] = y
                if len(found) == len(wanted):
                    break
        return found

    def _forward(self, x: Array, wanted: set[str]) -> Iterator[tuple[str, Array]]:
        """Every tap and its tensor, in order; x [N,H,W,3] as ``batch_on`` made it.

        A convolution runs with its ReLU and pool in one kernel, unless a tensor in between is
        ``wanted``.
        """
        layers = self.config.features
        on = self._backend
        pooled = False
        for layer, following in zip_longest(layers, layers[1:]):
            if isinstance(layer, Conv):
                raw = layer.name in wanted
                inside = {layer.name, layer.relu_name} & wanted
                pooled = isinstance(following, Pool) and not inside
                x = ops.conv3x3(
                    x, self._convs[layer.name], relu=not raw, pool=pooled, dtype=self.dtype,
                    preset=self.preset if x.dtype == np.uint8 else None, device=on,
                )  # fmt: skip
                if raw:
                    yield layer.name, x
                    x = ops.relu(x, device=on)
                if not pooled:
                    yield layer.relu_name, x
            else:
                if not pooled:
                    x = ops.maxpool2x2(x, device=on)
                pooled = False
                yield layer.name, x
        if not self.config.dense:
            return
        x = ops.avgpool(x, self.config.pool_grid, device=on)
        yield "avgpool", x
        x = x.reshape(x.shape[0], x.shape[1] * x.shape[2] * x.shape[3])
        for dense in self.config.dense:
            raw = dense.name in wanted or not dense.relu
            x = ops.linear(x, self._dense[dense.name], relu=not raw, device=on)
            if raw:
                yield dense.name, x
            if dense.relu:
                x = ops.relu(x, device=on) if raw else x
                yield dense.relu_name, x
        yield "prob", ops.softmax(x, device=on)
