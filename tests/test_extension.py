"""The compiled module: queries, and the checks on arrays, which come before any launch."""

from __future__ import annotations

import re
import sys
from typing import Any

import numpy as np
import pytest

from vgg_cuda import _C
from vgg_cuda.backends import cuda

NO_GPU = not _C.device_info()["available"]


class FakeArray:
    """Says where an array is without having one: what passes the checks must not be launched."""

    def __init__(self, *shape: int, typestr: str = "<f4", **interface: Any) -> None:
        self.__cuda_array_interface__ = {
            "shape": shape,
            "typestr": typestr,
            "data": (4096, False),
            "strides": None,
            "version": 3,
            **interface,
        }


def conv3x3(**arrays: Any) -> None:
    defaults = {
        "x": FakeArray(2, 8, 6, 3),
        "w": FakeArray(64, 3, 3, 3),
        "bias": FakeArray(64),
        "out": FakeArray(2, 8, 6, 64),
        "relu": True,
        "pool": False,
        "stream": 0,
    }
    _C.conv3x3(**{**defaults, **arrays})


def linear(**arrays: Any) -> None:
    defaults = {
        "x": FakeArray(2, 10),
        "w": FakeArray(5, 10),
        "bias": FakeArray(5),
        "out": FakeArray(2, 5),
        "relu": False,
        "stream": 0,
    }
    _C.linear(**{**defaults, **arrays})


# ---- Queries ----


def test_commit() -> None:
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?|unknown|[\w.+-]+", _C.commit())


def test_what_the_build_contains() -> None:
    if _C.built_with_cuda():
        assert re.fullmatch(r"\d+\.\d+", _C.cuda_version() or "")
        architectures = _C.architectures()
        assert {"sm_80", "sm_90", "compute_80"} <= set(architectures)
        assert all(re.fullmatch(r"(sm|compute)_\d+[af]?", name) for name in architectures)
        assert len(set(architectures)) == len(architectures)
    else:
        assert _C.cuda_version() is None
        assert _C.architectures() == []


def test_device_info() -> None:
    info = _C.device_info()
    assert set(info) == {"available", "reason", "driver", "devices"}
    assert info["available"] == (info["reason"] is None) == bool(info["devices"])
    for index, device in enumerate(info["devices"]):
        assert device["index"] == index
        assert device["name"]
        assert device["compute_capability"] >= (5, 0)
        assert device["memory_bytes"] > 2**28
        assert device["sm_count"] > 0


@pytest.mark.skipif(not NO_GPU, reason="there is a GPU")
def test_device_info_says_why_not() -> None:
    reason = _C.device_info()["reason"]
    if not _C.built_with_cuda():
        assert reason == "built without CUDA: reinstall without VGG_CUDA_TOOLKIT=none"
    else:
        assert reason is not None
        assert re.match("no NVIDIA driver$|NVIDIA driver supports|no CUDA device|cudaError", reason)
        assert (_C.device_info()["driver"] is None) == (reason == "no NVIDIA driver")


# ---- Kinds and dtypes: TypeError ----


@pytest.mark.parametrize(
    ("value", "kind"), [(np.zeros((2, 8, 6, 3)), "numpy.ndarray"), ([1.0], "list"), (None, "None")]
)
def test_kind(value: Any, kind: str) -> None:
    with pytest.raises(TypeError, match=rf"conv3x3: x: expected an array in GPU.*got {kind}"):
        conv3x3(x=value)


@pytest.mark.parametrize("typestr", ["<f8", "<i4", "|u1", ">f4", "<c8", "|b1", "|V4"])
def test_dtype(typestr: str) -> None:
    message = (
        rf"conv3x3: x: expected float32, float16 or bfloat16, got typestr '{re.escape(typestr)}'"
    )
    with pytest.raises(TypeError, match=message):
        conv3x3(x=FakeArray(2, 8, 6, 3, typestr=typestr))


def test_dtypes_must_agree() -> None:
    with pytest.raises(TypeError, match=r"conv3x3: w: expected float32 \(as x\), got float16"):
        conv3x3(w=FakeArray(64, 3, 3, 3, typestr="<f2"))
    with pytest.raises(TypeError, match=r"conv3x3: out: expected float32 \(as x\), got bfloat16"):
        conv3x3(out=FakeArray(2, 8, 6, 64, typestr="<V2"))
    with pytest.raises(TypeError, match=r"linear: bias: expected float32, got typestr '<f2'"):
        linear(bias=FakeArray(5, typestr="<f2"))


