"""Calls of an accelerated PyTorch module: on this package's kernels, or by its own forward.

A call runs the forward once: recorded, or on the input. If the recording cannot be used, the
forward runs on the input after it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ...backends import DeviceError
from ...vgg import VGG
from ...weights import WeightsError
from ..fork import fork_lock
from ..torch_conditions import why_original
from . import inputs as inputs  # registers the operations that can be recorded
from . import operations as operations
from .packed import Packable, Packed, make_weights
from .recording import Recorder
from .records import Unrecorded
from .report import Log, layers_text, warn_of
from .results import computed
from .taps import check_outputs, leading_pools, taps_of
from .trial import recordable, trial

PRECISIONS = {
    torch.float32: "float32",
    torch.float16: "float16",
    torch.bfloat16: "bfloat16",
}


class Runtime:
    """The state that ``from_torch`` adds to a module: counts and packed weights."""

    def __init__(self, dtype: str | None = None, arch: str | None = None) -> None:
        self.dtype, self.arch = dtype, arch
        self.packed = Packed()
        self.log = Log()
        self._lock = fork_lock()

    def call(self, module: Any, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Return ``forward(*args, **kwargs)``, by kernels if their result is the same."""
        given = (*args, *kwargs.values())
        why = "expected one argument" if len(given) != 1 else why_original(module, given[0])
        if why is None:
            x = given[0]
            recorded = recordable(module, forward)

            def called(other: Any) -> Any:
                return recorded(other) if args else recorded(**dict.fromkeys(kwargs, other))

            recorder = Recorder(module)
            try:
                result = recorder.record(called, x.shape, x)
                network = self.network(recorder, x, x.shape[2:])
            except (Unrecorded, WeightsError, DeviceError) as error:
                why = str(error)
            else:
                names = taps_of(recorder.steps, network.config)
                names[-1] = network._result
                y = computed(network, recorder.steps, names, x, result)
                self.count(module, given, None, layers_of(recorder, network, names))
                return y
        self.count(module, given, why)
        return forward(*args, **kwargs)

    def count(self, module: Any, given: Any, why: str | None, layers: str = "") -> None:
        """Count a call; ``why`` is the reason for the original forward, None for kernels."""
        with self._lock:
            new = self.log.count(given, layers, why)
        if new and why is not None:
            warn_of(type(module).__name__.removeprefix("Accelerated"), why)

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
            made = make_weights(recorder.steps, source, size if recorder.one_size else None)
            check_outputs(recorder, made.config)

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
        check_outputs(recorder, found.config)
        return found

    def precision(self, like: Any) -> str:
        """Return the precision of the kernels for ``like``; raises ``Unrecorded`` without any."""
        if like.dtype not in PRECISIONS or like.device.type not in ("cpu", "cuda"):
            raise Unrecorded(f"no kernels compute in {like.dtype} on {like.device}")
        precision = self.dtype or PRECISIONS[like.dtype]
        if like.device.type == "cpu" and precision != "float32":
            raise Unrecorded(f"no kernels compute in {precision} on the CPU, only in float32")
        return precision


def layers_of(recorder: Recorder, network: VGG, names: list[str | None]) -> str:
    """Return what kernels computed in a call, for the report."""
    returned = [names[output.position] or "input" for output in recorder.outputs]
    return layers_text(network.config, leading_pools(recorder.steps), returned)
