"""CUDA arrays, streams and architectures, as far as they need no GPU."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from vgg_cuda import ops
from vgg_cuda.arrays import unwrap
from vgg_cuda.backends import streams, why_missing
from vgg_cuda.backends.families import gpu_families
from vgg_cuda.ops.out import unwrap_out


class ForeignCudaArray:
    """An array with __cuda_array_interface__ but without DLPack, as Numba's."""

    shape, dtype = (2, 3), np.dtype(np.float32)

    def __init__(self, **interface: Any) -> None:
        self.__cuda_array_interface__ = {
            **{"shape": self.shape, "typestr": "<f4", "data": (4096, False), "version": 3},
            **interface,
        }


@pytest.mark.skipif(why_missing("cuda") is None, reason="there is a GPU")
def test_cuda_array_without_cupy_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(TypeError, match="relu: x: arrays on a CUDA device need CuPy"):
        ops.relu(ForeignCudaArray())


def test_cuda_array_interface_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = type(sys)("cupy")
    fake.asarray = lambda x: ("shared", x)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cupy", fake)
    x = ForeignCudaArray()
    shared, restore = unwrap(x, "x")
    assert shared == ("shared", x)
    assert restore(7) == 7  # stays a CuPy array
    with pytest.raises(TypeError, match="without a mask"):
        unwrap(ForeignCudaArray(mask=x), "x")


@pytest.mark.parametrize(
    ("stream", "address"),
    [
        (5, 5),
        (SimpleNamespace(ptr=6), 6),
        (SimpleNamespace(cuda_stream=7), 7),
        (SimpleNamespace(__cuda_stream__=lambda: (0, 8)), 8),
        (SimpleNamespace(__cuda_stream__=(0, 9), ptr=1), 9),
    ],
)
def test_stream_addresses(stream: Any, address: int) -> None:
    assert streams.address_of(stream) == address


@pytest.mark.parametrize("address", [-1, -(2**70)])
def test_negative_stream_is_rejected(address: int) -> None:
    with pytest.raises(ValueError, match=f"stream: expected an address, got {address}"):
        streams.address_of(address)


@pytest.mark.parametrize("stream", ["0", True, object(), 1.0])
def test_objects_that_are_no_stream_are_rejected(stream: Any) -> None:
    with pytest.raises(TypeError, match="stream: expected a stream of CuPy or PyTorch"):
        streams.address_of(stream)


def test_device_rejects_newer_arch() -> None:
    device: Any = {"name": "A100", "compute_capability": (8, 0), "sm_count": 54}
    assert gpu_families(device).arch.name == "sm_80"
    assert gpu_families(device, "sm_80").arch.sm_count == 54
    with pytest.raises(ValueError, match=r"arch: expected .*sm_80 for A100 \(sm_80\), got 'sm_90'"):
        gpu_families(device, "sm_90")


def test_out_through_old_dlpack_is_writable(monkeypatch: pytest.MonkeyPatch) -> None:
    """DLPack before 1.0 has no read-only flag, and NumPy assumes read-only memory."""
    tensor = torch.zeros(3)

    def read_only(x: Any) -> np.ndarray:
        array = x.numpy()
        array.flags.writeable = False
        return array

    monkeypatch.setattr(np, "from_dlpack", read_only)
    shared = unwrap_out(tensor, tensor, "out")
    shared[...] = 7
    assert tensor.tolist() == [7, 7, 7]