@pytest.mark.parametrize("typestr", ["<V2", "|V2", "<u2", "<f2"])
def test_dtype_by_name(typestr: str) -> None:
    x = FakeArray(0, 10, typestr=typestr)
    _C.softmax(x, x, stream=0, dtype="bfloat16")
    if typestr.endswith("V2"):
        _C.softmax(x, x, stream=0)
    with pytest.raises(TypeError, match=r"softmax: x: expected float32 \(dtype=\)"):
        _C.softmax(x, x, stream=0, dtype="float32")
    with pytest.raises(TypeError, match=r"softmax: x: expected bfloat16 \(dtype=\), got .*'<f4'"):
        _C.softmax(FakeArray(0, 10), FakeArray(0, 10), stream=0, dtype="bfloat16")
    with pytest.raises(TypeError, match=r"softmax: x: expected float64 \(dtype=\)"):
        _C.softmax(FakeArray(0, 10), FakeArray(0, 10), stream=0, dtype="float64")


def test_masked_arrays() -> None:
    with pytest.raises(TypeError, match="linear: x: expected an array without a mask"):
        linear(x=FakeArray(2, 10, mask=FakeArray(2, 10)))


# ---- Shapes and layout: ValueError ----


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"w": FakeArray(64, 3, 3, 4)}, "w: expected [64, 3, 3, 3] (KRSC), got (64, 3, 3, 4)"),
        ({"w": FakeArray(64, 5, 5, 3)}, "w: expected [64, 3, 3, 3] (KRSC), got (64, 5, 5, 3)"),
        ({"w": FakeArray(64, 27)}, "w: expected 4 dimensions (KRSC), got shape (64, 27)"),
        ({"w": FakeArray(0, 3, 3, 3)}, "w: expected K >= 1, got (0, 3, 3, 3)"),
        ({"x": FakeArray(8, 6, 3)}, "x: expected 4 dimensions (NHWC), got shape (8, 6, 3)"),
        ({"x": FakeArray(2, 0, 6, 3)}, "x: expected sizes of at least 1 after the first, got"),
        ({"x": FakeArray(2, 1 << 16, 1 << 14, 3)}, "x: N*H*W must be less than 2^31, got shape"),
        (
            {
                "x": FakeArray(1, 46000, 46000, 3),
                "w": FakeArray(1 << 20, 3, 3, 3),
                "bias": FakeArray(1 << 20),
                "out": FakeArray(1, 46000, 46000, 1 << 20),
            },
            "out: the number of 64x64 tiles must be less than 2^31, got shape",
        ),
        ({"x": FakeArray(2, 8, 6, 1 << 40)}, "x: every size must be less than 2^31, got shape"),
        ({"bias": FakeArray(63)}, "bias: expected [64] (K), got (63,)"),
        ({"bias": FakeArray(64, 1)}, "bias: expected [64] (K), got (64, 1)"),
        ({"out": FakeArray(2, 64, 8, 6)}, "out: expected [2, 8, 6, 64] (NPQK), got (2, 64, 8, 6)"),
        ({"pool": True}, "out: expected [2, 4, 3, 64] (NPQK), got (2, 8, 6, 64)"),
        ({"out": FakeArray(2, 8, 6, 64, data=(4096, True))}, "out: expected a writable array"),
        ({"x": FakeArray(2, 8, 6, 3, data=(0, False))}, "x: the data pointer is null"),
        ({"x": FakeArray(2, 8, 6, 3, data=(4098, False))}, "x: the data pointer is not aligned"),
    ],
)
def test_conv3x3_shapes(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"conv3x3: {message}")):
        conv3x3(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"w": FakeArray(5, 11)}, "w: expected [5, 10] (KC), got (5, 11)"),
        ({"x": FakeArray(2, 10, 1)}, "x: expected 2 dimensions (NC), got shape (2, 10, 1)"),
        ({"out": FakeArray(2, 6)}, "out: expected [2, 5] (NK), got (2, 6)"),
    ],
)
def test_linear_shapes(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"linear: {message}")):
        linear(**arguments)


def test_other_shapes() -> None:
    x = FakeArray(2, 7, 5, 3)
    with pytest.raises(ValueError, match=r"maxpool2x2: out: expected \[2, 3, 2, 3\] \(NPQC\)"):
        _C.maxpool2x2(x, FakeArray(2, 4, 3, 3), stream=0)
    with pytest.raises(ValueError, match=r"avgpool: out: expected \[2, 7, 7, 3\]"):
        _C.avgpool(x, FakeArray(2, 7, 6, 3), stream=0)
    with pytest.raises(ValueError, match=r"avgpool: out: expected grid >= 1"):
        _C.avgpool(x, FakeArray(2, 0, 0, 3), stream=0)
    with pytest.raises(ValueError, match=r"softmax: out: expected \[2, 9\] \(rows, n\), got"):
        _C.softmax(FakeArray(2, 9), FakeArray(9, 2), stream=0)
    with pytest.raises(ValueError, match=r"relu: out: expected \[2, 7, 5, 3\] \(as x\), got"):
        _C.relu(x, FakeArray(2, 7, 15), stream=0)


