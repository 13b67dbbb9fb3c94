"""The model: a VGG network with its weights, on one device."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .backends import Backend, get_backend
from .backends.streams import callers_stream
from .configs import IN_CHANNELS, Config, get_config
from .forward import make_runner, pack
from .forward.inputs import check_dtype, check_images
from .images import batches as _images
from .images.presets import Preset, as_preset
from .layers import resolve_layer
from .summary import summary_table
from .weights import Source, Weights, he_weights, load_weights

if TYPE_CHECKING:  # they need the extension
    from .forward.captured import CapturedForward
    from .forward.plan import Memory
    from .forward.planned import PlannedRunner


@dataclass(frozen=True)
class Prediction:
    """One class of one image: its label, index and probability."""

    label: str
    index: int
    probability: float


class VGG:
    """A VGG network on one device; safe to call from several threads.

    Attributes: ``config`` (architecture), ``device`` ("cpu", "cuda:0", "emulator"), ``dtype``
    (what it computes in, "float16", "tf32"), ``activation`` ("softmax" where the weights' source
    states one: then a call gives probabilities; else None: logits), ``labels`` (a name per class,
    or None), ``preset`` (how images become inputs) and ``weights`` (what it was made of, float32 in
    host memory; on the CPU its dense layers are the very arrays that are computed with).
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
        self.weights = weights
        self.config: Config = weights.config
        self.activation = weights.activation
        self.labels = weights.labels
        self.preset: Preset = weights.preset
        self.source = weights.source
        self._network = pack(weights, self._backend, self.dtype)
        self._backend.synchronize()  # other threads' streams are not ordered behind the uploads
        self._run = make_runner(self._network)

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
        GPU's kernels executed on the CPU: for tests); ``dtype`` is float32 on the CPU, elsewhere
        float16 (default), float32, tf32 or bfloat16; ``arch`` is the GPU that kernels are planned
        for, by default the device's own. Raises ``FileNotFoundError``, ``WeightsError`` (a
        ``ValueError``) for what does not make a VGG, ``ValueError`` for an unknown device, dtype or
        arch, ``RuntimeError`` for a device that is not there.
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
        head the result is that of the last layer: pool5 [N,H/32,W/32,C], or [N,C] where a global
        pool follows. Networks from elsewhere may take another number of channels, one size alone
        (``config.input_size``), or smaller images (``config.min_size``). The result is of x's kind.
        Warns once (``RangeWarning``) where x is not what ``preset`` would have made: raw pixels.
        Raises ``ValueError`` for shapes and ``TypeError`` for dtypes and array kinds.
        """
        return self._flat(self._taps(x, [self._result], layout)[self._result])

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
        if self.config.in_channels != IN_CHANNELS:
            raise ValueError(
                f"classify: this network reads {self.config.in_channels} channels, images have 3: "
                "call it with arrays"
            )
        for what, value in (("top_k", top_k), ("batch_size", batch_size)):
            if not isinstance(value, (int, np.integer)) or value < 1:
                raise ValueError(f"classify: {what}: expected an integer >= 1, got {value!r}")
        single = isinstance(images, (str, Path)) or not isinstance(images, (Sequence, np.ndarray))
        if isinstance(images, np.ndarray):
            single = images.ndim < 4
        pending = [images] if single else list(images)
        results: list[list[Prediction]] = []
        chosen = self.preset if preset is None else as_preset(preset)
        for batch in _images.batches(pending, chosen, batch_size, self.config):
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

    def memory(self, shape: Sequence[int], dtype: Any = None) -> Memory:
        """What a call with x of ``shape`` [N,H,W,3] needs on the device, before it is made.

        ``dtype`` is x's: uint8, float32, or the model's own, the default. A call that would not
        fit is split into smaller batches. Raises ``ValueError`` for shapes, dtypes, and a model on
        the CPU, where NumPy allocates as it goes.
        """
        return self._planned("memory").memory(shape, dtype, self._result)

    def capture(self, shape: Sequence[int], dtype: Any = None) -> CapturedForward:
        """A call with x of ``shape`` [N,H,W,3] as a CUDA graph: one launch for all kernels.

        It holds memory of its own, which ``memory`` predicts. ``dtype`` as there; uint8 is RGB
        pixels, which ``preset`` normalizes on the way. Waits for the GPU. Raises ``ValueError`` as
        ``memory``, ``MemoryError`` where the device has too little.
        """
        return self._planned("capture").capture(shape, dtype, self._result)

    def to_onnx(self, path: str | Path, *, size: int | tuple[int, int] | None = None) -> None:
        """Writes the network as an ONNX graph; see :func:`vgg_cuda.weights.save_onnx`."""
        from .weights import save_onnx

        save_onnx(self.weights, path, size=size)

    def summary(self, size: int | tuple[int, int] | None = None) -> str:
        """The table of layers at an input of ``size``; see :func:`vgg_cuda.summary.rows`."""
        return summary_table(self.config, size, self.activation)

    def __repr__(self) -> str:
        return (
            f"<VGG {self.config.name}: {self.config.num_classes or 'no'} classes, {self.dtype} on "
            f"{self.device}, weights: {self.source}>"
        )

    @property
    def _result(self) -> str:
        """The tap that a call gives."""
        return "prob" if self.activation else self.config.last

    def _flat(self, y: Any) -> Any:
        """A spatial result as the network's layers end: [N,features] where they flatten it."""
        return y.reshape(y.shape[0], -1) if self.config.flat and len(y.shape) == 4 else y

    def _planned(self, what: str) -> PlannedRunner:
        if self._backend.name == "cpu":
            raise ValueError(
                f'{what}: expected a model on a GPU (device="cuda") or on the emulator; this one '
                "is on the cpu, where NumPy allocates as it goes"
            )
        runner: Any = self._run
        planned: PlannedRunner = runner
        return planned

    def _taps(
        self, x: Any, taps: Sequence[str], layout: str, *, check_range: bool = True
    ) -> dict[str, Any]:
        """The tensors at canonical ``taps``, of x's kind; runs batches that memory can hold."""
        with callers_stream(x, "x"):
            return self._taps_here(x, taps, layout, check_range)

    def _taps_here(
        self, x: Any, taps: Sequence[str], layout: str, check_range: bool
    ) -> dict[str, Any]:
        x, restore = check_images(x, layout, self._backend, self.config)
        if check_range and x.dtype != np.uint8 and self.config.in_channels == IN_CHANNELS:
            self.preset.check_range(x, stacklevel=5)  # whoever called the model
        return {tap: restore(y) for tap, y in self._run(x, layout, set(taps)).items()}
