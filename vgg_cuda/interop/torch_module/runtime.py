"""Calls of an accelerated PyTorch module: on this package's kernels, or by its own forward.

A call runs the forward once: recorded, or on the input. If the recording cannot be used, the
forward runs on the input after it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from ...backends import DeviceError
from ...vgg import VGG
from ...weights import WeightsError
from ..fork import fork_lock
from ..torch_conditions import why_original
from . import inputs as inputs  # registers the operations that can be recorded
from . import operations as operations
from .packed import Packable, Packed, make_weights
from .recording import Recorder, Unrecorded
from .trial import trial

PRECISIONS = {
    torch.float32: "float32",
    torch.float16: "float16",
    torch.bfloat16: "bfloat16",
}


class Calls(NamedTuple):
    """Numbers of calls on this package's kernels and by the module's own forward."""

    kernels: int
    original: int


class Runtime:
    """The state that ``from_torch`` adds to a module: counts and packed weights."""

    def __init__(self, dtype: str | None = None, arch: str | None = None) -> None:
        self.dtype, self.arch = dtype, arch
        self.packed = Packed()
        self.calls = Calls(0, 0)
        self.why: str | None = None
        self._lock = fork_lock()

    def call(self, module: Any, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Return ``forward(*args, **kwargs)``, by kernels if their result is the same."""
        given = (*args, *kwargs.values())
        why = "expected one argument" if len(given) != 1 else why_original(module, given[0])
        if why is None:
            x = given[0]

            def called(other: Any) -> Any:
                return forward(other) if args else forward(**dict.fromkeys(kwargs, other))

            recorder = Recorder(module)
            try:
                shape = recorder.record(called, x.shape, x)
                network = self.network(recorder, x, x.shape[2:])
            except (Unrecorded, WeightsError, DeviceError) as error:
                why = str(error)
            else:
                y = run(network, x, shape)
                self.count(None)
                return y
        self.count(why)
        return forward(*args, **kwargs)

    def count(self, why: str | None) -> None:
        """Count a call; ``why`` is the reason for the original forward, None for kernels."""
        with self._lock:
            kernels, original = self.calls
            self.calls = Calls(kernels + (why is None), original + (why is not None))
            self.why = why

    def prepare(self, module: Any) -> None:
        """Pack the weights of ``module`` before its first call.

        Raises ``UnsupportedError`` for networks other than VGGs, ``DeviceError`` for GPUs that
        cannot be used.
        """
        source = type(module).__name__
        found = trial(module, source)
        if found is None:
            return
        recorder, like, size = found
        if like.is_meta:
            return
        try:
            self.network(recorder, like, size)
        except Unrecorded:  # on this device or in this dtype; later calls may use others
            make_weights(recorder.steps, source, size if recorder.one_size else None)

    def network(self, recorder: Recorder, like: Any, size: Any) -> VGG:
        """Return the packed network for images of ``size``, with ``like``'s dtype and device.

        Raises ``Unrecorded``, ``WeightsError`` or ``DeviceError`` if kernels cannot run it.
        """
        for step in recorder.steps:
            for tensor in step.tensors:
                where = None if tensor is None else (tensor.device, tensor.dtype)
                if where not in (None, (like.device, like.dtype)) and tensor.is_floating_point():
                    raise Unrecorded(
                        f"expected an input in {tensor.dtype} on {tensor.device} as the "
                        f"parameters, got {like.dtype} on {like.device}"
                    )
        precision = self.precision(like)
        device, arch = str(like.device), self.arch if like.is_cuda else None
        one_size = tuple(size) if recorder.one_size else None
        source = type(recorder.module).__name__

        def pack() -> Packable:
            try:
                weights = make_weights(recorder.steps, source, one_size)
                return VGG(weights, device=device, dtype=precision, arch=arch)
            except (WeightsError, DeviceError) as error:
                return error

        found = self.packed.get((device, precision, one_size), recorder.steps, pack)
        if isinstance(found, Exception):
            raise found.with_traceback(None)
        return found

    def precision(self, like: Any) -> str:
        """Return the precision of the kernels for ``like``; raises ``Unrecorded`` without any."""
        if like.dtype not in PRECISIONS or like.device.type not in ("cpu", "cuda"):
            raise Unrecorded(f"no kernels compute in {like.dtype} on {like.device}")
        precision = self.dtype or PRECISIONS[like.dtype]
        if like.device.type == "cpu" and precision != "float32":
            raise Unrecorded(f"no kernels compute in {precision} on the CPU, only in float32")
        return precision


def run(network: VGG, x: Any, shape: tuple[int, ...]) -> Any:
    """Return the network's result for x [N,C,H,W], of ``shape`` and x's dtype."""
    given = x.detach().float() if network.device == "cpu" else x.detach()
    if given.is_contiguous(memory_format=torch.channels_last):
        given, layout = given.permute(0, 2, 3, 1), "NHWC"
    else:
        given, layout = given.contiguous() if given.is_cuda else given, "NCHW"
    tap = network._result
    y = network._activated(network._taps(given, [tap], layout, check_range=False)[tap])
    if y.ndim == 4:
        y = y.permute(0, 3, 1, 2)
    return y.reshape(shape).to(x.dtype)