def test_strides() -> None:
    empty = {"w": FakeArray(64, 3, 3, 3), "out": FakeArray(0, 8, 6, 64)}
    conv3x3(x=FakeArray(0, 8, 6, 3, strides=(1, 2, 3, 4)), **empty)  # nothing to step over
    for strides in [(576, 72, 12, 8), (4, 4, 4, 4), (-576, 72, 12, 4), (576, 72, 12)]:
        with pytest.raises(ValueError, match=r"conv3x3: x: expected a C-contiguous array, got str"):
            conv3x3(x=FakeArray(2, 8, 6, 3, strides=strides))
    # Dense strides pass, whatever those of single elements say: the check that fails comes later.
    for shape, strides in [((2, 10), (40, 4)), ((1, 10), (999, 4))]:
        with pytest.raises(ValueError, match="softmax: out"):
            _C.softmax(FakeArray(*shape, strides=strides), FakeArray(3, 10), stream=0)


# ---- Launches ----


def test_nothing_to_compute_launches_nothing() -> None:
    conv3x3(x=FakeArray(0, 8, 6, 3, data=(0, False)), out=FakeArray(0, 8, 6, 64, data=(0, False)))
    conv3x3(x=FakeArray(2, 1, 6, 3), out=FakeArray(2, 0, 3, 64), pool=True)
    linear(x=FakeArray(0, 10), out=FakeArray(0, 5))
    _C.maxpool2x2(FakeArray(3, 1, 1, 4), FakeArray(3, 0, 0, 4), stream=0)
    _C.avgpool(FakeArray(0, 9, 9, 4), FakeArray(0, 7, 7, 4), stream=0)
    _C.softmax(FakeArray(0, 4), FakeArray(0, 4), stream=0)
    _C.relu(FakeArray(0, 4), FakeArray(0, 4), stream=0)


@pytest.mark.skipif(not NO_GPU, reason="there is a GPU: the fake pointers would be followed")
def test_launch_without_a_gpu() -> None:
    message = "conv3x3: cudaError" if _C.built_with_cuda() else "built without CUDA: reinstall"
    for _ in range(2):  # the error does not stick
        with pytest.raises(RuntimeError, match=message):
            conv3x3()


# ---- Why the backend is not available ----


def machine(monkeypatch: pytest.MonkeyPatch, *, cupy: bool, **info: Any) -> None:
    monkeypatch.setattr(cuda._C, "device_info", lambda: info)
    monkeypatch.setitem(sys.modules, "cupy", type(sys)("cupy") if cupy else None)


def device(name: str, *compute_capability: int) -> dict[str, Any]:
    return {"name": name, "compute_capability": compute_capability}


@pytest.mark.parametrize("cupy", [True, False])
@pytest.mark.parametrize(
    "reason",
    [
        "no NVIDIA driver",
        "built without CUDA: reinstall without VGG_CUDA_TOOLKIT=none",
        "NVIDIA driver supports CUDA 12.4; this build needs 13.0 (driver >= 580)",
        "no CUDA device is visible",
    ],
)
def test_driver_comes_first(monkeypatch: pytest.MonkeyPatch, reason: str, cupy: bool) -> None:
    machine(monkeypatch, cupy=cupy, available=False, reason=reason, devices=[])
    assert cuda.why_unavailable() == reason
    with pytest.raises(RuntimeError, match=re.escape(reason)):
        cuda.CudaBackend()


@pytest.mark.parametrize("cupy", [True, False])
def test_gpu_comes_second(monkeypatch: pytest.MonkeyPatch, cupy: bool) -> None:
    devices = [device("H200", 9, 0), device("V100", 7, 0)]
    machine(monkeypatch, cupy=cupy, available=True, reason=None, devices=devices)
    assert cuda.why_unavailable(1) == "GPU V100 is sm_70; vgg_cuda needs sm_80 or later"
    assert cuda.why_unavailable(2) == "no GPU 2: 2 are visible"


def test_cupy_comes_last(monkeypatch: pytest.MonkeyPatch) -> None:
    info = {"available": True, "reason": None, "devices": [device("A100", 8, 0)]}
    machine(monkeypatch, cupy=False, **info)
    assert cuda.why_unavailable() == 'CuPy is not installed: pip install "vgg-cuda[cuda13]"'
    machine(monkeypatch, cupy=True, **info)
    assert cuda.why_unavailable() is None
